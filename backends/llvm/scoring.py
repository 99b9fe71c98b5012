"""The kernels that turn planes into what the caller gets: class scores, labels, or bits.

A bit-sliced count is 8, 16 or 32 planes. 64 planes, a tile of the counts of some groups, are
transposed as matrices of bits: the words that result are rows of numbers, sample by sample.
"""

from __future__ import annotations

from typing import Final

from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.counting import add_planes
from lgir.backends.llvm.llvm_text import BLOCK, GREATER, PLANE, PLANE_BYTES, FunctionWriter
from lgir.backends.llvm.records import KERNEL_PARAMS, Field
from lgir.backends.llvm.transpose import (
    BITS,
    exchange,
    exchange_far,
    exchange_words,
    load_rows,
    store_rows,
)

TILE: Final = 64
"""Planes transposed at a time, those of a word."""


def count_lanes(bits: int) -> int:
    """Planes that a count of `bits` planes takes in a tile."""
    return max(8, 1 << (bits - 1).bit_length())


def sum_bytes(bits: int, groups: int) -> int:
    """The room that `sum_kernel` needs, for counts, a tile, and a tile's numbers for 512 samples,
    and `label_kernel`, for a count and a tile twice.
    """
    lanes = count_lanes(bits)
    in_tile = TILE // lanes
    sums = (max(groups, in_tile) * lanes + TILE) * PLANE_BYTES + in_tile * BLOCK * 4
    return max(sums, (bits + 2 * TILE) * PLANE_BYTES)


def sum_kernel(name: str, bits: int, scores: bool, *, ternary: bool) -> str:
    """Class scores in float32, (samples, groups), or without `scores` counts in int32, from a row a
    group as `add_planes` takes it, with counts of `bits` planes.

    The last tile overlaps its neighbour rather than run over; where groups or samples are fewer
    than a tile holds, numbers go to the scratch room first.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    lanes = count_lanes(bits)
    in_tile = TILE // lanes
    rows, groups = f.load_field("%step", Field.ROWS, "ptr"), f.load_field("%step", Field.COUNT)
    per_group = f.load_field("%step", Field.BITS)
    scale = [
        _splat(f, f.load_field("%step", x, "float")) for x in (Field.BETA, Field.TAU) if scores
    ]
    first, valid = _output(f, f.let(f"mul i64 {groups}, 4"))
    counts = f.gep("%planes", f.load_field("%step", Field.SCRATCH))
    columns = f.let(f"call i64 @llvm.smin.i64(i64 {groups}, i64 {in_tile})")
    last = f.let(f"sub i64 {groups}, {columns}")
    held = f.let(f"add i64 {last}, {in_tile}")
    tile = f.gep(counts, f.let(f"mul i64 {held}, {lanes * PLANE_BYTES}"))
    aside = f.gep(tile, str(TILE * PLANE_BYTES))
    words = f.let(f"add i64 {per_group}, {bits}")
    enough = f.let(f"icmp sge i64 {groups}, {in_tile}")
    whole = f.let(f"and i1 {enough}, {f.let(f'icmp eq i64 {valid}, {BLOCK}')}")
    row_bytes = f.let(f"mul i64 {groups}, 4")
    apart = f.let(f"select i1 {whole}, i64 {row_bytes}, i64 {4 * in_tile}")
    spread = [f.let(f"mul i64 {apart}, {BLOCK // 8 * w}") for w in range(8)]
    left = f.let(f"select i1 {whole}, i64 0, i64 {valid}")
    with f.loop(groups, step=in_tile) as chunk:
        end = f.let(f"add i64 {chunk.index}, {in_tile}")
        end = f.let(f"call i64 @llvm.smin.i64(i64 {end}, i64 {groups})")
        with f.loop(end, start=chunk.index) as g:
            table = f.gep(rows, f.let(f"mul i64 {f.let(f'mul i64 {g.index}, {words}')}, 4"))
            total = add_planes(f, table, per_group, bits)
            cell = f.gep(counts, f.let(f"mul i64 {g.index}, {lanes * PLANE_BYTES}"))
            for i in range(lanes):
                plane = total[i] if i < bits else "zeroinitializer"
                f.store(PLANE, plane, f.gep(cell, str(i * PLANE_BYTES)), PLANE_BYTES)
        group = f.let(f"call i64 @llvm.smin.i64(i64 {chunk.index}, i64 {last})")
        column = f.gep(first, f.let(f"shl i64 {group}, 2"))
        target = f.let(f"select i1 {whole}, ptr {column}, ptr {aside}")
        source = f.gep(counts, f.let(f"mul i64 {group}, {lanes * PLANE_BYTES}"))
        exchange_far(f, source, tile)
        with f.loop("8") as g:
            at = f.gep(tile, f.let(f"mul i64 {g.index}, {8 * PLANE_BYTES}"))
            sample = f.gep(target, f.let(f"mul i64 {f.let(f'mul i64 {g.index}, 8')}, {apart}"))
            for row in exchange(f, load_rows(f, at, PLANE_BYTES), BITS):
                places = [f.gep(sample, offset) for offset in spread]
                _store_numbers(f, row, lanes, scale, places)
                sample = f.gep(sample, apart)
        with f.loop(left) as s:
            numbers = f.gep(aside, f.let(f"mul i64 {s.index}, {4 * in_tile}"))
            place = f.gep(first, f.let(f"mul i64 {s.index}, {row_bytes}"))
            with f.loop(columns) as c:
                at = f.let(f"shl i64 {c.index}, 2")
                to = f.gep(place, f.let(f"add i64 {at}, {f.let(f'shl i64 {group}, 2')}"))
                f.store("i32", f.load("i32", f.gep(numbers, at), 4), to, 4)
    f.emit("ret void")
    return f.text()


def label_kernel(name: str, bits: int, label_bits: int, *, ternary: bool) -> str:
    """Class labels in int64, (samples,): the first group of the highest count, from rows as
    `sum_kernel` takes them. Counts are compared in planes, and what is spread are labels alone.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, groups = f.load_field("%step", Field.ROWS, "ptr"), f.load_field("%step", Field.COUNT)
    per_group = f.load_field("%step", Field.BITS)
    first, valid = _output(f, "8")
    words = f.let(f"add i64 {per_group}, {bits}")
    best = f.gep("%planes", f.load_field("%step", Field.SCRATCH))
    labels = f.gep(best, str(bits * PLANE_BYTES))
    ordered = f.gep(labels, str(TILE * PLANE_BYTES))
    for i in range(bits + TILE):
        f.store(PLANE, "zeroinitializer", f.gep(best, str(i * PLANE_BYTES)), PLANE_BYTES)
    with f.loop(groups) as g:
        table = f.gep(rows, f.let(f"mul i64 {f.let(f'mul i64 {g.index}, {words}')}, 4"))
        count = add_planes(f, table, per_group, bits)
        highest = [f.load_plane(best, str(i * PLANE_BYTES)) for i in range(bits)]
        above = "zeroinitializer"
        for new, old in zip(count, highest, strict=True):
            above = f.ternary(new, old, above, GREATER)
        for i, (new, old) in enumerate(zip(count, highest, strict=True)):
            f.store_plane(f.select(above, new, old), best, str(i * PLANE_BYTES))
        number = f.let(f"trunc i64 {g.index} to i32")
        for i in range(label_bits):
            bit = f.let(f"and i32 {f.let(f'lshr i32 {number}, {i}')}, 1")
            mine = f.broadcast(f.let(f"sub i32 0, {bit}"))
            old = f.load_plane(labels, str(i * PLANE_BYTES))
            f.store_plane(f.select(above, mine, old), labels, str(i * PLANE_BYTES))
    exchange_far(f, labels, labels)
    # Row 8g + i holds the labels of samples 8g + i, 64 + 8g + i, ...: their words change places.
    with f.loop("8") as g:
        at = f.gep(labels, f.let(f"mul i64 {g.index}, {8 * PLANE_BYTES}"))
        in_order = exchange_words(f, exchange(f, load_rows(f, at, PLANE_BYTES), BITS))
        eight = f.gep(ordered, f.let(f"mul i64 {g.index}, {PLANE_BYTES}"))
        store_rows(f, in_order, eight, 8 * PLANE_BYTES)
    size = f.let(f"shl i64 {valid}, 3")
    args = f"ptr {first}, ptr {ordered}, i64 {size}, i1 false"
    f.emit(f"call void @llvm.memcpy.p0.p0.i64({args})")
    f.emit("ret void")
    return f.text()


def _output(f: FunctionWriter, sample_bytes: str) -> tuple[str, str]:
    """Where the block's results go, and how many of its samples there are."""
    start = f.load_field("%context", ContextWord.START)
    left = f.let(f"sub i64 {f.load_field('%context', ContextWord.SAMPLES)}, {start}")
    valid = f.let(f"call i64 @llvm.smin.i64(i64 {left}, i64 {BLOCK})")
    slot = f.let(f"mul i64 {f.load_field('%step', Field.SLOT)}, 8")
    results = f.load("ptr", f.gep("%context", slot), 8)
    return f.gep(results, f.let(f"mul i64 {start}, {sample_bytes}")), valid


def _store_numbers(
    f: FunctionWriter, row: str, lanes: int, scale: list[str], places: list[str]
) -> None:
    """A row of eight words, each the counts of one sample in `lanes` bits, to the places of these
    samples: as integers, or as floats (count + scale[0]) / scale[1].
    """
    in_word = TILE // lanes
    kind = "float" if scale else "i32"
    number = f.let(f"bitcast {PLANE} {row} to <{8 * in_word} x i{lanes}>")
    for part in range(in_word // 2):
        few = _lanes(f, number, f"i{lanes}", 8 * in_word, 16 * part, 16)
        if lanes < 32:
            few = f.let(f"zext <16 x i{lanes}> {few} to <16 x i32>")
        if scale:
            few = f.let(f"sitofp <16 x i32> {few} to <16 x float>")
            few = f.let(f"fadd <16 x float> {few}, {scale[0]}")
            few = f.let(f"fdiv <16 x float> {few}, {scale[1]}")
        for i in range(16 // in_word):
            one = _lanes(f, few, kind, 16, i * in_word, in_word)
            f.store(f"<{in_word} x {kind}>", one, places[part * 16 // in_word + i], 4)


def _lanes(f: FunctionWriter, vector: str, kind: str, size: int, first: int, count: int) -> str:
    if count == size:
        return vector
    picked = ", ".join(f"i32 {first + i}" for i in range(count))
    whole = f"<{size} x {kind}>"
    return f.let(f"shufflevector {whole} {vector}, {whole} poison, <{count} x i32> <{picked}>")


def _splat(f: FunctionWriter, value: str) -> str:
    one = f.let(f"insertelement <16 x float> poison, float {value}, i64 0")
    return f.let(
        f"shufflevector <16 x float> {one}, <16 x float> poison, <16 x i32> zeroinitializer"
    )


def export_kernel(name: str, *, ternary: bool) -> str:
    """Planes copied to the output as (blocks, elements, 512 bits)."""
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, count = f.load_field("%step", Field.ROWS, "ptr"), f.load_field("%step", Field.COUNT)
    slot, start = f.load_field("%step", Field.SLOT), f.load_field("%context", ContextWord.START)
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
    """Planes to the output as bytes 0 and 1, (samples, elements)."""
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, count = f.load_field("%step", Field.ROWS, "ptr"), f.load_field("%step", Field.COUNT)
    slot, start = f.load_field("%step", Field.SLOT), f.load_field("%context", ContextWord.START)
    left = f.let(f"sub i64 {f.load_field('%context', ContextWord.SAMPLES)}, {start}")
    valid = f.let(f"call i64 @llvm.smin.i64(i64 {left}, i64 {BLOCK})")
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
