"""Kernels of the latency path where samples come in and scores go out."""

from __future__ import annotations

from typing import Final

from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.llvm_text import FunctionWriter
from lgir.backends.llvm.records import KERNEL_PARAMS
from lgir.backends.llvm.sample_checks import set_error, wrong_floats
from lgir.backends.llvm.single_sample.records import BYTES, Item, place, sign_bits
from lgir.backends.llvm.single_sample.steps import LANES, NUMBERS

_FLOATS: Final = f"<{NUMBERS} x float>"
_WORDS: Final = f"<{NUMBERS} x i16>"
_SIZES: Final = {"u8": 1, "f32": 4}


def load_kernel(name: str, dtype: str, check: str, *, ternary: bool) -> str:
    """Copies a sample of COUNT numbers to OUT, where it may be read beyond its end.

    `dtype` is "u8" or "f32"; `check` is "" or what sets the error flag: "bits" for what is neither
    0 nor 1, "nan".
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    count, source = f.load_field("%step", Item.COUNT), _sample(f)
    out = f.gep("%planes", f.load_field("%step", Item.OUT))
    size = f.let(f"mul i64 {count}, {_SIZES[dtype]}")
    _copy(f, out, source, size)
    if check:  # of whole vectors; a sample of another kind may have been there
        numbers = f"<{NUMBERS} x {'float' if dtype == 'f32' else 'i8'}>"
        f.store(numbers, "zeroinitializer", f.gep(out, size), 1)
        with f.loop(count, ("i32", "0"), step=NUMBERS) as i:
            numbers = _load_numbers(f, out, i.index, dtype)
            if dtype == "u8":
                wrong = f.let(f"icmp ugt <{NUMBERS} x i8> {numbers}, splat (i8 1)")
            else:
                wrong = wrong_floats(f, numbers, NUMBERS, bits=check == "bits")
            flags = f.let(f"bitcast <{NUMBERS} x i1> {wrong} to i32")
            i.next = [f.let(f"or i32 {i.carried[0]}, {flags}")]
        set_error(f, i.result[0], 32)
    f.emit("ret void")
    return f.text()


def load_words_kernel(name: str, *, ternary: bool) -> str:
    """Spreads a sample of COUNT bits in words of 64 to bytes of 0 or another number at OUT."""
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    source, out = _sample(f), f.gep("%planes", f.load_field("%step", Item.OUT))
    lanes = ", ".join(f"i32 {lane // 8}" for lane in range(LANES))
    places = ", ".join(f"i8 {1 << lane % 8}" for lane in range(LANES))
    with f.loop(f.load_field("%step", Item.COUNT), step=LANES) as i:
        word = f.load("<8 x i8>", f.gep(source, f.let(f"lshr i64 {i.index}, 3")), 1)
        each = f.let(f"shufflevector <8 x i8> {word}, <8 x i8> poison, <{LANES} x i32> <{lanes}>")
        f.store(BYTES, f.let(f"and {BYTES} {each}, <{places}>"), f.gep(out, i.index), 1)
    f.emit("ret void")
    return f.text()


def level_kernel(name: str, dtype: str, bits: bool, *, ternary: bool) -> str:
    """Numbers at NUMBERS, (COUNT, ROWS_EACH, WIDTH), compared with LEVELS levels each and written
    row by row to the offsets at ROWS, ascending: the cells after a row become False.

    VALID is a mask of a row's cells, and LEVEL_TABLE holds the levels of each written row: 16-bit
    numbers for bytes, so that a level may lie below or above them all. `bits` have no levels.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    numbers = f.gep("%planes", f.load_field("%step", Item.NUMBERS))
    rows, valid = f.load_field("%step", Item.ROWS, "ptr"), f.load_field("%step", Item.VALID, "ptr")
    table = f.load_field("%step", Item.LEVEL_TABLE, "ptr")
    channels, levels = f.load_field("%step", Item.COUNT), f.load_field("%step", Item.LEVELS)
    each, width = f.load_field("%step", Item.ROWS_EACH), f.load_field("%step", Item.WIDTH)
    with f.loop(channels) as c, f.loop(levels) as level, f.loop(each) as r:
        row = place(f, place(f, c.index, levels, level.index), each, r.index)
        out = f.gep("%planes", f.load_u32(f.gep(rows, f.let(f"mul i64 {row}, 4"))))
        first = f.let(f"mul i64 {place(f, c.index, each, r.index)}, {width}")
        at = f.let(f"mul i64 {row}, {width}")
        with f.loop(width, step=NUMBERS) as x:
            found = _load_numbers(f, numbers, f.let(f"add i64 {first}, {x.index}"), dtype)
            entry = f.let(f"add i64 {at}, {x.index}")
            if dtype == "u8" and bits:
                true = f.let(f"icmp ne <{NUMBERS} x i8> {found}, zeroinitializer")
            elif dtype == "u8":
                wide = f.let(f"zext <{NUMBERS} x i8> {found} to {_WORDS}")
                level_at = f.gep(table, f.let(f"mul i64 {entry}, 2"))
                true = f.let(f"icmp sgt {_WORDS} {wide}, {f.load(_WORDS, level_at, 2)}")
            elif bits:
                true = f.let(f"fcmp une {_FLOATS} {found}, zeroinitializer")
            else:
                level_at = f.gep(table, f.let(f"mul i64 {entry}, 4"))
                true = f.let(f"fcmp ogt {_FLOATS} {found}, {f.load(_FLOATS, level_at, 4)}")
            cells = f.let(f"sext <{NUMBERS} x i1> {true} to <{NUMBERS} x i8>")
            mask = f.load(f"<{NUMBERS} x i8>", f.gep(valid, x.index), 1)
            cells = f.let(f"and <{NUMBERS} x i8> {cells}, {mask}")
            f.store(f"<{NUMBERS} x i8>", cells, f.gep(out, x.index), 1)
    f.emit("ret void")
    return f.text()


def sum_kernel(name: str, *, ternary: bool) -> str:
    """Scores of COUNT groups: each counts RANGES ranges (offset, bytes) of ROWS."""
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    groups, ranges = f.load_field("%step", Item.COUNT), f.load_field("%step", Item.RANGES)
    rows = f.load_field("%step", Item.ROWS, "ptr")
    tau, beta = (f.load("float", f.gep("%step", str(8 * i)), 8) for i in (Item.TAU, Item.BETA))
    out = _result(f, f.let(f"mul i64 {groups}, 4"))
    with f.loop(groups) as g:
        first = f.let(f"mul i64 {g.index}, {ranges}")
        with f.loop(ranges, ("i64", "0")) as r:
            row = f.gep(rows, f.let(f"mul i64 {f.let(f'add i64 {first}, {r.index}')}, 8"))
            base, size = f.gep("%planes", f.load_u32(row)), f.load_u32(f.gep(row, "4"))
            with f.loop(size, ("i64", r.carried[0]), step=LANES) as x:
                word = sign_bits(f, f.load(BYTES, f.gep(base, x.index), 1))
                beyond = f.let(f"sub i64 {LANES}, {f.let(f'sub i64 {size}, {x.index}')}")
                beyond = f.let(f"call i64 @llvm.smax.i64(i64 {beyond}, i64 0)")
                inside = f.let(f"lshr i64 -1, {beyond}")
                bits = f.let(f"call i64 @llvm.ctpop.i64(i64 {f.let(f'and i64 {word}, {inside}')})")
                x.next = [f.let(f"add i64 {x.carried[0]}, {bits}")]
            r.next = x.result
        count = f.let(f"uitofp i64 {r.result[0]} to float")
        score = f.let(f"fdiv float {f.let(f'fadd float {count}, {beta}')}, {tau}")
        f.store("float", score, f.gep(out, f.let(f"mul i64 {g.index}, 4")), 4)
    f.emit("ret void")
    return f.text()


def export_kernel(name: str, *, ternary: bool) -> str:
    """COUNT bits at SOURCE as bytes 0 and 1 to the output."""
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    count = f.load_field("%step", Item.COUNT)
    source = f.gep("%planes", f.load_field("%step", Item.SOURCE))
    with f.loop(count, step=LANES) as x:
        at = f.gep(source, x.index)
        f.store(BYTES, f.let(f"and {BYTES} {f.load(BYTES, at, 1)}, splat (i8 1)"), at, 1)
    _copy(f, _result(f, count), source, count)
    f.emit("ret void")
    return f.text()


def _load_numbers(f: FunctionWriter, base: str, index: str, dtype: str) -> str:
    size = _SIZES[dtype]
    kind = _FLOATS if dtype == "f32" else f"<{NUMBERS} x i8>"
    return f.load(kind, f.gep(base, f.let(f"mul i64 {index}, {size}")), size)


def _sample(f: FunctionWriter) -> str:
    """Where this sample of the input at SLOT begins."""
    slot = f.let(f"mul i64 {f.load_field('%step', Item.SLOT)}, 8")
    entry = f.gep("%context", slot)
    stride = f.load("i64", f.gep(entry, "8"), 8)
    first = f.let(f"mul i64 {f.load_field('%context', ContextWord.START)}, {stride}")
    return f.gep(f.load("ptr", entry, 8), first)


def _result(f: FunctionWriter, size: str) -> str:
    """Where this sample's output begins, `size` bytes a sample."""
    slot = f.let(f"mul i64 {f.load_field('%step', Item.SLOT)}, 8")
    out = f.load("ptr", f.gep("%context", slot), 8)
    return f.gep(out, f.let(f"mul i64 {f.load_field('%context', ContextWord.START)}, {size}"))


def _copy(f: FunctionWriter, out: str, source: str, size: str) -> None:
    f.emit(f"call void @llvm.memcpy.p0.p0.i64(ptr {out}, ptr {source}, i64 {size}, i1 false)")
