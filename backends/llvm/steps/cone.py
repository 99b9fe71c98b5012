"""Cones: trees of one template, evaluated at every position of a space.

Wiring is data, and so are the operations: masks are loaded once per row and stay in registers over
all positions. Trees that are evaluated once each take the more compact tables of `forest`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from lgir.backends.llvm.avx512.tree_functions import tree_geometry, tree_work
from lgir.backends.llvm.llvm_text import OR_XOR, PLANE, PLANE_BYTES, FunctionWriter
from lgir.backends.llvm.records import INTEGER, KERNEL_PARAMS, POINTER, RecordLayout, StepRecord
from lgir.backends.llvm.steps.cost import CostTarget
from lgir.backends.llvm.steps.forest import forest_record
from lgir.backends.llvm.steps.step_kind import ProgramContext, StepKind
from lgir.backends.llvm.steps.tables import mask_words, plane_offsets
from lgir.backends.llvm.steps.tree_text import evaluate_tree, tree_instructions
from lgir.backends.lowering.cones import ConeExpr
from lgir.backends.lowering.pools import MAX_POOL
from lgir.backends.lowering.steps import ConeStep
from lgir.ir.sets import distinct
from lgir.roofline import LINE, StepCost, Traffic
from lgir.samples import Array

RECORD: Final = RecordLayout(
    rows=POINTER,
    count=INTEGER,
    space=(INTEGER, 3),
    in_step=(INTEGER, 3),
    out_step=(INTEGER, 3),
    copies=INTEGER,
    shifts=(INTEGER, MAX_POOL),
)
_SAMPLED_ROWS: Final = 16
"""Rows from which the cells that a step reads are estimated."""


class ConeKind(StepKind[ConeStep]):
    """Steps of cones, forests included."""

    name = "cone"
    evaluates_gates = True

    def records(self, step: ConeStep, form: str, program: ProgramContext) -> list[StepRecord]:
        copies = len(step.shifts)
        if step.space == (1, 1, 1) and copies == 1 and (np.diff(step.out) == 1).all():
            return [forest_record(step, program)]
        offsets = np.concatenate(
            [plane_offsets(step.leaves), plane_offsets(step.out)[:, None]], axis=1
        )
        rows = np.concatenate([offsets, mask_words(step.masks)], axis=1)
        kernel = program.kernels.use(f'"cone {step.expr}"', cone_kernel, step.expr)
        record = RECORD.record(
            kernel,
            rows=rows,
            count=len(rows),
            space=step.space,
            in_step=np.array(step.in_step) * PLANE_BYTES,
            out_step=np.array(step.out_step) * PLANE_BYTES,
            copies=copies,
            shifts=step.shifts * PLANE_BYTES,
        )
        return [record]

    def cost(self, step: ConeStep, samples: list[Array], target: CostTarget) -> StepCost:
        """Return the cost of cones, whose rows are positions.

        In machine code of their own, what copies and neighbors read again is mostly in registers.
        """
        cost = _table_cost(step, target)
        if not (target.tree_code and tree_geometry(step)):
            return cost
        loads, logic = tree_work(step)
        near, *far = cost.traffic
        return replace(cost, logic=logic, traffic=(replace(near, loads=loads), *far))


def _table_cost(step: ConeStep, target: CostTarget) -> StepCost:
    """Return the cost of cones as tables.

    What a cone's copies and neighbors read again is near; each cell is brought once per table row.
    """
    rows, kinds, three = len(step.leaves), step.expr.leaves(), target.three_inputs
    positions, copies = int(np.prod(step.space)), len(step.shifts)
    n = rows * positions
    near = Traffic(n * copies * len(kinds), n)
    last = 1 if positions * copies == 1 else three  # inverted, or inverted and ORed
    logic = n * copies * (tree_instructions(step.expr, three) + last)
    grid = np.indices(step.space).reshape(3, -1)
    walk = {"tap": (np.array(step.in_step) @ grid)[:, None] + step.shifts,
            "cut": (np.array(step.out_step) @ grid)[:, None]}  # fmt: skip
    sampled = np.linspace(0, rows - 1, min(rows, _SAMPLED_ROWS), dtype=np.int64)
    cells = 0
    for row in sampled:
        leaves = zip(step.leaves[row], kinds, strict=True)
        cells += len(distinct(np.concatenate([(p + walk[kind]).ravel() for p, kind in leaves])))
    loads = rows * cells / len(sampled)
    far = Traffic(loads, n, _footprint(step, positions))
    return StepCost(ConeKind.name, n, logic, (near, far))


def _footprint(step: ConeStep, positions: int) -> int:
    """Return the bytes that cones read and write.

    Each leaf plane of position 0 stands for the positions of a channel, each counted once.
    """
    # Taps of one channel at different offsets overlap: a channel is told by its range of planes.
    span = int(np.array(step.in_step) @ (np.array(step.space) - 1)) + 1
    starts = distinct(step.leaves)
    gaps = np.diff(starts, append=starts[-1] + span) if len(starts) else starts
    return LINE * (int(np.minimum(gaps, span).sum()) + len(step.out) * positions)


def cone_kernel(name: str, expr: ConeExpr, *, ternary: bool) -> str:
    """Write the kernel of cones with rows (leaf offsets..., output offset, masks...).

    It loops over positions, and at each over the shifted copies that a pool ORs. Leaf pointers and
    masks are loaded once per row. The copies are a loop and not unrolled: with the loads of several
    trees in flight, LLVM's scheduler spills masks to the stack.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    kinds, masks = expr.leaves(), expr.num_masks() + 1
    words = len(kinds) + 1 + masks
    rows, count = RECORD.load(f, "rows"), RECORD.load(f, "count")
    space, in_step, out_step = (
        [RECORD.load(f, field, axis) for axis in range(3)]
        for field in ("space", "in_step", "out_step")
    )
    copies, shifts = RECORD.load(f, "copies"), RECORD.address(f, "shifts")
    with f.loop(count) as row_loop:
        row = f.gep(rows, f.let(f"mul i64 {row_loop.index}, {4 * words}"))
        word = [f.gep(row, str(4 * i)) for i in range(words)]
        leaves = [f.gep("%planes", f.load_u32(word[i])) for i in range(len(kinds))]
        out = f.gep("%planes", f.load_u32(word[len(kinds)]))
        mask = [f.broadcast(f.load("i32", w, 4)) for w in word[len(kinds) + 1 :]]
        with f.loop(space[0]) as z, f.loop(space[1]) as y:
            in_row = _row_offset(f, in_step[0], z.index, in_step[1], y.index)
            out_row = _row_offset(f, out_step[0], z.index, out_step[1], y.index)
            with f.loop(space[2], ("i64", in_row), ("i64", out_row)) as x:
                in_offset, out_offset = x.carried
                with f.loop(copies, (PLANE, "zeroinitializer")) as copy:
                    shift = f.load("i64", f.gep(shifts, f.let(f"mul i64 {copy.index}, 8")), 8)
                    offsets = {"tap": f.let(f"add i64 {in_offset}, {shift}"), "cut": out_offset}
                    pending = list(zip(kinds, leaves, strict=True))
                    value = evaluate_tree(f, expr, pending, list(mask), offsets)
                    copy.next = [f.ternary(copy.carried[0], value, mask[-1], OR_XOR)]
                f.store_plane(copy.result[0], out, out_offset)
                x.next = [
                    f.let(f"add i64 {in_offset}, {in_step[2]}"),
                    f.let(f"add i64 {out_offset}, {out_step[2]}"),
                ]
    f.emit("ret void")
    return f.text()


def _row_offset(f: FunctionWriter, step_z: str, z: str, step_y: str, y: str) -> str:
    """Write the offset of a row of positions."""
    return f.let(f"add i64 {f.let(f'mul i64 {step_z}, {z}')}, {f.let(f'mul i64 {step_y}, {y}')}")
