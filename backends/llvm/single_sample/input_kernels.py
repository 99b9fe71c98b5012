"""Lower the steps at the inputs: load a sample, and compare its numbers with thresholds."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.llvm_text import FunctionWriter
from lgir.backends.llvm.records import INTEGER, POINTER, StepRecord
from lgir.backends.llvm.sample_checks import set_error, wrong_floats
from lgir.backends.llvm.single_sample.sample_kernels import (
    BYTES,
    SampleKernels,
    offset_table,
    row_mask,
    sample_layout,
    write_index,
)
from lgir.backends.llvm.single_sample.steps import LANES, NUMBERS, CompareLevels, LoadSample
from lgir.ir.thresholds import byte_levels

INPUT_KINDS: Final = {"bit": ("u8", "f32", "bits"), "u8": ("u8",), "f32": ("f32",)}
"""The kinds of samples by the dtype of a graph input; "bits" are rows of 64-bit words."""

_CHECKS: Final = {"bit": "bits", "f32": "nan", "u8": ""}
"""What a load checks, by the dtype of the graph input."""
_NUMBER_BYTES: Final = {"u8": 1, "f32": 4}
_FLOATS: Final = f"<{NUMBERS} x float>"
_SHORTS: Final = f"<{NUMBERS} x i16>"
_CELLS: Final = f"<{NUMBERS} x i8>"

_LOAD: Final = sample_layout()
"""`count` is the numbers of the sample."""
_COMPARE: Final = sample_layout(
    valid=POINTER,
    levels=INTEGER,
    level_table=POINTER,
    rows_per_channel=INTEGER,
    width=INTEGER,
    numbers=INTEGER,
)
"""`count` is the channels, and `rows` the offset of each row of bits."""


# -- loads ---------------------------------------------------------------------------------------


def lower_load(step: LoadSample, kind: str, kernels: SampleKernels) -> StepRecord:
    """Return the record of a load of samples of this kind."""
    if kind == "bits":
        kernel = kernels.use("load_words", _write_load_words)
    else:
        check = _CHECKS[step.dtype]
        kernel = kernels.use(f"load_{kind}_{check}", _write_load, kind, check)
    slot = kernels.context.input_slot(step.index)
    return _LOAD.record(kernel, count=step.size, out=step.out, slot=slot)


def _write_load(f: FunctionWriter, number: str, check: str) -> None:
    """Copy a sample of `count` numbers to `out`.

    `number` is "u8" or "f32". `check` says what sets the error flag: "bits", a number that is
    neither 0 nor 1; "nan", a NaN; or "", nothing.
    """
    count, source = _LOAD.load(f, "count"), _write_sample_address(f)
    out = f.gep("%planes", _LOAD.load(f, "out"))
    size = f.let(f"mul i64 {count}, {_NUMBER_BYTES[number]}")
    f.emit(f"call void @llvm.memcpy.p0.p0.i64(ptr {out}, ptr {source}, i64 {size}, i1 false)")
    if not check:
        return
    # Whole vectors are checked, and a sample of another kind may lie behind this one.
    numbers = f"<{NUMBERS} x {'float' if number == 'f32' else 'i8'}>"
    f.store(numbers, "zeroinitializer", f.gep(out, size), 1)
    with f.loop(count, ("i32", "0"), step=NUMBERS) as i:
        values = _write_load_numbers(f, out, i.index, number)
        if number == "u8":
            wrong = f.let(f"icmp ugt {_CELLS} {values}, splat (i8 1)")
        else:
            wrong = wrong_floats(f, values, NUMBERS, bits=check == "bits")
        flags = f.let(f"bitcast <{NUMBERS} x i1> {wrong} to i32")
        i.next = [f.let(f"or i32 {i.carried[0]}, {flags}")]
    set_error(f, i.result[0], 32)


def _write_load_words(f: FunctionWriter) -> None:
    """Spread a sample of `count` bits in 64-bit words to bytes at `out`, 0 or another number."""
    source, out = _write_sample_address(f), f.gep("%planes", _LOAD.load(f, "out"))
    byte_of_lane = ", ".join(f"i32 {lane // 8}" for lane in range(LANES))
    bit_of_lane = ", ".join(f"i8 {1 << lane % 8}" for lane in range(LANES))
    with f.loop(_LOAD.load(f, "count"), step=LANES) as i:
        word = f.load("<8 x i8>", f.gep(source, f.let(f"lshr i64 {i.index}, 3")), 1)
        lanes = f.let(
            f"shufflevector <8 x i8> {word}, <8 x i8> poison, <{LANES} x i32> <{byte_of_lane}>"
        )
        f.store(BYTES, f.let(f"and {BYTES} {lanes}, <{bit_of_lane}>"), f.gep(out, i.index), 1)


def _write_sample_address(f: FunctionWriter) -> str:
    """Write the address of the current sample of the graph input at `slot`."""
    slot = f.let(f"mul i64 {_LOAD.load(f, 'slot')}, 8")
    entry = f.gep("%context", slot)
    stride = f.load("i64", f.gep(entry, "8"), 8)
    first = f.let(f"mul i64 {f.load_field('%context', ContextWord.START)}, {stride}")
    return f.gep(f.load("ptr", entry, 8), first)


# -- comparisons ---------------------------------------------------------------------------------


def lower_compare(step: CompareLevels, kind: str, kernels: SampleKernels) -> StepRecord:
    """Return the record of comparisons for samples of this kind."""
    number = "u8" if kind == "bits" else kind
    channels, levels, rows_per_channel = step.rows.shape
    tables: dict[str, Any] = {
        "rows": offset_table(step.rows),
        "valid": row_mask(step.width, NUMBERS),
    }
    if step.thresholds is not None:
        tables["level_table"] = _level_table(step.thresholds, number)
    are_bits = step.thresholds is None
    name = f"{'bits' if are_bits else 'levels'}_{number}"
    return _COMPARE.record(
        kernels.use(name, _write_compare, number, are_bits),
        count=channels,
        levels=levels,
        rows_per_channel=rows_per_channel,
        width=step.width,
        numbers=step.numbers,
        **tables,
    )


def _level_table(thresholds: npt.NDArray[np.float32], number: str) -> npt.NDArray[Any]:
    """Return the thresholds of each row, with NUMBERS more behind them.

    Bytes are compared with 16-bit integers, since a threshold may lie below or above all bytes.
    """
    table = np.concatenate([thresholds.ravel(), np.zeros(NUMBERS, np.float32)])
    return byte_levels(table) if number == "u8" else table


def _write_compare(f: FunctionWriter, number: str, are_bits: bool) -> None:
    """Compare `numbers` (count, rows_per_channel, width) with `levels` thresholds each.

    Bits are written row by row to the offsets at `rows`, in ascending order; `valid` is a mask of a
    row's cells, and the cells behind a row become False. `level_table` holds the thresholds of each
    written row. If the numbers `are_bits`, there is no table.
    """
    numbers = f.gep("%planes", _COMPARE.load(f, "numbers"))
    rows, valid = _COMPARE.load(f, "rows"), _COMPARE.load(f, "valid")
    table = _COMPARE.load(f, "level_table")
    channels, levels = _COMPARE.load(f, "count"), _COMPARE.load(f, "levels")
    rows_per_channel, width = _COMPARE.load(f, "rows_per_channel"), _COMPARE.load(f, "width")
    with f.loop(channels) as c, f.loop(levels) as level, f.loop(rows_per_channel) as r:
        row = write_index(
            f, write_index(f, c.index, levels, level.index), rows_per_channel, r.index
        )
        out = f.gep("%planes", f.load_u32(f.gep(rows, f.let(f"mul i64 {row}, 4"))))
        number_row = write_index(f, c.index, rows_per_channel, r.index)
        first_number = f.let(f"mul i64 {number_row}, {width}")
        first_level = f.let(f"mul i64 {row}, {width}")
        with f.loop(width, step=NUMBERS) as x:
            index = f.let(f"add i64 {first_number}, {x.index}")
            values = _write_load_numbers(f, numbers, index, number)
            entry = f.let(f"add i64 {first_level}, {x.index}")
            if are_bits:
                compare = f"icmp ne {_CELLS}" if number == "u8" else f"fcmp une {_FLOATS}"
                true = f.let(f"{compare} {values}, zeroinitializer")
            elif number == "u8":
                shorts = f.let(f"zext {_CELLS} {values} to {_SHORTS}")
                address = f.gep(table, f.let(f"mul i64 {entry}, 2"))
                true = f.let(f"icmp sgt {_SHORTS} {shorts}, {f.load(_SHORTS, address, 2)}")
            else:
                address = f.gep(table, f.let(f"mul i64 {entry}, 4"))
                true = f.let(f"fcmp ogt {_FLOATS} {values}, {f.load(_FLOATS, address, 4)}")
            cells = f.let(f"sext <{NUMBERS} x i1> {true} to {_CELLS}")
            mask = f.load(_CELLS, f.gep(valid, x.index), 1)
            cells = f.let(f"and {_CELLS} {cells}, {mask}")
            f.store(_CELLS, cells, f.gep(out, x.index), 1)


def _write_load_numbers(f: FunctionWriter, base: str, index: str, number: str) -> str:
    size = _NUMBER_BYTES[number]
    kind = _FLOATS if number == "f32" else _CELLS
    return f.load(kind, f.gep(base, f.let(f"mul i64 {index}, {size}")), size)
