"""Bit matrices transposed in vector registers: blocks are exchanged between rows.

Hacker's Delight (Warren), 7-3: exchanging the off-diagonal blocks of side n/2, n/4, ..., 1 between
rows as far apart transposes an n x n matrix. Here eight rows are planes, eight words each.
"""

from __future__ import annotations

from typing import Final

from lgir.backends.llvm.llvm_text import PLANE, PLANE_BYTES, FunctionWriter

BYTES: Final = ((4, 32), (2, 16), (1, 8))
"""Exchanges (distance of rows, bits) that transpose the 8x8 bytes of eight rows in every word."""
BITS: Final = ((4, 4), (2, 2), (1, 1))
"""Exchanges that transpose the 8x8 bits of eight rows in every byte."""


def load_rows(f: FunctionWriter, pointer: str, stride: int) -> list[str]:
    """Write and return loads of eight planes, `stride` bytes from one to the next."""
    cells = [f.gep(pointer, str(stride * i)) for i in range(8)]
    return [f.load(PLANE, cell, PLANE_BYTES) for cell in cells]


def store_rows(f: FunctionWriter, rows: list[str], pointer: str, stride: int) -> None:
    """Write stores of planes, `stride` bytes from one to the next."""
    for i, row in enumerate(rows):
        f.store(PLANE, row, f.gep(pointer, str(stride * i)), PLANE_BYTES)


def exchange(f: FunctionWriter, rows: list[str], stages: tuple[tuple[int, int], ...]) -> list[str]:
    """Write exchanges of off-diagonal blocks between eight rows, stage by stage.

    A stage is the distance of the rows and the bits of a block's side; see BYTES and BITS.
    """
    for distance, bits in stages:
        low = sum(1 << i for i in range(64) if not i & bits)
        low -= (low >> 63) << 64
        keep, by = f"splat (i64 {low})", f"splat (i64 {bits})"
        out = list(rows)
        for i in (i for i in range(8) if not i & distance):
            a, b = rows[i], rows[i + distance]
            out[i] = f.select(keep, a, f.op("shl", b, by))
            out[i + distance] = f.select(keep, f.op("lshr", a, by), b)
        rows = out
    return rows


def exchange_far(f: FunctionWriter, source: str, target: str) -> None:
    """Write the first of two passes that transpose 64 planes as matrices of bits.

    Bytes change places between rows at least eight apart. The second pass exchanges BITS, on eight
    rows in turn.
    """
    with f.loop("8") as g:
        offset = f.let(f"mul i64 {g.index}, {PLANE_BYTES}")
        rows = exchange(f, load_rows(f, f.gep(source, offset), 8 * PLANE_BYTES), BYTES)
        store_rows(f, rows, f.gep(target, offset), 8 * PLANE_BYTES)


def exchange_words(f: FunctionWriter, rows: list[str]) -> list[str]:
    """Write the transposition of the 8x8 words of eight rows."""
    for distance in (4, 2, 1):
        out = list(rows)
        for i in (i for i in range(8) if not i & distance):
            a, b = rows[i], rows[i + distance]
            for row, first in ((i, 0), (i + distance, distance)):
                words = [8 * (w & distance > 0) + (w & ~distance) + first for w in range(8)]
                lanes = ", ".join(f"i32 {w}" for w in words)
                out[row] = f.let(f"shufflevector {PLANE} {a}, {PLANE} {b}, <8 x i32> <{lanes}>")
        rows = out
    return rows


def bytes_to_planes(f: FunctionWriter, buffer: str, table: str) -> None:
    """Write the transposition of 64 vectors of bytes to the planes of 64 features.

    Vector j holds samples 8j to 8j + 7, a byte per feature; `table` holds the offsets of planes.
    Bytes change places with their neighbors in a word, then words do.
    """
    with f.loop("8") as g:
        base = f.gep(buffer, f.let(f"mul i64 {g.index}, {8 * PLANE_BYTES}"))
        rows = exchange(f, load_rows(f, base, PLANE_BYTES), BYTES)
        store_rows(f, rows, base, PLANE_BYTES)
    with f.loop("8") as g:
        base = f.gep(buffer, f.let(f"mul i64 {g.index}, {PLANE_BYTES}"))
        rows = exchange_words(f, load_rows(f, base, 8 * PLANE_BYTES))
        entry = f.gep(table, f.let(f"mul i64 {g.index}, 4"))
        for i, row in enumerate(rows):
            f.store_plane(row, "%planes", f.load_u32(f.gep(entry, str(32 * i))))


def bits_to_planes(f: FunctionWriter, buffer: str, table: str) -> None:
    """Write the transposition of 64 vectors of words, whose bits are features, to their planes.

    `table` holds the offsets of planes.
    """
    exchange_far(f, buffer, buffer)
    with f.loop("8") as g:
        base = f.gep(buffer, f.let(f"mul i64 {g.index}, {8 * PLANE_BYTES}"))
        rows = exchange(f, load_rows(f, base, PLANE_BYTES), BITS)
        entry = f.gep(table, f.let(f"mul i64 {g.index}, 32"))
        for i, row in enumerate(rows):
            f.store_plane(row, "%planes", f.load_u32(f.gep(entry, str(4 * i))))
