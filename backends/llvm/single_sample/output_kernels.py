"""Lower the steps at the outputs: scores of groups, and bits."""

from __future__ import annotations

from typing import Final

from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.llvm_text import FunctionWriter
from lgir.backends.llvm.records import FLOAT, INTEGER, RecordLayout, StepRecord
from lgir.backends.llvm.single_sample.sample_kernels import (
    BYTES,
    SampleKernels,
    offset_table,
    sample_layout,
    write_sign_bits,
)
from lgir.backends.llvm.single_sample.steps import LANES, CountRanges, ExportBits

_COUNT: Final = sample_layout(ranges=INTEGER, tau=FLOAT, beta=FLOAT)
"""`count` is the groups, `ranges` the ranges per group, and `rows` their offsets and sizes."""
_EXPORT: Final = sample_layout(source=INTEGER)
"""`count` is the bits, and `source` the offset of the first."""


def lower_count(step: CountRanges, kernels: SampleKernels) -> StepRecord:
    """Return the record of a sum of groups."""
    groups, ranges = step.ranges.shape[:2]
    return _COUNT.record(
        kernels.use("sum", _write_count),
        count=groups,
        ranges=ranges,
        slot=kernels.context.output_slot(step.index),
        tau=step.tau,
        beta=step.beta,
        rows=offset_table(step.ranges),
    )


def lower_export(step: ExportBits, kernels: SampleKernels) -> StepRecord:
    """Return the record of an export of bits."""
    slot = kernels.context.output_slot(step.index)
    kernel = kernels.use("export", _write_export)
    return _EXPORT.record(kernel, count=step.size, source=step.source, slot=slot)


def _write_count(f: FunctionWriter) -> None:
    """Write the score of each group, whose True bytes are in `ranges` ranges (offset, size)."""
    groups, ranges = _COUNT.load(f, "count"), _COUNT.load(f, "ranges")
    rows = _COUNT.load(f, "rows")
    tau, beta = _COUNT.load(f, "tau"), _COUNT.load(f, "beta")
    out = _write_result_address(f, _COUNT, f.let(f"mul i64 {groups}, 4"))
    with f.loop(groups) as g:
        first = f.let(f"mul i64 {g.index}, {ranges}")
        with f.loop(ranges, ("i64", "0")) as r:
            row = f.gep(rows, f.let(f"mul i64 {f.let(f'add i64 {first}, {r.index}')}, 8"))
            base, size = f.gep("%planes", f.load_u32(row)), f.load_u32(f.gep(row, "4"))
            with f.loop(size, ("i64", r.carried[0]), step=LANES) as x:
                word = write_sign_bits(f, f.load(BYTES, f.gep(base, x.index), 1))
                beyond = f.let(f"sub i64 {LANES}, {f.let(f'sub i64 {size}, {x.index}')}")
                beyond = f.let(f"call i64 @llvm.smax.i64(i64 {beyond}, i64 0)")
                inside = f.let(f"lshr i64 -1, {beyond}")
                bits = f.let(f"call i64 @llvm.ctpop.i64(i64 {f.let(f'and i64 {word}, {inside}')})")
                x.next = [f.let(f"add i64 {x.carried[0]}, {bits}")]
            r.next = x.result
        count = f.let(f"uitofp i64 {r.result[0]} to float")
        score = f.let(f"fdiv float {f.let(f'fadd float {count}, {beta}')}, {tau}")
        f.store("float", score, f.gep(out, f.let(f"mul i64 {g.index}, 4")), 4)


def _write_export(f: FunctionWriter) -> None:
    """Write the bits at `source` to the graph output, as bytes 0 and 1."""
    count = _EXPORT.load(f, "count")
    source = f.gep("%planes", _EXPORT.load(f, "source"))
    with f.loop(count, step=LANES) as x:
        address = f.gep(source, x.index)
        ones = f.let(f"and {BYTES} {f.load(BYTES, address, 1)}, splat (i8 1)")
        f.store(BYTES, ones, address, 1)
    out = _write_result_address(f, _EXPORT, count)
    f.emit(f"call void @llvm.memcpy.p0.p0.i64(ptr {out}, ptr {source}, i64 {count}, i1 false)")


def _write_result_address(f: FunctionWriter, layout: RecordLayout, size: str) -> str:
    """Write the address of the current sample's result at `slot`, `size` bytes per sample."""
    slot = f.let(f"mul i64 {layout.load(f, 'slot')}, 8")
    results = f.load("ptr", f.gep("%context", slot), 8)
    return f.gep(results, f.let(f"mul i64 {f.load_field('%context', ContextWord.START)}, {size}"))
