"""Bit matrices transposed in vector registers: blocks exchanged between rows, a distance at a time.

Hacker's Delight (Warren), 7-3: exchanging the off-diagonal blocks of side n/2, n/4, ..., 1 between
rows as far apart transposes an n x n matrix. Here eight rows are planes, eight words each.
"""

from __future__ import annotations

from typing import Final

from lgir.backends.llvm.llvm_text import PLANE, PLANE_BYTES, FunctionWriter

BYTES: Final = ((4, 32), (2, 16), (1, 8))
"""Exchanges (rows apart, bits) that transpose the 8x8 bytes of eight rows, in every word."""
BITS: Final = ((4, 4), (2, 2), (1, 1))
"""Those that transpose the 8x8 bits, in every byte."""


def load_rows(f: FunctionWriter, pointer: str, apart: int) -> list[str]:
    """Eight planes, `apart` bytes from one to the next."""
    cells = [f.gep(pointer, str(apart * i)) for i in range(8)]
    return [f.load(PLANE, cell, PLANE_BYTES) for cell in cells]


def store_rows(f: FunctionWriter, rows: list[str], pointer: str, apart: int) -> None:
    for i, row in enumerate(rows):
        f.store(PLANE, row, f.gep(pointer, str(apart * i)), PLANE_BYTES)


def exchange(f: FunctionWriter, rows: list[str], stages: tuple[tuple[int, int], ...]) -> list[str]:
    """Swap the off-diagonal blocks of so many bits between rows so far apart, stage by stage."""
    for distance, reach in stages:
        low = sum(1 << i for i in range(64) if not i & reach)
        low -= (low >> 63) << 64
        keep, by = f"splat (i64 {low})", f"splat (i64 {reach})"
        out = list(rows)
        for i in (i for i in range(8) if not i & distance):
            a, b = rows[i], rows[i + distance]
            out[i] = f.select(keep, a, f.op("shl", b, by))
            out[i + distance] = f.select(keep, f.op("lshr", a, by), b)
        rows = out
    return rows


def exchange_far(f: FunctionWriter, source: str, target: str) -> None:
    """The first of two passes that transpose 64 planes as matrices of bits: bytes change places
    between rows at least eight apart. The second is of BITS, on eight rows in turn.
    """
    with f.loop("8") as g:
        at = f.let(f"mul i64 {g.index}, {PLANE_BYTES}")
        rows = exchange(f, load_rows(f, f.gep(source, at), 8 * PLANE_BYTES), BYTES)
        store_rows(f, rows, f.gep(target, at), 8 * PLANE_BYTES)


def exchange_words(f: FunctionWriter, rows: list[str]) -> list[str]:
    """Transpose the 8x8 words of eight rows."""
    for distance in (4, 2, 1):
        out = list(rows)
        for i in (i for i in range(8) if not i & distance):
            a, b = rows[i], rows[i + distance]
            for at, first in ((i, 0), (i + distance, distance)):
                words = [8 * (w & distance > 0) + (w & ~distance) + first for w in range(8)]
                lanes = ", ".join(f"i32 {w}" for w in words)
                out[at] = f.let(f"shufflevector {PLANE} {a}, {PLANE} {b}, <8 x i32> <{lanes}>")
        rows = out
    return rows
