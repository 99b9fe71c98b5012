"""Kernels of the latency path: a bit of one sample is a byte, 0 or -1, and 64 of them a vector.

The lanes of a convolution are positions: a map lies row by row, with cells between that stay False,
so a tap is the map read from another byte on. The lanes of a dense layer are gates, and what they
read is gathered first. Few kernels serve every network: shapes, wiring and operations are data.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from lgir.backends.llvm.ir import PLANE, Function
from lgir.backends.llvm.program import module_text
from lgir.backends.llvm.records import PARAMS, Context, Field

LANES: Final = 64
POSITIONS: Final = 32
"""Cells of a map that are evaluated at once. Small maps fit, and loads across lines are fewer."""
CELLS: Final = 16
"""Cells of a row that are written at once."""
NUMBERS: Final = 32
"""Numbers that are compared at once."""
ROUND: Final = 1024
"""Bits that one permutation looks up."""
GATHERED: Final = 256
"""Bits of which a gather looks up multiples."""

_VECTORS: Final = 4
"""That a gather looks up at once, for one load of its tables."""
_PERMUTES: Final = {
    8: "@llvm.x86.avx512.vpermi2var.qi.512",
    16: "@llvm.x86.avx512.vpermi2var.hi.512",
}
_WORDS: Final = "<32 x i16>"
_DECLARATIONS: Final = "declare i64 @llvm.ctpop.i64(i64)\ndeclare i64 @llvm.smax.i64(i64, i64)\n"
_PERMUTE_DECLARATIONS: Final = "".join(
    f"declare {kind} {_PERMUTES[bits]}({kind}, {kind}, {kind})\n"
    for bits, kind in ((8, "<64 x i8>"), (16, _WORDS))
)
_BYTES: Final = f"<{LANES} x i8>"
_DWORDS: Final = f"<{POSITIONS // 4} x i32>"
_FLOATS: Final = f"<{NUMBERS} x float>"
_SIZES: Final = {"u8": 1, "f32": 4}


class Item(IntEnum):
    """Fields of a record; kinds of steps share the numbers. Offsets and steps are in bytes."""

    KERNEL = 0
    ROWS = 1
    COUNT = 2
    OUT = 3
    SLOT = 4
    # trees over positions
    VECTORS = 5
    # trees over rows
    LEAVES = 5
    # gathers by permutation
    SOURCE = 5
    ROUNDS = 6
    BITS = 7
    # levels and maps: COUNT is the number of channels
    VALID = 5
    # levels
    LEVELS = 6
    LEVEL_TABLE = 7
    ROWS_EACH = 8
    WIDTH = 9
    NUMBERS = 10
    # maps
    SPACE = 6
    IN_STEP = 9
    OUT_STEP = 11
    # sums: COUNT is the number of groups
    RANGES = 5
    TAU = 6
    BETA = 7


def module(kernel: str, *, ternary: bool) -> str:
    """A kernel with all that it may declare, as LLVM text."""
    head = _DECLARATIONS + (_PERMUTE_DECLARATIONS if ternary else "")
    return module_text([head + kernel], ternary=ternary)


def run_kernel(name: str, *, ternary: bool) -> str:
    """For each sample in [start, stop), every step in order."""
    params = "ptr %steps, i64 %count, ptr %context, ptr %planes, i64 %start, i64 %stop"
    f = Function(name, params, ternary=ternary)
    with f.loop("%stop", start="%start") as sample:
        f.store("i64", sample.index, f.at("%context", str(8 * Context.START)), 8)
        with f.loop("%count") as i:
            step = f.at("%steps", f.let(f"mul i64 {i.index}, {8 * Field.SIZE}"))
            kernel = f.load("ptr", step, 8)
            f.emit(f"call void {kernel}(ptr %planes, ptr {step}, ptr %context)")
    f.emit("ret void")
    return f.text()


# -- inputs and outputs ------------------------------------------------------------------------


def load_kernel(name: str, dtype: str, check: str, *, ternary: bool) -> str:
    """Copies a sample of COUNT numbers to OUT, where it may be read beyond its end.

    `dtype` is "u8" or "f32"; `check` is "" or what sets the error flag: "bits" for what is neither
    0 nor 1, "nan". The numbers must be followed by zeros.
    """
    f = Function(name, PARAMS, ternary=ternary)
    count, slot = f.field("%step", Item.COUNT), f.field("%step", Item.SLOT)
    entry = f.at("%context", f.let(f"mul i64 {slot}, 8"))
    stride = f.load("i64", f.at(entry, "8"), 8)
    first = f.let(f"mul i64 {f.field('%context', Context.START)}, {stride}")
    source = f.at(f.load("ptr", entry, 8), first)
    out = f.at("%planes", f.field("%step", Item.OUT))
    _copy(f, out, source, f.let(f"mul i64 {count}, {_SIZES[dtype]}"))
    if check:
        with f.loop(count, ("i32", "0"), step=NUMBERS) as i:
            numbers = _load_numbers(f, out, i.index, dtype)
            if check == "nan":
                wrong = f.let(f"fcmp uno {_FLOATS} {numbers}, zeroinitializer")
            elif dtype == "u8":
                wrong = f.let(f"icmp ugt <{NUMBERS} x i8> {numbers}, splat (i8 1)")
            else:
                zero = f.let(f"fcmp une {_FLOATS} {numbers}, zeroinitializer")
                one = f.let(f"fcmp une {_FLOATS} {numbers}, splat (float 1.0)")
                wrong = f.let(f"and <{NUMBERS} x i1> {zero}, {one}")
            flags = f.let(f"bitcast <{NUMBERS} x i1> {wrong} to i32")
            i.next = [f.let(f"or i32 {i.carried[0]}, {flags}")]
        error = f.at("%context", str(8 * Context.ERROR))
        flags = f.let(f"zext i32 {i.result[0]} to i64")
        f.store("i64", f.let(f"or i64 {f.load('i64', error, 8)}, {flags}"), error, 8)
    f.emit("ret void")
    return f.text()


def level_kernel(name: str, dtype: str, bits: bool, *, ternary: bool) -> str:
    """Numbers at NUMBERS, (COUNT, ROWS_EACH, WIDTH), compared with LEVELS levels each and written
    row by row to the offsets at ROWS, ascending: the cells after a row become False.

    VALID is a mask of a row's cells, and LEVEL_TABLE holds the levels of each written row: 16-bit
    numbers for bytes, so that a level may lie below or above them all. `bits` have no levels.
    """
    f = Function(name, PARAMS, ternary=ternary)
    numbers = f.at("%planes", f.field("%step", Item.NUMBERS))
    rows, valid = f.field("%step", Item.ROWS, "ptr"), f.field("%step", Item.VALID, "ptr")
    table = f.field("%step", Item.LEVEL_TABLE, "ptr")
    channels, levels = f.field("%step", Item.COUNT), f.field("%step", Item.LEVELS)
    each, width = f.field("%step", Item.ROWS_EACH), f.field("%step", Item.WIDTH)
    with f.loop(channels) as c, f.loop(levels) as level, f.loop(each) as r:
        row = _place(f, _place(f, c.index, levels, level.index), each, r.index)
        out = f.at("%planes", f.load_u32(f.at(rows, f.let(f"mul i64 {row}, 4"))))
        first = f.let(f"mul i64 {_place(f, c.index, each, r.index)}, {width}")
        at = f.let(f"mul i64 {row}, {width}")
        with f.loop(width, step=NUMBERS) as x:
            found = _load_numbers(f, numbers, f.let(f"add i64 {first}, {x.index}"), dtype)
            entry = f.let(f"add i64 {at}, {x.index}")
            if dtype == "u8" and bits:
                true = f.let(f"icmp ne <{NUMBERS} x i8> {found}, zeroinitializer")
            elif dtype == "u8":
                wide = f.let(f"zext <{NUMBERS} x i8> {found} to {_WORDS}")
                level_at = f.at(table, f.let(f"mul i64 {entry}, 2"))
                true = f.let(f"icmp sgt {_WORDS} {wide}, {f.load(_WORDS, level_at, 2)}")
            elif bits:
                true = f.let(f"fcmp une {_FLOATS} {found}, zeroinitializer")
            else:
                level_at = f.at(table, f.let(f"mul i64 {entry}, 4"))
                true = f.let(f"fcmp ogt {_FLOATS} {found}, {f.load(_FLOATS, level_at, 4)}")
            cells = f.let(f"sext <{NUMBERS} x i1> {true} to <{NUMBERS} x i8>")
            mask = f.load(f"<{NUMBERS} x i8>", f.at(valid, x.index), 1)
            cells = f.let(f"and <{NUMBERS} x i8> {cells}, {mask}")
            f.store(f"<{NUMBERS} x i8>", cells, f.at(out, x.index), 1)
    f.emit("ret void")
    return f.text()


def sum_kernel(name: str, *, ternary: bool) -> str:
    """Scores of COUNT groups: each counts RANGES ranges (offset, bytes) of ROWS."""
    f = Function(name, PARAMS, ternary=ternary)
    groups, ranges = f.field("%step", Item.COUNT), f.field("%step", Item.RANGES)
    rows = f.field("%step", Item.ROWS, "ptr")
    tau, beta = (f.load("float", f.at("%step", str(8 * i)), 8) for i in (Item.TAU, Item.BETA))
    out = _result(f, f.let(f"mul i64 {groups}, 4"))
    with f.loop(groups) as g:
        first = f.let(f"mul i64 {g.index}, {ranges}")
        with f.loop(ranges, ("i64", "0")) as r:
            row = f.at(rows, f.let(f"mul i64 {f.let(f'add i64 {first}, {r.index}')}, 8"))
            base, size = f.at("%planes", f.load_u32(row)), f.load_u32(f.at(row, "4"))
            with f.loop(size, ("i64", r.carried[0]), step=LANES) as x:
                word = _sign_bits(f, f.load(_BYTES, f.at(base, x.index), 1))
                beyond = f.let(f"sub i64 {LANES}, {f.let(f'sub i64 {size}, {x.index}')}")
                beyond = f.let(f"call i64 @llvm.smax.i64(i64 {beyond}, i64 0)")
                inside = f.let(f"lshr i64 -1, {beyond}")
                bits = f.let(f"call i64 @llvm.ctpop.i64(i64 {f.let(f'and i64 {word}, {inside}')})")
                x.next = [f.let(f"add i64 {x.carried[0]}, {bits}")]
            r.next = x.result
        count = f.let(f"uitofp i64 {r.result[0]} to float")
        score = f.let(f"fdiv float {f.let(f'fadd float {count}, {beta}')}, {tau}")
        f.store("float", score, f.at(out, f.let(f"mul i64 {g.index}, 4")), 4)
    f.emit("ret void")
    return f.text()


def export_kernel(name: str, *, ternary: bool) -> str:
    """COUNT bits at SOURCE as bytes 0 and 1 to the output."""
    f = Function(name, PARAMS, ternary=ternary)
    count = f.field("%step", Item.COUNT)
    source = f.at("%planes", f.field("%step", Item.SOURCE))
    with f.loop(count, step=LANES) as x:
        at = f.at(source, x.index)
        f.store(_BYTES, f.let(f"and {_BYTES} {f.load(_BYTES, at, 1)}, splat (i8 1)"), at, 1)
    _copy(f, _result(f, count), source, count)
    f.emit("ret void")
    return f.text()


# -- gates -------------------------------------------------------------------------------------


def trees_kernel(name: str, template: Template, *, ternary: bool) -> str:
    """Lanes are positions. Rows are (leaves' offsets, result's offset, masks of 0 or -1), each for
    VECTORS vectors of lanes from there on.
    """
    f = Function(name, PARAMS, ternary=ternary)
    count, vectors = f.field("%step", Item.COUNT), f.field("%step", Item.VECTORS)
    rows = f.field("%step", Item.ROWS, "ptr")
    end = f.let(f"mul i64 {vectors}, {POSITIONS}")
    words = template.leaves + 1 + template.masks
    with f.loop(count) as row:
        at = f.at(rows, f.let(f"mul i64 {row.index}, {4 * words}"))
        word = [f.at(at, str(4 * i)) for i in range(words)]
        *leaves, out = (f.at("%planes", f.load_u32(w)) for w in word[: template.leaves + 1])
        masks = [_spread(f, f.load("i32", w, 4)) for w in word[template.leaves + 1 :]]
        with f.loop(end, step=POSITIONS) as x:
            found = [f.load(_DWORDS, f.at(leaf, x.index), 1) for leaf in leaves]
            value = template.value(f, _DWORDS, found, masks)
            f.store(_DWORDS, value, f.at(out, x.index), 1)
    f.emit("ret void")
    return f.text()


def rows_kernel(name: str, template: Template, *, ternary: bool) -> str:
    """Lanes are trees, COUNT vectors of them, read from LEAVES and written to OUT. The leaves
    of a vector follow one another, and so do its masks, in ROWS.
    """
    f = Function(name, PARAMS, ternary=ternary)
    count, masks = f.field("%step", Item.COUNT), f.field("%step", Item.ROWS, "ptr")
    leaves = f.at("%planes", f.field("%step", Item.LEAVES))
    out = f.at("%planes", f.field("%step", Item.OUT))
    with f.loop(count) as i:
        leaf = f.at(leaves, f.let(f"mul i64 {i.index}, {LANES * template.leaves}"))
        mask = f.at(masks, f.let(f"mul i64 {i.index}, {LANES * template.masks}"))
        value = template.value(
            f,
            PLANE,
            [f.load(PLANE, f.at(leaf, str(LANES * j)), 1) for j in range(template.leaves)],
            [f.load(PLANE, f.at(mask, str(LANES * j)), 1) for j in range(template.masks)],
        )
        f.store(PLANE, value, f.at(out, f.let(f"mul i64 {i.index}, {LANES}")), 1)
    f.emit("ret void")
    return f.text()


@dataclass(frozen=True)
class Template:
    """A perfect tree of `height` levels of two-input gates, or where that is 0 a gate of `arity`
    inputs; see `latency_trees.Trees` for its masks.
    """

    height: int
    arity: int = 0

    @property
    def name(self) -> str:
        return f"tree{self.height}" if self.height else f"table{self.arity}"

    @property
    def leaves(self) -> int:
        return 1 << self.height if self.height else self.arity

    @property
    def masks(self) -> int:
        return 3 * (self.leaves - 1) + 1 if self.height else 1 << self.arity

    def value(self, f: Function, kind: str, leaves: list[str], masks: list[str]) -> str:
        """Of vectors of `kind`, in plain logic: LLVM makes three-input instructions of it."""

        def op(name: str, a: str, b: str) -> str:
            return f.let(f"{name} {kind} {a}, {b}")

        if not self.height:
            layer = masks
            for x in reversed(leaves):
                pairs = zip(layer[::2], layer[1::2], strict=True)
                layer = [op("xor", zero, op("and", x, op("xor", zero, one))) for zero, one in pairs]
            return layer[0]
        left, values = iter(masks), leaves
        while len(values) > 1:
            pairs, values = zip(values[::2], values[1::2], strict=True), []
            for x, y in pairs:
                b, a, ab = next(left), next(left), next(left)
                value = op("and", x, op("xor", a, op("and", y, ab)))
                values.append(op("xor", value, op("and", y, b)))
        return op("xor", values[0], next(left))


def move_kernel(name: str, stride: int, sources: int, narrow: bool, *, ternary: bool) -> str:
    """Maps from where they were computed to where they are read: of every stride-th cell along a
    row, the OR of `sources` maps. Rows are (offset written, offsets read), ascending; the cells
    after a row become False.

    VALID is a mask of a row's cells, of which narrow maps have no more than CELLS. Where a stride
    is no width of an integer, rows go cell by cell.
    """
    f = Function(name, PARAMS, ternary=ternary)
    cells = cells_at_once(stride)
    rows, valid = f.field("%step", Item.ROWS, "ptr"), f.field("%step", Item.VALID, "ptr")
    space = [f.field("%step", Item.SPACE + i) for i in range(3)]
    steps = [[f.field("%step", at + i) for at in (Item.IN_STEP, Item.OUT_STEP)] for i in range(2)]
    wide, bytes_ = f"<{cells} x i{8 * stride}>", f"<{cells} x i8>"

    def write(out: str, reads: list[str], x: str, further: str) -> None:
        value, *others = (f.load(wide, f.at(read, further), 1) for read in reads)
        for other in others:
            value = f.let(f"or {wide} {value}, {other}")
        if stride > 1:
            value = f.let(f"trunc {wide} {value} to {bytes_}")
        mask = f.load(bytes_, f.at(valid, x), 1)
        f.store(bytes_, f.let(f"and {bytes_} {value}, {mask}"), f.at(out, x), 1)

    with f.loop(f.field("%step", Item.COUNT)) as c:
        row = f.at(rows, f.let(f"mul i64 {c.index}, {4 * (1 + sources)}"))
        out, *reads = (
            f.at("%planes", f.load_u32(f.at(row, str(4 * i)))) for i in range(1 + sources)
        )
        with f.loop(space[0], ("i64", "0"), ("i64", "0")) as z:
            with f.loop(space[1], *(("i64", at) for at in z.carried)) as y:
                starts = [f.at(read, y.carried[0]) for read in reads]
                to = f.at(out, y.carried[1])
                if narrow:
                    write(to, starts, "0", "0")
                else:
                    with f.loop(space[2], step=cells) as x:
                        write(to, starts, x.index, f.let(f"mul i64 {x.index}, {stride}"))
                y.next = [
                    f.let(f"add i64 {a}, {b}") for a, b in zip(y.carried, steps[1], strict=True)
                ]
            z.next = [f.let(f"add i64 {a}, {b}") for a, b in zip(z.carried, steps[0], strict=True)]
    f.emit("ret void")
    return f.text()


def cells_at_once(stride: int) -> int:
    return CELLS if stride in (1, 2, 4, 8) else 1


# -- gathers -----------------------------------------------------------------------------------


def gather_kernel(name: str, *, ternary: bool) -> str:
    """COUNT bytes from the offsets at ROWS to OUT, one by one."""
    f = Function(name, PARAMS, ternary=ternary)
    rows, out = f.field("%step", Item.ROWS, "ptr"), f.at("%planes", f.field("%step", Item.OUT))
    with f.loop(f.field("%step", Item.COUNT), step=8) as i:
        row, place = f.at(rows, f.let(f"mul i64 {i.index}, 4")), f.at(out, i.index)
        for j in range(8):
            source = f.at("%planes", f.load_u32(f.at(row, str(4 * j))))
            f.store("i8", f.load("i8", source, 1), f.at(place, str(j)), 1)
    f.emit("ret void")
    return f.text()


def permute_kernel(name: str, bits: int, *, ternary: bool) -> str:
    """COUNT bytes to OUT from near SOURCE, by permutations of lanes of `bits` bits, 8 or 16.

    Bytes become bits, ROUND of them two registers, of which a permutation looks up all lanes. ROWS
    holds three vectors for each vector of lanes: the places of the words wanted, the rounds that
    find them, and a mask of the bit within.
    """
    f = Function(name, PARAMS, ternary=ternary)
    lanes = 512 // bits
    kind, flags = f"<{lanes} x i{bits}>", f"<{lanes} x i1>"
    rows, out = f.field("%step", Item.ROWS, "ptr"), f.at("%planes", f.field("%step", Item.OUT))
    rounds = f.field("%step", Item.ROUNDS)
    source = f.at("%planes", f.field("%step", Item.SOURCE))
    table = f.at("%planes", f.field("%step", Item.BITS))
    with f.loop(f.let(f"mul i64 {rounds}, {ROUND}"), step=LANES) as i:
        word = _sign_bits(f, f.load(_BYTES, f.at(source, i.index), 1))
        f.store("i64", word, f.at(table, f.let(f"lshr i64 {i.index}, 3")), 8)
    vectors = range(_VECTORS)
    with f.loop(f.field("%step", Item.COUNT), step=_VECTORS * lanes) as i:
        row = f.at(rows, f.let(f"mul i64 {i.index}, {3 * bits // 8}"))
        place, when, bit = (
            [f.load(kind, f.at(row, str(64 * (3 * j + c))), 1) for j in vectors] for c in range(3)
        )
        with f.loop(rounds, *((kind, "zeroinitializer") for _ in vectors)) as turn:
            low = f.at(table, f.let(f"mul i64 {turn.index}, {ROUND // 8}"))
            first, second = (f.load(kind, f.at(low, str(64 * j)), 8) for j in range(2))
            number = f.let(f"trunc i64 {turn.index} to i{bits}")
            one = f.let(f"insertelement {kind} poison, i{bits} {number}, i64 0")
            zeros = f"<{lanes} x i32> zeroinitializer"
            now = f.let(f"shufflevector {kind} {one}, {kind} poison, {zeros}")
            for j in vectors:
                args = f"{kind} {first}, {kind} {place[j]}, {kind} {second}"
                found = f.let(f"call {kind} {_PERMUTES[bits]}({args})")
                mine = f.let(f"icmp eq {kind} {when[j]}, {now}")
                kept = f"{kind} {turn.carried[j]}"
                turn.next.append(f.let(f"select {flags} {mine}, {kind} {found}, {kept}"))
        at = f.at(out, i.index)
        for j in vectors:
            held = f.let(f"and {kind} {turn.result[j]}, {bit[j]}")
            true = f.let(f"icmp ne {kind} {held}, zeroinitializer")
            cells = f.let(f"sext {flags} {true} to <{lanes} x i8>")
            f.store(f"<{lanes} x i8>", cells, f.at(at, str(lanes * j)), 1)
    f.emit("ret void")
    return f.text()


def _load_numbers(f: Function, base: str, index: str, dtype: str) -> str:
    size = _SIZES[dtype]
    kind = _FLOATS if dtype == "f32" else f"<{NUMBERS} x i8>"
    return f.load(kind, f.at(base, f.let(f"mul i64 {index}, {size}")), size)


def _spread(f: Function, word: str) -> str:
    """A vector of copies of an i32."""
    one = f.let(f"insertelement {_DWORDS} poison, i32 {word}, i64 0")
    return f.let(f"shufflevector {_DWORDS} {one}, {_DWORDS} poison, <8 x i32> zeroinitializer")


def _sign_bits(f: Function, values: str) -> str:
    """The sign of each of 64 bytes, as an i64."""
    negative = f.let(f"icmp slt {_BYTES} {values}, zeroinitializer")
    return f.let(f"bitcast <{LANES} x i1> {negative} to i64")


def _result(f: Function, size: str) -> str:
    """Where this sample's output begins, `size` bytes a sample."""
    slot = f.let(f"mul i64 {f.field('%step', Item.SLOT)}, 8")
    out = f.load("ptr", f.at("%context", slot), 8)
    return f.at(out, f.let(f"mul i64 {f.field('%context', Context.START)}, {size}"))


def _copy(f: Function, out: str, source: str, size: str) -> None:
    f.emit(f"call void @llvm.memcpy.p0.p0.i64(ptr {out}, ptr {source}, i64 {size}, i1 false)")


def _place(f: Function, outer: str, size: str, inner: str) -> str:
    return f.let(f"add i64 {f.let(f'mul i64 {outer}, {size}')}, {inner}")
