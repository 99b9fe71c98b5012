"""The kernels: one function per template, all of the form `void (planes, step, context)`.

A step is a record of 8-byte fields, see `Field`; rows are tables of 32-bit words, plane offsets in
bytes and masks of 0 or -1. So code depends on shapes alone and wiring is data. The context holds
the batch: sample and output pointers, the block's first sample, and an error flag.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.cones import Expr
from lgir.backends.llvm.ir import (
    AND_OR,
    AND_XOR,
    BLOCK,
    MAJORITY,
    ONES,
    OR_XOR,
    PLANE,
    PLANE_BYTES,
    SUM,
    XOR_AND,
    Function,
)

PARAMS: Final = "ptr noalias %planes, ptr noalias readonly %step, ptr noalias %context"
TILE: Final = 64
"""Features packed at a time: one AVX-512 register of bytes."""
MASK_BYTES: Final = TILE * PLANE_BYTES + PLANE_BYTES
"""A tile's masks of one level, padded so that tiles do not share cache sets."""
CHAIN_ROWS: Final = 4
"""Rows of a chain in one round of its loop."""
AHEAD: Final = 8
"""Rows between asking for a tree's leaves and reading them."""
ADDER: Final = 16
"""Planes that one round of the GroupSum adder takes in."""
_ROWS_AT_ONCE: Final = 4
_ENTRY_SHIFT: Final = {True: 2, False: 3}
"""Where a chain's row holds its operation: 16 operations, or 8 of them without a constant term."""


class Field(IntEnum):
    """Fields of a step record; kinds of steps share the numbers."""

    KERNEL = 0
    ROWS = 1
    COUNT = 2
    # cones
    SPACE = 3
    IN_STEP = 6
    OUT_STEP = 9
    COPIES = 12
    SHIFTS = 13
    # chains
    MASKS = 3
    # packing: COUNT is the number of tiles
    FEATURES = 3
    LEVELS = 4
    LEVEL_TABLE = 5
    ALWAYS = 6
    SLOT = 7
    SCRATCH = 8
    TILES_AT_ONCE = 9
    # widening: COUNT is the bytes of a sample
    WIDE_SLOT = 10
    # sums: COUNT is the number of groups; SLOT the output's place in the context
    BITS = 3
    TAU = 4
    BETA = 5
    SIZE = 32


class Context(IntEnum):
    """Fields of the context record; sample and output slots follow."""

    SAMPLES = 0
    START = 1
    ERROR = 2
    SLOTS = 3


def gate_kernel(name: str, fanin: int, table: int | None, *, ternary: bool) -> str:
    """Rows (operand offsets..., output offset): single gates of one table, or, for wide gates,
    rows that end in the table's two halves, evaluated as a multiplexer tree over its bits.
    """
    f = Function(name, PARAMS, ternary=ternary)
    rows, count = f.field("%step", Field.ROWS, "ptr"), f.field("%step", Field.COUNT)
    words = fanin + 1 + (0 if table is not None else 2)
    at_once = _ROWS_AT_ONCE if table is not None else 1
    whole = f.let(f"and i64 {count}, {-at_once}")
    for start, stop, batch in (("0", whole, at_once), (whole, count, 1)):
        with f.loop(stop, step=batch, start=start) as loop:
            row = f.at(rows, f.let(f"mul i64 {loop.index}, {4 * words}"))
            results = []
            for r in range(batch):
                offsets = [f.load_u32(f.at(row, str(4 * (r * words + c)))) for c in range(words)]
                inputs = [f.load_plane("%planes", offsets[c]) for c in range(fanin)]
                if table is not None:
                    value = f.lut(table, inputs)
                else:
                    high = f.let(f"shl i64 {offsets[fanin + 2]}, 32")
                    value = _wide_lut(f, f.let(f"or i64 {offsets[fanin + 1]}, {high}"), inputs)
                results.append((value, offsets[fanin]))
            for value, offset in results:
                f.store_plane(value, "%planes", offset)
        if batch == at_once == 1:
            break
    f.emit("ret void")
    return f.text()


def _wide_lut(f: Function, table: str, inputs: list[str]) -> str:
    """The multiplexer tree of a table held in an i64: bit i as a mask is bit i moved to the sign
    and spread by an arithmetic shift.
    """
    one = f.let(f"insertelement {PLANE} poison, i64 {table}, i64 0")
    spread = f.let(f"shufflevector {PLANE} {one}, {PLANE} poison, <8 x i32> zeroinitializer")
    layer = []
    for i in range(1 << len(inputs)):
        top = f.op("shl", spread, f"splat (i64 {63 - i})")
        layer.append(f.op("ashr", top, "splat (i64 63)"))
    for x in reversed(inputs):
        layer = [f.select(x, layer[i + 1], layer[i]) for i in range(0, len(layer), 2)]
    return layer[0]


def chain_kernel(name: str, constant: bool, *, ternary: bool) -> str:
    """Rows (offset of the current plane, output offset): gates that share an operand with the row
    before, of any operation, COUNT being a multiple of CHAIN_ROWS.

    The low six bits of an offset are free and name the operation: an entry of the table at MASKS,
    64 bytes that repeat four masks of its algebraic normal form, f = ab(1-m1) + a(m1+m3) + b m2 +
    m4. Without `constant`, m4 is 0 in every row and left out. Loads of whole vectors are what
    limits, so two masks are taken from one load by shuffles.
    """
    f = Function(name, PARAMS, ternary=ternary)
    rows, count = f.field("%step", Field.ROWS, "ptr"), f.field("%step", Field.COUNT)
    masks = f.field("%step", Field.MASKS, "ptr")
    shift = _ENTRY_SHIFT[constant]
    with f.loop(count, (PLANE, "zeroinitializer"), step=CHAIN_ROWS) as loop:
        row = f.at(rows, f.let(f"mul i64 {loop.index}, 8"))
        (before,) = loop.carried
        for r in range(CHAIN_ROWS):
            word = f.load_u32(f.at(row, str(8 * r)))
            low = f.let(f"and i64 {word}, {63 >> shift << shift}")
            entry = f.at(masks, f.let(f"shl i64 {low}, {6 - shift}"))
            m1, m2 = f.splat_two(entry)
            m3, m4 = (f.broadcast(f.load("i32", f.at(entry, str(4 * i)), 4)) for i in (2, 3))
            current = f.load_plane("%planes", f.let(f"and i64 {word}, -64"))
            value = f.ternary(before, current, m1, AND_OR)
            value = f.ternary(value, current, m2, XOR_AND)
            value = f.ternary(value, before, m3, XOR_AND)
            out = f.load_u32(f.at(row, str(8 * r + 4)))
            f.store_plane(f.op("xor", value, m4) if constant else value, "%planes", out)
            before = current
        loop.next = [before]
    f.emit("ret void")
    return f.text()


def chain_words(
    offsets: npt.NDArray[np.uint32], tables: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32], bool]:
    """Rows of a chain, (n, 2) offsets with their operations in the low bits; the mask table, 64
    bytes an entry; and whether any gate has a constant term, see `chain_kernel`.
    """
    constant = bool((tables & 1).any())
    entries = np.arange(16) if constant else np.arange(0, 16, 2)
    words = offsets.copy()
    index = tables if constant else tables >> 1
    words[: len(tables), 0] |= (index << _ENTRY_SHIFT[constant]).astype(np.uint32)
    f0, f1, f2, f3 = ((entries >> i & 1).astype(bool) for i in range(4))
    single = ~(f0 ^ f1 ^ f2 ^ f3)
    masks = np.stack([single, f0 ^ f1, f0 ^ f2 ^ single, f0] * 4, axis=1)
    # On a cache line each: an entry that straddles two would cost two loads.
    room = np.empty(masks.size + 16, np.uint32)
    table = room[-room.ctypes.data % PLANE_BYTES // 4 :][: masks.size].reshape(masks.shape)
    table[:] = np.where(masks, np.uint32(0xFFFF_FFFF), np.uint32(0))
    return words, table, constant


def cone_kernel(name: str, expr: Expr, *, ternary: bool) -> str:
    """Rows (leaf offsets..., output offset, masks...): a tree looped over positions, and at each
    over the shifted copies that a pool ORs.

    Leaf pointers and masks are loaded once a row. The copies are a loop and not unrolled: with the
    loads of several trees in flight, LLVM's scheduler spills masks to the stack.
    """
    f = Function(name, PARAMS, ternary=ternary)
    kinds, masks = expr.leaves(), expr.num_masks() + 1
    words = len(kinds) + 1 + masks
    rows, count = f.field("%step", Field.ROWS, "ptr"), f.field("%step", Field.COUNT)
    space = [f.field("%step", Field.SPACE + i) for i in range(3)]
    in_step = [f.field("%step", Field.IN_STEP + i) for i in range(3)]
    out_step = [f.field("%step", Field.OUT_STEP + i) for i in range(3)]
    copies = f.field("%step", Field.COPIES)
    shifts = f.at("%step", str(8 * Field.SHIFTS))
    with f.loop(count) as row_loop:
        row = f.at(rows, f.let(f"mul i64 {row_loop.index}, {4 * words}"))
        word = [f.at(row, str(4 * i)) for i in range(words)]
        leaves = [f.at("%planes", f.load_u32(word[i])) for i in range(len(kinds))]
        out = f.at("%planes", f.load_u32(word[len(kinds)]))
        mask = [f.broadcast(f.load("i32", w, 4)) for w in word[len(kinds) + 1 :]]
        with f.loop(space[0]) as z, f.loop(space[1]) as y:
            in_row = _walk(f, in_step[0], z.index, in_step[1], y.index)
            out_row = _walk(f, out_step[0], z.index, out_step[1], y.index)
            with f.loop(space[2], ("i64", in_row), ("i64", out_row)) as x:
                at_in, at_out = x.carried
                with f.loop(copies, (PLANE, "zeroinitializer")) as copy:
                    shift = f.load("i64", f.at(shifts, f.let(f"mul i64 {copy.index}, 8")), 8)
                    place = {"tap": f.let(f"add i64 {at_in}, {shift}"), "cut": at_out}
                    pending = list(zip(kinds, leaves, strict=True))
                    value = _tree(f, expr, pending, list(mask), place)
                    copy.next = [f.ternary(copy.carried[0], value, mask[-1], OR_XOR)]
                f.store_plane(copy.result[0], out, at_out)
                x.next = [
                    f.let(f"add i64 {at_in}, {in_step[2]}"),
                    f.let(f"add i64 {at_out}, {out_step[2]}"),
                ]
    f.emit("ret void")
    return f.text()


def tree_kernel(name: str, expr: Expr, *, ternary: bool) -> str:
    """Rows as a cone's, evaluated once each: a forest whose leaves are spread over more than the
    near caches, so each row asks for the leaves of a row AHEAD of it. The table must go on for so
    many rows.
    """
    f = Function(name, PARAMS, ternary=ternary)
    kinds, masks = expr.leaves(), expr.num_masks() + 1
    words = len(kinds) + 1 + masks
    rows, count = f.field("%step", Field.ROWS, "ptr"), f.field("%step", Field.COUNT)
    with f.loop(count) as loop:
        row = f.at(rows, f.let(f"mul i64 {loop.index}, {4 * words}"))
        for i in range(len(kinds)):
            leaf = f.load_u32(f.at(row, str(4 * (AHEAD * words + i))))
            args = f"ptr {f.at('%planes', leaf)}, i32 0, i32 3, i32 1"
            f.emit(f"call void @llvm.prefetch.p0({args})")
        word = [f.at(row, str(4 * i)) for i in range(words)]
        leaves = [
            (kind, f.at("%planes", f.load_u32(w))) for kind, w in zip(kinds, word, strict=False)
        ]
        mask = [f.broadcast(f.load("i32", w, 4)) for w in word[len(kinds) + 1 :]]
        value = _tree(f, expr, leaves, list(mask), {"tap": "0", "cut": "0"})
        out = f.load_u32(word[len(kinds)])
        f.store_plane(f.op("xor", value, mask[-1]), "%planes", out)
    f.emit("ret void")
    return f.text()


def _walk(f: Function, step_a: str, a: str, step_b: str, b: str) -> str:
    return f.let(f"add i64 {f.let(f'mul i64 {step_a}, {a}')}, {f.let(f'mul i64 {step_b}, {b}')}")


def _tree(
    f: Function,
    expr: Expr,
    leaves: list[tuple[str, str]],
    masks: list[str],
    position: dict[str, str],
) -> str:
    """Consumes leaves and masks in the template's order; see `Expr.num_masks`."""
    if not expr.args:
        kind, pointer = leaves.pop(0)
        return f.load_plane(pointer, position[kind])
    inputs = [_tree(f, a, leaves, masks, position) for a in expr.args]
    if expr.kind == "xor":
        return f.op("xor", *inputs)
    if expr.kind == "and":
        a, b = inputs
        m1, m2 = masks.pop(0), masks.pop(0)
        return f.ternary(f.ternary(a, b, m1, AND_XOR), b, m2, XOR_AND)
    layer = [masks.pop(0) for _ in range(1 << len(inputs))]
    for x in reversed(inputs):
        layer = [f.select(x, layer[i + 1], layer[i]) for i in range(0, len(layer), 2)]
    return layer[0]


def pack_kernel(name: str, dtype: str, check: bool, *, ternary: bool) -> str:
    """Samples (n, features) to planes, thresholds fused in: bit = x > level.

    Each row of 64 features is compared at once to a 64-bit mask; the masks of samples s, s+64, ...
    share a vector, and the 64 vectors of a tile are transposed as a 64x64 bit matrix (Hacker's
    Delight, 7-3), whose rows then are whole planes. Eight samples are read side by side, so that
    memory sees eight sequential streams, and masks are held for a few tiles at a time. With
    `check`, the error flag is set where a bit input is neither 0 nor 1, or a number is NaN.
    `dtype` is "u8", "f32", "f32_bits" (floats for a bit input) or "bits" (masks already).
    """
    f = Function(name, PARAMS, ternary=ternary)
    size = 1 if dtype == "u8" else 4
    packed = dtype == "bits"
    table = f.field("%step", Field.ROWS, "ptr")
    tiles, features = f.field("%step", Field.COUNT), f.field("%step", Field.FEATURES)
    levels, level_table = f.field("%step", Field.LEVELS), f.field("%step", Field.LEVEL_TABLE, "ptr")
    always, slot = f.field("%step", Field.ALWAYS, "ptr"), f.field("%step", Field.SLOT)
    buffer = f.at("%planes", f.field("%step", Field.SCRATCH))
    at_once = f.field("%step", Field.TILES_AT_ONCE)
    start = f.field("%context", Context.START)
    batch = f.field("%context", Context.SAMPLES)
    where = f.at("%context", f.let(f"mul i64 {slot}, 8"))
    samples, stride = f.load("ptr", where, 8), f.load("i64", f.at(where, "8"), 8)
    first = f.at(samples, f.let(f"mul i64 {start}, {stride}"))
    left = f.let(f"sub i64 {batch}, {start}")
    last = f.let(f"add i64 {f.let(f'call i64 @llvm.smin.i64(i64 {left}, i64 {BLOCK})')}, -1")
    last_tile = f.let(f"sub i64 {features}, {TILE}")
    bad = f.let("alloca i64, align 8")
    f.store("i64", "0", bad, 8)

    def column_of(tile: str) -> str:
        """First feature of a tile; the last tile overlaps its neighbour rather than run over."""
        wanted = f.let(f"mul i64 {tile}, {TILE}")
        return f.let(f"call i64 @llvm.smin.i64(i64 {wanted}, i64 {last_tile})")

    def masks_of(tile: str, chunk: str, level: str) -> str:
        """Where the masks of a tile and level are held."""
        local = f.let(f"mul i64 {f.let(f'sub i64 {tile}, {chunk}')}, {levels}")
        return f.at(buffer, f.let(f"mul i64 {f.let(f'add i64 {local}, {level}')}, {MASK_BYTES}"))

    with f.loop(tiles, step=at_once) as chunk:
        end = f.let(f"add i64 {chunk.index}, {at_once}")
        stop = f.let(f"call i64 @llvm.smin.i64(i64 {end}, i64 {tiles})")
        with f.loop(str(TILE)) as s:
            rows = []
            for group in range(8):
                r = f.let(f"add i64 {s.index}, {group * TILE}")
                safe = f.let(f"call i64 @llvm.smin.i64(i64 {r}, i64 {last})")
                rows.append(f.at(first, f.let(f"mul i64 {safe}, {stride}")))
            line = f.let(f"mul i64 {s.index}, {PLANE_BYTES}")
            with f.loop(stop, start=chunk.index) as tile:
                column = column_of(tile.index)
                at = f.let(f"lshr i64 {column}, 3" if packed else f"mul i64 {column}, {size}")
                values = [_load_tile(f, f.at(row, at), dtype) for row in rows]
                if check:
                    wrong = f.load("i64", bad, 8)
                    for value in values:
                        wrong = f.let(f"or i64 {wrong}, {_wrong(f, value, dtype)}")
                    f.store("i64", wrong, bad, 8)
                if packed:  # masks as they are, of one level
                    cell = f.at(masks_of(tile.index, chunk.index, "0"), line)
                    for group, value in enumerate(values):
                        f.store("i64", value[0], f.at(cell, str(8 * group)), 8)
                else:
                    with f.loop(levels) as level:
                        base = f.let(f"mul i64 {level.index}, {features}")
                        base = f.let(f"add i64 {base}, {column}")
                        limit = f.at(level_table, f.let(f"mul i64 {base}, {size}"))
                        threshold = _load_tile(f, limit, dtype)
                        index = f.let(f"mul i64 {level.index}, {tiles}")
                        index = f.let(f"shl i64 {f.let(f'add i64 {index}, {tile.index}')}, 3")
                        forced = f.load("i64", f.at(always, index), 8)
                        cell = f.at(masks_of(tile.index, chunk.index, level.index), line)
                        for group, value in enumerate(values):
                            mask = _compare(f, value, threshold, dtype)
                            mask = f.let(f"or i64 {mask}, {forced}")
                            f.store("i64", mask, f.at(cell, str(8 * group)), 8)
        with f.loop(stop, start=chunk.index) as tile:
            column = column_of(tile.index)
            with f.loop(levels) as level:
                base = f.let(f"add i64 {f.let(f'mul i64 {level.index}, {features}')}, {column}")
                masks = masks_of(tile.index, chunk.index, level.index)
                _transpose(f, masks, f.at(table, f.let(f"mul i64 {base}, 4")))
    if check:
        flag = f.at("%context", str(8 * Context.ERROR))
        f.store("i64", f.let(f"or i64 {f.load('i64', flag, 8)}, {f.load('i64', bad, 8)}"), flag, 8)
    f.emit("ret void")
    return f.text()


def widen_kernel(name: str, size: int, *, ternary: bool) -> str:
    """A block's samples of COUNT bytes copied to rows of TILE elements of `size` bytes, the rest
    zeros: so that the packer, which reads whole tiles, does not read past a narrow sample. The
    context's WIDE_SLOT then names the copies.
    """
    f = Function(name, PARAMS, ternary=ternary)
    count, start = f.field("%step", Field.COUNT), f.field("%context", Context.START)
    where = f.at("%context", f.let(f"mul i64 {f.field('%step', Field.SLOT)}, 8"))
    samples, stride = f.load("ptr", where, 8), f.load("i64", f.at(where, "8"), 8)
    first = f.at(samples, f.let(f"mul i64 {start}, {stride}"))
    left = f.let(f"sub i64 {f.field('%context', Context.SAMPLES)}, {start}")
    valid = f.let(f"call i64 @llvm.smin.i64(i64 {left}, i64 {BLOCK})")
    copies = f.at("%planes", f.field("%step", Field.SCRATCH))
    with f.loop(valid) as s:
        row = f.at(copies, f.let(f"mul i64 {s.index}, {TILE * size}"))
        for part in range(size):
            f.store("<64 x i8>", "zeroinitializer", f.at(row, str(TILE * part)), TILE)
        sample = f.at(first, f.let(f"mul i64 {s.index}, {stride}"))
        args = f"ptr {row}, ptr {sample}, i64 {count}, i1 false"
        f.emit(f"call void @llvm.memcpy.p0.p0.i64({args})")
    # The packer adds the block's start to what the context names.
    wide = f.at("%context", f.let(f"mul i64 {f.field('%step', Field.WIDE_SLOT)}, 8"))
    back = f.let(f"mul i64 {start}, {-TILE * size}")
    f.store("ptr", f.at(copies, back), wide, 8)
    f.store("i64", str(TILE * size), f.at(wide, "8"), 8)
    f.emit("ret void")
    return f.text()


def _load_tile(f: Function, pointer: str, dtype: str) -> list[str]:
    """64 features: one word of bits, one vector of bytes, or four of floats."""
    if dtype == "bits":
        return [f.load("i64", pointer, 1)]
    if dtype == "u8":
        return [f.load("<64 x i8>", pointer, 1)]
    return [f.load("<16 x float>", f.at(pointer, str(64 * i)), 1) for i in range(4)]


def _compare(f: Function, x: list[str], level: list[str], dtype: str) -> str:
    if dtype == "u8":
        return _mask(f, [f.let(f"icmp ugt <64 x i8> {x[0]}, {level[0]}")])
    return _mask(
        f, [f.let(f"fcmp ogt <16 x float> {a}, {b}") for a, b in zip(x, level, strict=True)]
    )


def _wrong(f: Function, x: list[str], dtype: str) -> str:
    """A mask of features that a check rejects: bits other than 0 and 1, or NaN for "f32"."""
    if dtype == "u8":
        return _mask(f, [f.let(f"icmp ugt <64 x i8> {x[0]}, splat (i8 1)")])
    if dtype == "f32":
        return _mask(f, [f.let(f"fcmp uno <16 x float> {a}, {a}") for a in x])
    bits = []
    for a in x:
        zero = f.let(f"fcmp une <16 x float> {a}, zeroinitializer")
        one = f.let(f"fcmp une <16 x float> {a}, splat (float 1.0)")
        bits.append(f.let(f"and <16 x i1> {zero}, {one}"))
    return _mask(f, bits)


def _mask(f: Function, parts: list[str]) -> str:
    """Vectors of i1, 64 in all, as an i64, the first lane the lowest bit."""
    if len(parts) == 1:
        return f.let(f"bitcast <64 x i1> {parts[0]} to i64")
    mask = ""
    for i, part in enumerate(parts):
        word = f.let(f"zext i16 {f.let(f'bitcast <16 x i1> {part} to i16')} to i64")
        word = f.let(f"shl i64 {word}, {16 * i}") if i else word
        mask = f.let(f"or i64 {mask}, {word}") if mask else word
    return mask


def _transpose(f: Function, buffer: str, table: str) -> None:
    """64 vectors of masks to 64 planes, stored where `table` says: two passes of eight vectors."""
    with f.loop("8") as g:
        base = f.at(buffer, f.let(f"mul i64 {g.index}, {PLANE_BYTES}"))
        cells = [f.at(base, str(8 * PLANE_BYTES * i)) for i in range(8)]
        rows = [f.load(PLANE, c, PLANE_BYTES) for c in cells]
        for distance, reach in ((4, 32), (2, 16), (1, 8)):
            rows = _exchange(f, rows, distance, reach)
        for row, cell in zip(rows, cells, strict=True):
            f.store(PLANE, row, cell, PLANE_BYTES)
    with f.loop("8") as g:
        base = f.at(buffer, f.let(f"mul i64 {g.index}, {8 * PLANE_BYTES}"))
        rows = [f.load(PLANE, f.at(base, str(PLANE_BYTES * i)), PLANE_BYTES) for i in range(8)]
        for distance, reach in ((4, 4), (2, 2), (1, 1)):
            rows = _exchange(f, rows, distance, reach)
        entry = f.at(table, f.let(f"mul i64 {g.index}, 32"))
        for i, row in enumerate(rows):
            f.store_plane(row, "%planes", f.load_u32(f.at(entry, str(4 * i))))


def _exchange(f: Function, rows: list[str], distance: int, reach: int) -> list[str]:
    """Swap the off-diagonal blocks of side `reach` between rows `distance` apart."""
    low = sum(1 << i for i in range(64) if not i & reach)
    low -= (low >> 63) << 64
    keep = f"splat (i64 {low})"
    out = list(rows)
    for i in range(8):
        if not i & distance:
            a, b = rows[i], rows[i + distance]
            up, down = (
                f.op("shl", b, f"splat (i64 {reach})"),
                f.op("lshr", a, f"splat (i64 {reach})"),
            )
            out[i], out[i + distance] = f.select(keep, a, up), f.select(keep, down, b)
    return out


def sum_kernel(name: str, bits: int, *, ternary: bool) -> str:
    """Class scores: each group's planes are counted by carry-save adders (Harley-Seal), then the
    `bits` planes of the count are spread to integers and finished in float32.
    """
    f = Function(name, PARAMS, ternary=ternary)
    rows, groups = f.field("%step", Field.ROWS, "ptr"), f.field("%step", Field.COUNT)
    per_group, slot = f.field("%step", Field.BITS), f.field("%step", Field.SLOT)
    tau, beta = f.field("%step", Field.TAU, "float"), f.field("%step", Field.BETA, "float")
    start = f.field("%context", Context.START)
    left = f.let(f"sub i64 {f.field('%context', Context.SAMPLES)}, {start}")
    valid = f.let(f"call i64 @llvm.smin.i64(i64 {left}, i64 {BLOCK})")
    results = f.load("ptr", f.at("%context", f.let(f"mul i64 {slot}, 8")), 8)
    row_bytes = f.let(f"mul i64 {groups}, 4")
    results = f.at(results, f.let(f"mul i64 {start}, {row_bytes}"))
    counts = f.let(f"alloca [{bits * PLANE_BYTES} x i8], align {PLANE_BYTES}")
    scores = f.let(f"alloca [{BLOCK * 4} x i8], align {PLANE_BYTES}")
    tau_v, beta_v = _splat_float(f, tau), _splat_float(f, beta)
    with f.loop(groups) as g:
        table = f.at(rows, f.let(f"mul i64 {f.let(f'mul i64 {g.index}, {per_group}')}, 4"))
        zeros = [(PLANE, "zeroinitializer")] * bits
        with f.loop(per_group, *zeros, step=ADDER) as loop:
            entry = f.at(table, f.let(f"mul i64 {loop.index}, 4"))
            layer = [
                f.load_plane("%planes", f.load_u32(f.at(entry, str(4 * i)))) for i in range(ADDER)
            ]
            for bit, count in enumerate(loop.carried):
                carries = []
                while len(layer) > 1:
                    a, b, layer = layer[0], layer[1], layer[2:]
                    carries.append(f.ternary(a, b, count, MAJORITY))
                    count = f.ternary(a, b, count, SUM)
                if layer:
                    if bit + 1 < bits:
                        carries.append(f.op("and", count, layer[0]))
                    count = f.op("xor", count, layer[0])
                loop.next.append(count)
                layer = carries
        for i, count in enumerate(loop.result):
            f.store(PLANE, count, f.at(counts, str(i * PLANE_BYTES)), PLANE_BYTES)
        with f.loop(str(BLOCK // 16)) as part:
            cell = f.at(counts, f.let(f"mul i64 {part.index}, 2"))
            total = "zeroinitializer"
            for i in range(bits):
                word = f.load("i16", f.at(cell, str(i * PLANE_BYTES)), 2)
                lanes = f.let(f"bitcast i16 {word} to <16 x i1>")
                weight = f.let(
                    f"select <16 x i1> {lanes}, <16 x i32> splat (i32 {1 << i}), "
                    "<16 x i32> zeroinitializer"
                )
                total = f.let(f"or <16 x i32> {total}, {weight}")
            number = f.let(f"uitofp <16 x i32> {total} to <16 x float>")
            shifted = f.let(f"fadd <16 x float> {number}, {beta_v}")
            score = f.let(f"fdiv <16 x float> {shifted}, {tau_v}")
            f.store("<16 x float>", score, f.at(scores, f.let(f"mul i64 {part.index}, 64")), 64)
        column = f.at(results, f.let(f"mul i64 {g.index}, 4"))
        with f.loop(valid) as s:
            one = f.load("float", f.at(scores, f.let(f"mul i64 {s.index}, 4")), 4)
            f.store("float", one, f.at(column, f.let(f"mul i64 {s.index}, {row_bytes}")), 4)
    f.emit("ret void")
    return f.text()


def _splat_float(f: Function, value: str) -> str:
    one = f.let(f"insertelement <16 x float> poison, float {value}, i64 0")
    return f.let(
        f"shufflevector <16 x float> {one}, <16 x float> poison, <16 x i32> zeroinitializer"
    )


def export_kernel(name: str, *, ternary: bool) -> str:
    """Planes copied to the output as (blocks, elements, 512 bits)."""
    f = Function(name, PARAMS, ternary=ternary)
    rows, count = f.field("%step", Field.ROWS, "ptr"), f.field("%step", Field.COUNT)
    slot, start = f.field("%step", Field.SLOT), f.field("%context", Context.START)
    results = f.load("ptr", f.at("%context", f.let(f"mul i64 {slot}, 8")), 8)
    block = f.let(f"mul i64 {f.let(f'sdiv i64 {start}, {BLOCK}')}, {count}")
    out = f.at(results, f.let(f"mul i64 {block}, {PLANE_BYTES}"))
    with f.loop(count) as i:
        offset = f.load_u32(f.at(rows, f.let(f"mul i64 {i.index}, 4")))
        value = f.load_plane("%planes", offset)
        target = f.at(out, f.let(f"mul i64 {i.index}, {PLANE_BYTES}"))
        f.store(PLANE, value, target, 1)
    f.emit("ret void")
    return f.text()


def export_bytes_kernel(name: str, *, ternary: bool) -> str:
    """Planes to the output as bytes 0 and 1, (samples, elements)."""
    f = Function(name, PARAMS, ternary=ternary)
    rows, count = f.field("%step", Field.ROWS, "ptr"), f.field("%step", Field.COUNT)
    slot, start = f.field("%step", Field.SLOT), f.field("%context", Context.START)
    left = f.let(f"sub i64 {f.field('%context', Context.SAMPLES)}, {start}")
    valid = f.let(f"call i64 @llvm.smin.i64(i64 {left}, i64 {BLOCK})")
    results = f.load("ptr", f.at("%context", f.let(f"mul i64 {slot}, 8")), 8)
    out = f.at(results, f.let(f"mul i64 {start}, {count}"))
    with f.loop(count) as i:
        plane = f.at("%planes", f.load_u32(f.at(rows, f.let(f"mul i64 {i.index}, 4"))))
        column = f.at(out, i.index)
        with f.loop(valid) as s:
            byte = f.load("i8", f.at(plane, f.let(f"lshr i64 {s.index}, 3")), 1)
            lane = f.let(f"trunc i64 {f.let(f'and i64 {s.index}, 7')} to i8")
            bit = f.let(f"and i8 {f.let(f'lshr i8 {byte}, {lane}')}, 1")
            f.store("i8", bit, f.at(column, f.let(f"mul i64 {s.index}, {count}")), 1)
    f.emit("ret void")
    return f.text()


def run_kernel() -> str:
    """`lgir_run`: for each block of samples in [start, stop), every step in order."""
    params = "ptr %steps, i64 %count, ptr %context, ptr %planes, i64 %start, i64 %stop"
    f = Function("lgir_run", params, ternary=False)
    f.store(PLANE, "zeroinitializer", "%planes", PLANE_BYTES)
    f.store(PLANE, ONES, f.at("%planes", str(PLANE_BYTES)), PLANE_BYTES)
    with f.loop("%stop", step=BLOCK, start="%start") as block:
        f.store("i64", block.index, f.at("%context", str(8 * Context.START)), 8)
        with f.loop("%count") as i:
            step = f.at("%steps", f.let(f"mul i64 {i.index}, {8 * Field.SIZE}"))
            kernel = f.load("ptr", step, 8)
            f.emit(f"call void {kernel}(ptr %planes, ptr {step}, ptr %context)")
    f.emit("ret void")
    return f.text()
