"""Counts: planes of a chunk, added to bit-sliced counts while they are in a near cache."""

from __future__ import annotations

from typing import Final

import numpy as np

from lgir.backends.llvm.carry_save import (
    ROUND_PLANES,
    adders_per_round,
    count_planes,
    pad_to_rounds,
)
from lgir.backends.llvm.llvm_text import FunctionWriter
from lgir.backends.llvm.records import INTEGER, KERNEL_PARAMS, POINTER, RecordLayout, StepRecord
from lgir.backends.llvm.steps.cost import CostTarget, footprint
from lgir.backends.llvm.steps.step_kind import ProgramContext, StepKind
from lgir.backends.llvm.steps.tables import plane_offsets
from lgir.backends.lowering.steps import CountStep, Planes
from lgir.roofline import StepCost, Traffic
from lgir.samples import Array

RECORD: Final = RecordLayout(rows=POINTER, groups=INTEGER, bits=INTEGER)


class CountKind(StepKind[CountStep]):
    """Steps that count planes into planes."""

    name = "count"

    def records(self, step: CountStep, form: str, program: ProgramContext) -> list[StepRecord]:
        groups, width = step.counts.shape
        rows = np.concatenate([step.initial, pad_to_rounds(step.planes), step.counts], axis=1)
        kernel = program.kernels.use(f"count{width}", count_kernel, width)
        bits = rows.shape[1] - 2 * width
        return [RECORD.record(kernel, rows=plane_offsets(rows), groups=groups, bits=bits)]

    def cost(self, step: CountStep, samples: list[Array], target: CostTarget) -> StepCost:
        return count_cost(self.name, step.planes, step.counts.shape[1], target)


def count_cost(kind: str, planes: Planes, width: int, target: CostTarget) -> StepCost:
    """Return the cost of counting planes (groups, bits) in `width` planes.

    An adder takes two functions.
    """
    groups, bits = planes.shape
    rounds = -(-bits // ROUND_PLANES)
    n = groups * rounds * ROUND_PLANES
    logic = groups * rounds * 2 * adders_per_round(width) * target.three_inputs
    traffic = (Traffic(n, groups * width), Traffic(n, 0, footprint(planes)))
    # A sum may take up a count that is complete: its rows are then the planes of that.
    return StepCost(kind, groups * (bits or width), logic, traffic)


def count_kernel(name: str, width: int, *, ternary: bool) -> str:
    """Write the kernel of counts in `width` planes, with one row per group.

    A row holds the offsets of the count to start from, of the `bits` planes to add, and of the
    count that results.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, groups, bits = (RECORD.load(f, x) for x in ("rows", "groups", "bits"))
    words = f.let(f"add i64 {bits}, {2 * width}")
    with f.loop(groups) as g:
        table = f.gep(rows, f.let(f"mul i64 {f.let(f'mul i64 {g.index}, {words}')}, 4"))
        count = count_planes(f, table, bits, width)
        out = f.gep(table, f.let(f"mul i64 {f.let(f'add i64 {bits}, {width}')}, 4"))
        for i, plane in enumerate(count):
            f.store_plane(plane, "%planes", f.load_u32(f.gep(out, str(4 * i))))
    f.emit("ret void")
    return f.text()
