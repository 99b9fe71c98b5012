"""The kernels that turn samples into planes, thresholds fused in."""

from __future__ import annotations

from typing import Final

from lgir.backends.llvm.ir import (
    BLOCK,
    PLANE,
    PLANE_BYTES,
    Function,
)
from lgir.backends.llvm.records import PARAMS, Context, Field

TILE: Final = 64
"""Features packed at a time: one AVX-512 register of bytes."""
MASK_BYTES: Final = TILE * PLANE_BYTES + PLANE_BYTES
"""A tile's masks of one level, padded so that tiles do not share cache sets."""


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
