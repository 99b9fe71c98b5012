"""Single gates: a row per gate, all gates of a step having the same table or the same fan-in."""

from __future__ import annotations

from typing import Final

import numpy as np

from lgir.backends.llvm.llvm_text import PLANE, FunctionWriter
from lgir.backends.llvm.records import INTEGER, KERNEL_PARAMS, POINTER, RecordLayout, StepRecord
from lgir.backends.llvm.steps.cost import CostTarget, footprint
from lgir.backends.llvm.steps.step_kind import ProgramContext, StepKind
from lgir.backends.llvm.steps.tables import plane_offsets
from lgir.backends.lowering.steps import GateStep
from lgir.roofline import StepCost, Traffic
from lgir.samples import Array

RECORD: Final = RecordLayout(rows=POINTER, count=INTEGER)
_ROWS_PER_ROUND: Final = 4


class GateKind(StepKind[GateStep]):
    """Steps of single gates."""

    name = "gate"
    evaluates_gates = True

    def records(self, step: GateStep, form: str, program: ProgramContext) -> list[StepRecord]:
        return [gate_record(step, program)]

    def cost(self, step: GateStep, samples: list[Array], target: CostTarget) -> StepCost:
        """Return the cost of gates.

        A wide gate takes two shifts per bit of its table and one select per node of the
        multiplexer tree; most narrow tables take one instruction, and a copy takes none.
        """
        n, k, three = len(step.rows), step.fanin, target.three_inputs
        entries = 1 << k
        if step.table is None:
            logic = n * (2 * entries + (entries - 1) * three)
        else:
            logic = n * {2: 1, 3: three}.get(k, 0)
        near = Traffic(k * n, n)
        return StepCost(self.name, n, logic, (near, Traffic(k * n, n, footprint(step.rows))))


def gate_record(step: GateStep, program: ProgramContext) -> StepRecord:
    """Return the record of a step of gates."""
    rows = plane_offsets(step.rows)
    if step.tables is not None:
        rows = np.concatenate([rows, step.tables[:, None].view(np.uint32)], axis=1)
    name = f"gate{step.fanin}" + ("" if step.table is None else f"_{step.table:x}")
    kernel = program.kernels.use(name, gate_kernel, step.fanin, step.table)
    return RECORD.record(kernel, rows=rows, count=len(rows))


def gate_kernel(name: str, fanin: int, table: int | None, *, ternary: bool) -> str:
    """Write the kernel of gates with rows (operand offsets..., output offset).

    If `table` is None, rows end in the table's two halves, and a gate is evaluated as a multiplexer
    tree over the bits of its table.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, count = RECORD.load(f, "rows"), RECORD.load(f, "count")
    words = fanin + 1 + (0 if table is not None else 2)
    per_round = _ROWS_PER_ROUND if table is not None else 1
    in_rounds = f.let(f"and i64 {count}, {-per_round}")
    for start, stop, batch in (("0", in_rounds, per_round), (in_rounds, count, 1)):
        with f.loop(stop, step=batch, start=start) as loop:
            row = f.gep(rows, f.let(f"mul i64 {loop.index}, {4 * words}"))
            results = []
            for r in range(batch):
                offsets = [f.load_u32(f.gep(row, str(4 * (r * words + c)))) for c in range(words)]
                inputs = [f.load_plane("%planes", offsets[c]) for c in range(fanin)]
                if table is not None:
                    value = f.lut(table, inputs)
                else:
                    high = f.let(f"shl i64 {offsets[fanin + 2]}, 32")
                    value = _wide_lut(f, f.let(f"or i64 {offsets[fanin + 1]}, {high}"), inputs)
                results.append((value, offsets[fanin]))
            for value, offset in results:
                f.store_plane(value, "%planes", offset)
        if batch == per_round == 1:
            break
    f.emit("ret void")
    return f.text()


def _wide_lut(f: FunctionWriter, table: str, inputs: list[str]) -> str:
    """Write the multiplexer tree of a table held in an i64.

    Bit i becomes a mask by a shift to the sign and an arithmetic shift that spreads it.
    """
    one = f.let(f"insertelement {PLANE} poison, i64 {table}, i64 0")
    copies = f.let(f"shufflevector {PLANE} {one}, {PLANE} poison, <8 x i32> zeroinitializer")
    layer = []
    for i in range(1 << len(inputs)):
        top = f.op("shl", copies, f"splat (i64 {63 - i})")
        layer.append(f.op("ashr", top, "splat (i64 63)"))
    for x in reversed(inputs):
        layer = [f.select(x, layer[i + 1], layer[i]) for i in range(0, len(layer), 2)]
    return layer[0]
