"""Exports: planes copied to an output of bits, as they are or as bytes."""

from __future__ import annotations

from typing import Final

from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.llvm_text import BLOCK, PLANE, PLANE_BYTES, FunctionWriter
from lgir.backends.llvm.records import INTEGER, KERNEL_PARAMS, POINTER, RecordLayout, StepRecord
from lgir.backends.llvm.steps.cost import CostTarget, footprint
from lgir.backends.llvm.steps.step_kind import CallForm, ProgramContext, StepKind
from lgir.backends.llvm.steps.tables import plane_offsets
from lgir.backends.lowering.steps import ExportStep
from lgir.roofline import StepCost, Traffic
from lgir.samples import Array

RECORD: Final = RecordLayout(rows=POINTER, count=INTEGER, slot=INTEGER)


class ExportKind(StepKind[ExportStep]):
    """Steps that copy bits to an output."""

    name = "export"
    depends_on_call = True

    def form(self, step: ExportStep, call: CallForm) -> str | None:
        return "" if call.result == "scores" or step.output == 0 else None

    def records(self, step: ExportStep, form: str, program: ProgramContext) -> list[StepRecord]:
        if program.byte_outputs:
            kernel = program.kernels.use("export_bytes", export_bytes_kernel)
        else:
            kernel = program.kernels.use("export", export_kernel)
        rows, slot = plane_offsets(step.planes), program.slots.output_slot(step.output)
        return [RECORD.record(kernel, rows=rows, count=len(rows), slot=slot)]

    def cost(self, step: ExportStep, samples: list[Array], target: CostTarget) -> StepCost:
        n = step.planes.size
        return StepCost(self.name, n, 0, (Traffic(n, n), Traffic(n, 0, footprint(step.planes))))


def export_kernel(name: str, *, ternary: bool) -> str:
    """Write the kernel that copies planes to the output as (blocks, elements, 512 bits)."""
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, count = RECORD.load(f, "rows"), RECORD.load(f, "count")
    slot, start = RECORD.load(f, "slot"), f.load_field("%context", ContextWord.START)
    results = f.load("ptr", f.gep("%context", f.let(f"mul i64 {slot}, 8")), 8)
    block = f.let(f"mul i64 {f.let(f'sdiv i64 {start}, {BLOCK}')}, {count}")
    out = f.gep(results, f.let(f"mul i64 {block}, {PLANE_BYTES}"))
    with f.loop(count) as i:
        offset = f.load_u32(f.gep(rows, f.let(f"mul i64 {i.index}, 4")))
        value = f.load_plane("%planes", offset)
        target = f.gep(out, f.let(f"mul i64 {i.index}, {PLANE_BYTES}"))
        f.store(PLANE, value, target, 1)
    f.emit("ret void")
    return f.text()


def export_bytes_kernel(name: str, *, ternary: bool) -> str:
    """Write the kernel that copies planes to the output as bytes 0 and 1, (samples, elements)."""
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, count = RECORD.load(f, "rows"), RECORD.load(f, "count")
    slot, start = RECORD.load(f, "slot"), f.load_field("%context", ContextWord.START)
    remaining = f.let(f"sub i64 {f.load_field('%context', ContextWord.SAMPLES)}, {start}")
    valid = f.let(f"call i64 @llvm.smin.i64(i64 {remaining}, i64 {BLOCK})")
    results = f.load("ptr", f.gep("%context", f.let(f"mul i64 {slot}, 8")), 8)
    out = f.gep(results, f.let(f"mul i64 {start}, {count}"))
    with f.loop(count) as i:
        plane = f.gep("%planes", f.load_u32(f.gep(rows, f.let(f"mul i64 {i.index}, 4"))))
        column = f.gep(out, i.index)
        with f.loop(valid) as s:
            byte = f.load("i8", f.gep(plane, f.let(f"lshr i64 {s.index}, 3")), 1)
            lane = f.let(f"trunc i64 {f.let(f'and i64 {s.index}, 7')} to i8")
            bit = f.let(f"and i8 {f.let(f'lshr i8 {byte}, {lane}')}, 1")
            f.store("i8", bit, f.gep(column, f.let(f"mul i64 {s.index}, {count}")), 1)
    f.emit("ret void")
    return f.text()
