"""Kernels of the latency path that evaluate gates, and those that bring them what they read.

The lanes of a convolution are positions: a map lies row by row, with cells between that stay False,
so a tap is the map read from another byte on. The lanes of a dense layer are gates, and what they
read is gathered first. Few kernels serve every network: shapes, wiring and operations are data.
"""

from __future__ import annotations

from typing import Final

from lgir.backends.llvm.llvm_text import PLANE, FunctionWriter
from lgir.backends.llvm.records import KERNEL_PARAMS
from lgir.backends.llvm.single_sample.perfect_trees import TreeTemplate
from lgir.backends.llvm.single_sample.records import BYTES, PERMUTES, Item, sign_bits
from lgir.backends.llvm.single_sample.steps import (
    LANES,
    LOOKUP_BITS,
    MOVABLE_STRIDES,
    MOVED_CELLS,
    POSITIONS,
)

_VECTORS: Final = 4
"""That a gather looks up at once, for one load of its tables."""
_DWORDS: Final = f"<{POSITIONS // 4} x i32>"


def trees_kernel(name: str, template: TreeTemplate, *, ternary: bool) -> str:
    """Lanes are positions. Rows are (leaves' offsets, result's offset, masks of 0 or -1), each for
    VECTORS vectors of lanes from there on.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    count, vectors = f.load_field("%step", Item.COUNT), f.load_field("%step", Item.VECTORS)
    rows = f.load_field("%step", Item.ROWS, "ptr")
    end = f.let(f"mul i64 {vectors}, {POSITIONS}")
    words = template.num_leaves + 1 + template.num_masks
    with f.loop(count) as row:
        at = f.gep(rows, f.let(f"mul i64 {row.index}, {4 * words}"))
        word = [f.gep(at, str(4 * i)) for i in range(words)]
        *leaves, out = (f.gep("%planes", f.load_u32(w)) for w in word[: template.num_leaves + 1])
        masks = [_spread(f, f.load("i32", w, 4)) for w in word[template.num_leaves + 1 :]]
        with f.loop(end, step=POSITIONS) as x:
            found = [f.load(_DWORDS, f.gep(leaf, x.index), 1) for leaf in leaves]
            value = tree_value(f, template, _DWORDS, found, masks)
            f.store(_DWORDS, value, f.gep(out, x.index), 1)
    f.emit("ret void")
    return f.text()


def rows_kernel(name: str, template: TreeTemplate, *, ternary: bool) -> str:
    """Lanes are trees, COUNT vectors of them, read from LEAVES and written to OUT. The leaves
    of a vector follow one another, and so do its masks, in ROWS.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    count, masks = f.load_field("%step", Item.COUNT), f.load_field("%step", Item.ROWS, "ptr")
    leaves = f.gep("%planes", f.load_field("%step", Item.LEAVES))
    out = f.gep("%planes", f.load_field("%step", Item.OUT))
    with f.loop(count) as i:
        leaf = f.gep(leaves, f.let(f"mul i64 {i.index}, {LANES * template.num_leaves}"))
        mask = f.gep(masks, f.let(f"mul i64 {i.index}, {LANES * template.num_masks}"))
        value = tree_value(
            f,
            template,
            PLANE,
            [f.load(PLANE, f.gep(leaf, str(LANES * j)), 1) for j in range(template.num_leaves)],
            [f.load(PLANE, f.gep(mask, str(LANES * j)), 1) for j in range(template.num_masks)],
        )
        f.store(PLANE, value, f.gep(out, f.let(f"mul i64 {i.index}, {LANES}")), 1)
    f.emit("ret void")
    return f.text()


def tree_value(
    f: FunctionWriter, template: TreeTemplate, kind: str, leaves: list[str], masks: list[str]
) -> str:
    """Write the value of a tree of vectors of `kind`.

    It is plain logic, of which LLVM makes three-input instructions.
    """

    def op(name: str, a: str, b: str) -> str:
        return f.let(f"{name} {kind} {a}, {b}")

    if not template.height:
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

    VALID is a mask of a row's cells; `narrow` says that a row has at most MOVED_CELLS. If the
    stride is not the width of an integer, rows are moved cell by cell.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    cells = MOVED_CELLS if stride in MOVABLE_STRIDES else 1
    rows, valid = f.load_field("%step", Item.ROWS, "ptr"), f.load_field("%step", Item.VALID, "ptr")
    space = [f.load_field("%step", Item.SPACE + i) for i in range(3)]
    steps = [
        [f.load_field("%step", at + i) for at in (Item.IN_STEP, Item.OUT_STEP)] for i in range(2)
    ]
    wide, bytes_ = f"<{cells} x i{8 * stride}>", f"<{cells} x i8>"

    def write(out: str, reads: list[str], x: str, further: str) -> None:
        value, *others = (f.load(wide, f.gep(read, further), 1) for read in reads)
        for other in others:
            value = f.let(f"or {wide} {value}, {other}")
        if stride > 1:
            value = f.let(f"trunc {wide} {value} to {bytes_}")
        mask = f.load(bytes_, f.gep(valid, x), 1)
        f.store(bytes_, f.let(f"and {bytes_} {value}, {mask}"), f.gep(out, x), 1)

    with f.loop(f.load_field("%step", Item.COUNT)) as c:
        row = f.gep(rows, f.let(f"mul i64 {c.index}, {4 * (1 + sources)}"))
        out, *reads = (
            f.gep("%planes", f.load_u32(f.gep(row, str(4 * i)))) for i in range(1 + sources)
        )
        with f.loop(space[0], ("i64", "0"), ("i64", "0")) as z:
            with f.loop(space[1], *(("i64", at) for at in z.carried)) as y:
                starts = [f.gep(read, y.carried[0]) for read in reads]
                to = f.gep(out, y.carried[1])
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


# -- gathers -----------------------------------------------------------------------------------


def gather_kernel(name: str, *, ternary: bool) -> str:
    """COUNT bytes from the offsets at ROWS to OUT, one by one."""
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, out = (
        f.load_field("%step", Item.ROWS, "ptr"),
        f.gep("%planes", f.load_field("%step", Item.OUT)),
    )
    with f.loop(f.load_field("%step", Item.COUNT), step=8) as i:
        row, place = f.gep(rows, f.let(f"mul i64 {i.index}, 4")), f.gep(out, i.index)
        for j in range(8):
            source = f.gep("%planes", f.load_u32(f.gep(row, str(4 * j))))
            f.store("i8", f.load("i8", source, 1), f.gep(place, str(j)), 1)
    f.emit("ret void")
    return f.text()


def permute_kernel(name: str, bits: int, *, ternary: bool) -> str:
    """COUNT bytes to OUT from near SOURCE, by permutations of lanes of `bits` bits, 8 or 16.

    Bytes become bits, LOOKUP_BITS of them two registers, in which a permutation looks up all lanes.
    ROWS holds three vectors per vector of lanes: the words that hold the bits, the rounds that find
    them, and masks of the bit within the word.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    lanes = 512 // bits
    kind, flags = f"<{lanes} x i{bits}>", f"<{lanes} x i1>"
    rows, out = (
        f.load_field("%step", Item.ROWS, "ptr"),
        f.gep("%planes", f.load_field("%step", Item.OUT)),
    )
    rounds = f.load_field("%step", Item.ROUNDS)
    source = f.gep("%planes", f.load_field("%step", Item.SOURCE))
    table = f.gep("%planes", f.load_field("%step", Item.BITS))
    with f.loop(f.let(f"mul i64 {rounds}, {LOOKUP_BITS}"), step=LANES) as i:
        word = sign_bits(f, f.load(BYTES, f.gep(source, i.index), 1))
        f.store("i64", word, f.gep(table, f.let(f"lshr i64 {i.index}, 3")), 8)
    vectors = range(_VECTORS)
    with f.loop(f.load_field("%step", Item.COUNT), step=_VECTORS * lanes) as i:
        row = f.gep(rows, f.let(f"mul i64 {i.index}, {3 * bits // 8}"))
        place, when, bit = (
            [f.load(kind, f.gep(row, str(64 * (3 * j + c))), 1) for j in vectors] for c in range(3)
        )
        with f.loop(rounds, *((kind, "zeroinitializer") for _ in vectors)) as turn:
            low = f.gep(table, f.let(f"mul i64 {turn.index}, {LOOKUP_BITS // 8}"))
            first, second = (f.load(kind, f.gep(low, str(64 * j)), 8) for j in range(2))
            number = f.let(f"trunc i64 {turn.index} to i{bits}")
            one = f.let(f"insertelement {kind} poison, i{bits} {number}, i64 0")
            zeros = f"<{lanes} x i32> zeroinitializer"
            now = f.let(f"shufflevector {kind} {one}, {kind} poison, {zeros}")
            for j in vectors:
                args = f"{kind} {first}, {kind} {place[j]}, {kind} {second}"
                found = f.let(f"call {kind} {PERMUTES[bits]}({args})")
                mine = f.let(f"icmp eq {kind} {when[j]}, {now}")
                kept = f"{kind} {turn.carried[j]}"
                turn.next.append(f.let(f"select {flags} {mine}, {kind} {found}, {kept}"))
        at = f.gep(out, i.index)
        for j in vectors:
            held = f.let(f"and {kind} {turn.result[j]}, {bit[j]}")
            true = f.let(f"icmp ne {kind} {held}, zeroinitializer")
            cells = f.let(f"sext {flags} {true} to <{lanes} x i8>")
            f.store(f"<{lanes} x i8>", cells, f.gep(at, str(lanes * j)), 1)
    f.emit("ret void")
    return f.text()


def _spread(f: FunctionWriter, word: str) -> str:
    """A vector of copies of an i32."""
    one = f.let(f"insertelement {_DWORDS} poison, i32 {word}, i64 0")
    return f.let(f"shufflevector {_DWORDS} {one}, {_DWORDS} poison, <8 x i32> zeroinitializer")
