"""Fused levels: rows that evaluate a gate in registers and a second gate that reads it.

Loads are the bottleneck, so a row should have few masks, most of which are taken from one load by
shuffles. Only its own outer gate and the next row's read an inner gate. It is kept inverted if its
outer gate inverts it, and its operands may have either order, so three masks suffice for it and two
for the outer gate.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.llvm_text import (
    AND_OR,
    AND_XOR,
    NOT_AND_OR,
    PLANE,
    PLANE_BYTES,
    SUM,
    XOR_AND,
    FunctionWriter,
)
from lgir.backends.llvm.records import INTEGER, KERNEL_PARAMS, POINTER, RecordLayout, StepRecord
from lgir.backends.llvm.steps.cost import CostTarget, footprint
from lgir.backends.llvm.steps.step_kind import ProgramContext, StepKind
from lgir.backends.llvm.steps.tables import Masks, Offsets, aligned_masks, plane_offsets
from lgir.backends.lowering.fused_levels import THREE_ONES
from lgir.backends.lowering.steps import DUMP_PLANE, ZERO_PLANE, FusedStep
from lgir.ir.truth_tables import swap_inputs
from lgir.roofline import StepCost, Traffic
from lgir.samples import Array

RECORD: Final = RecordLayout(rows=POINTER, count=INTEGER, masks=POINTER)
_ROWS_PER_ROUND: Final = 4
_MASKS_PER_LOAD: Final = 4
"""Masks that are taken from one load of a line that repeats them; the others follow the line."""
_MASK_LOADS: Final = 1.5
"""Whole loads of a row's masks: one vector, and one broadcast; a constant term is another half."""
_ENTRY_SHIFT: Final = 7
_M3: Final = 1 << 2
_M4: Final = 1 << 3
_M5: Final = 1 << 4
_M6: Final = 1 << 5
_INNER: Final = {0b1110: 0b00, 0b1011: 0b10, 0b0110: 0b01, 0b0111: 0b11}
"""m1 and m2 of a | b, ~a | b, a ^ b and ~(a & b). The other inner gates are the complements of
these, or have their operands exchanged.
"""

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class FusedKind(StepKind[FusedStep]):
    """Steps of fused levels."""

    name = "fused"
    evaluates_gates = True

    def records(self, step: FusedStep, form: str, program: ProgramContext) -> list[StepRecord]:
        missing = -len(step.rows) % _ROWS_PER_ROUND
        filler = np.tile(np.array([ZERO_PLANE, ZERO_PLANE, DUMP_PLANE]), (missing, 1))
        offsets = plane_offsets(np.concatenate([step.rows, filler]))
        inner, outer = np.pad(step.tables, ((0, missing), (0, 0)), mode="edge").T
        rows, masks, constant = fused_rows(offsets, inner, outer)
        name = "fused_constant" if constant else "fused"
        kernel = program.kernels.use(name, fused_kernel, constant)
        return [RECORD.record(kernel, rows=rows, count=len(rows), masks=masks)]

    def cost(self, step: FusedStep, samples: list[Array], target: CostTarget) -> StepCost:
        """Return five functions per row, and an XOR if any table has a constant term."""
        n, planes = len(step.rows), step.rows[:, :2]
        constant = int(THREE_ONES[step.tables[:, 1]].any())
        same = int((planes[:, 0] == planes[:, 1]).sum())
        near = Traffic((2 + _MASK_LOADS + constant / 2) * n, n)
        far = Traffic(2 * n - same, n, footprint(step.rows))
        return StepCost(self.name, n, n * (5 * target.three_inputs + constant), (near, far))


def fused_kernel(name: str, constant: bool, *, ternary: bool) -> str:
    """Write the kernel of fused levels, with rows (offsets of planes a and b, output offset).

    `count` is a multiple of the rows per round. The low six bits of the first offset are free and
    are the masks m1 to m6 of the row. The table `masks` has an entry of two lines for them: the
    first repeats m1 to m4 as words of all ones or zeros, and the second begins with m5 and m6.

        inner gate:  x = (~(a & (b ^ m1)) & (b | m2)) ^ a ^ m3
        outer gate:  (w & (x | m4)) ^ (x & m5) ^ m6, where w is the x of the row before

    Without `constant`, m6 is 0 in every row and left out.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, count, table = (RECORD.load(f, x) for x in ("rows", "count", "masks"))
    with f.loop(count, (PLANE, "zeroinitializer"), step=_ROWS_PER_ROUND) as loop:
        row = f.gep(rows, f.let(f"mul i64 {loop.index}, 12"))
        # Two words per load, since loads are the bottleneck.
        words: list[str] = []
        for i in range(0, 3 * _ROWS_PER_ROUND, 2):
            two = f.load("i64", f.gep(row, str(4 * i)), 4)
            words += [f.let(f"and i64 {two}, {0xFFFF_FFFF}"), f.let(f"lshr i64 {two}, 32")]
        (before,) = loop.carried
        for r in range(_ROWS_PER_ROUND):
            first, second, out = words[3 * r : 3 * r + 3]
            index = f.let(f"and i64 {first}, 63")
            entry = f.gep(table, f.let(f"shl i64 {index}, {_ENTRY_SHIFT}"))
            others = [f.gep(entry, str(PLANE_BYTES + 4 * i)) for i in range(1 + constant)]
            mask = f.splats(entry, _MASKS_PER_LOAD)
            mask += [f.broadcast(f.load("i32", word, 4)) for word in others]
            a = f.load_plane("%planes", f.let(f"and i64 {first}, -64"))
            b = f.load_plane("%planes", second)
            inner = f.ternary(f.ternary(a, b, mask[0], AND_XOR), b, mask[1], NOT_AND_OR)
            inner = f.ternary(inner, a, mask[2], SUM)
            outer = f.ternary(f.ternary(before, inner, mask[3], AND_OR), inner, mask[4], XOR_AND)
            f.store_plane(f.op("xor", outer, mask[5]) if constant else outer, "%planes", out)
            before = inner
        loop.next = [before]
    f.emit("ret void")
    return f.text()


def fused_rows(offsets: Offsets, inner: Ints, outer: Ints) -> tuple[Offsets, Masks, bool]:
    """Return the rows of `fused_kernel`, its masks, and whether any row has a constant term.

    Args:
        offsets: (n, 3) of planes a and b and of the output.
        inner, outer: (n,) tables that depend on both inputs; the first outer one is AND-like.

    Returns:
        Rows (n, 3) with their masks in the low bits, and the mask table, two lines per entry.
    """
    inverted, masks = _outer_masks(outer)
    stored = np.where(inverted, inner ^ 0xF, inner)
    masks |= _INNER_MASKS[stored]
    rows = offsets.copy()
    rows[:, :2] = np.where(_EXCHANGED[stored, None], offsets[:, 1::-1], offsets[:, :2])
    rows[:, 0] |= masks.astype(np.uint32)
    constant = bool((masks & _M6).any())
    entries = np.arange(64 if constant else 32)
    line = np.arange(PLANE_BYTES // 4)
    bit = np.concatenate([line % _MASKS_PER_LOAD, line + _MASKS_PER_LOAD])
    return rows, aligned_masks((entries[:, None] >> bit & 1).astype(bool)), constant


def _outer_masks(table: Ints) -> tuple[Bools, Ints]:
    """Return for each row whether its inner gate is kept inverted, and m4 to m6.

    An AND-like gate takes the inner gate of its row as w & x or ~w & x, which decides whether the
    inner gate is inverted. An XOR takes either; the choice makes its constant vanish.
    """
    exclusive = (table == 0b0110) | (table == 0b1001)
    decided = np.maximum.accumulate(np.where(exclusive, 0, np.arange(len(table))))
    flips = np.cumsum(table == 0b1001)
    inverted: Bools = _SECOND[table[decided]] ^ ((flips - flips[decided]) % 2 == 1)
    before = np.concatenate([[False], inverted[:-1]])
    masks: Ints = np.where(exclusive, _M4 | _M5, (_FIRST[table] ^ before) * _M5)
    return inverted, masks | THREE_ONES[table] * _M6


def _tables() -> tuple[Ints, Bools, Bools, Bools]:
    """Return four arrays by table, (16,) each.

    They are m1 to m3 of an inner gate, whether its operands are exchanged, and whether an AND-like
    gate inverts its first and its second operand.
    """
    masks = np.zeros(16, np.int64)
    exchanged, first, second = (np.zeros(16, bool) for _ in range(3))
    for table, code in _INNER.items():
        swapped = int(swap_inputs(np.array([table]))[0])
        for gate, is_swapped in ((swapped, True), (table, False)):
            masks[[gate, gate ^ 0xF]] = code, code | _M3
            exchanged[[gate, gate ^ 0xF]] = is_swapped
    for index in range(4):
        tables = [1 << index, 1 << index ^ 0xF]
        first[tables], second[tables] = not index & 2, not index & 1
    return masks, exchanged, first, second


_INNER_MASKS, _EXCHANGED, _FIRST, _SECOND = _tables()
