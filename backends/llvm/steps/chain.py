"""Chains: two-input gates of any operation, each of which shares an operand with the row before.

A row loads one plane and keeps the other operand in a register. The operation of a row is data: the
low six bits of its first offset are free and name it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.llvm_text import AND_OR, PLANE, XOR_AND, FunctionWriter
from lgir.backends.llvm.records import INTEGER, KERNEL_PARAMS, POINTER, RecordLayout, StepRecord
from lgir.backends.llvm.steps.cost import CostTarget, footprint
from lgir.backends.llvm.steps.step_kind import ProgramContext, StepKind
from lgir.backends.llvm.steps.tables import Masks, Offsets, aligned_masks, plane_offsets
from lgir.backends.lowering.steps import DUMP_PLANE, ZERO_PLANE, ChainStep
from lgir.roofline import StepCost, Traffic
from lgir.samples import Array

RECORD: Final = RecordLayout(rows=POINTER, count=INTEGER, masks=POINTER)
_ROWS_PER_ROUND: Final = 4
_ENTRY_SHIFT: Final = {True: 2, False: 3}
"""Where an offset's low bits hold the operation: one of 16 with a constant term, of 8 without."""
_MASK_LOADS: Final = 2
"""Whole loads of a row's masks: one vector, and two broadcasts, which load twice as fast."""


class ChainKind(StepKind[ChainStep]):
    """Steps of chains."""

    name = "chain"
    evaluates_gates = True

    def records(self, step: ChainStep, form: str, program: ProgramContext) -> list[StepRecord]:
        missing = -len(step.rows) % _ROWS_PER_ROUND
        filler = np.tile(np.array([ZERO_PLANE, DUMP_PLANE]), (missing, 1))
        offsets = plane_offsets(np.concatenate([step.rows, filler]))
        rows, masks, constant = chain_rows(offsets, step.tables)
        name = "chain_constant" if constant else "chain"
        kernel = program.kernels.use(name, chain_kernel, constant)
        return [RECORD.record(kernel, rows=rows, count=len(rows), masks=masks)]

    def cost(self, step: ChainStep, samples: list[Array], target: CostTarget) -> StepCost:
        """Return three functions per row, and an XOR if any table has a constant term."""
        n = len(step.rows)
        logic = n * (3 * target.three_inputs + int((step.tables & 1).any()))
        near = Traffic((1 + _MASK_LOADS) * n, n)
        return StepCost(self.name, n, logic, (near, Traffic(n, n, footprint(step.rows))))


def chain_kernel(name: str, constant: bool, *, ternary: bool) -> str:
    """Write the kernel of chains, with rows (offset of the current plane, output offset).

    `count` is a multiple of the rows per round. A row names an entry of `masks`: 64 bytes that
    repeat four masks of the algebraic normal form of its operation,
    f = ab(1-m1) + a(m1+m3) + b m2 + m4. Without `constant`, m4 is 0 in every row and left out.
    Loads of whole vectors are the bottleneck, so two masks are taken from one load by shuffles.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, count, masks = (RECORD.load(f, x) for x in ("rows", "count", "masks"))
    shift = _ENTRY_SHIFT[constant]
    with f.loop(count, (PLANE, "zeroinitializer"), step=_ROWS_PER_ROUND) as loop:
        row = f.gep(rows, f.let(f"mul i64 {loop.index}, 8"))
        (before,) = loop.carried
        for r in range(_ROWS_PER_ROUND):
            word = f.load_u32(f.gep(row, str(8 * r)))
            low = f.let(f"and i64 {word}, {63 >> shift << shift}")
            entry = f.gep(masks, f.let(f"shl i64 {low}, {6 - shift}"))
            m1, m2 = f.splats(entry, 2)
            m3, m4 = (f.broadcast(f.load("i32", f.gep(entry, str(4 * i)), 4)) for i in (2, 3))
            current = f.load_plane("%planes", f.let(f"and i64 {word}, -64"))
            value = f.ternary(before, current, m1, AND_OR)
            value = f.ternary(value, current, m2, XOR_AND)
            value = f.ternary(value, before, m3, XOR_AND)
            out = f.load_u32(f.gep(row, str(8 * r + 4)))
            f.store_plane(f.op("xor", value, m4) if constant else value, "%planes", out)
            before = current
        loop.next = [before]
    f.emit("ret void")
    return f.text()


def chain_rows(offsets: Offsets, tables: npt.NDArray[np.int64]) -> tuple[Offsets, Masks, bool]:
    """Return the rows of a chain, its masks, and whether any gate has a constant term.

    Args:
        offsets: (n, 2) of the current plane and the output.
        tables: 0..15, of the first rows; the others get operation 0.

    Returns:
        Rows (n, 2) with their operations in the low bits, and the mask table, 64 bytes per entry.
    """
    constant = bool((tables & 1).any())
    entries = np.arange(16) if constant else np.arange(0, 16, 2)
    rows = offsets.copy()
    index = tables if constant else tables >> 1
    rows[: len(tables), 0] |= (index << _ENTRY_SHIFT[constant]).astype(np.uint32)
    f0, f1, f2, f3 = ((entries >> i & 1).astype(bool) for i in range(4))
    single = ~(f0 ^ f1 ^ f2 ^ f3)
    masks = np.stack([single, f0 ^ f1, f0 ^ f2 ^ single, f0] * 4, axis=1)
    return rows, aligned_masks(masks), constant
