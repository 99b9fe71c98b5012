"""The kernels that turn samples into planes, thresholds fused in.

Memory is read by rows, samples, and planes are columns, a feature of 512 samples. The bits of a
tile, 64 features of a block, are held in near memory and transposed in registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.llvm_text import BLOCK, PLANE_BYTES, FunctionWriter
from lgir.backends.llvm.records import KERNEL_PARAMS, Field
from lgir.backends.llvm.sample_checks import set_error, wrong_floats
from lgir.backends.llvm.transpose import (
    BITS,
    BYTES,
    exchange,
    exchange_far,
    exchange_words,
    load_rows,
    store_rows,
)
from lgir.backends.lowering.steps import ZERO_PLANE

TILE: Final = 64
"""Features packed at a time: one AVX-512 register of bytes."""
TILE_BYTES: Final = TILE * PLANE_BYTES + PLANE_BYTES
"""A tile's bits of one level, padded so that tiles do not share cache sets."""
_TOGETHER: Final = 8
"""Samples read side by side."""
_FLAGS: Final = {"u8": "<64 x i8>", "f32": "<16 x i1>", "f32_bits": "<16 x i1>"}
"""What a check gathers: all bytes ORed, or lanes in which any number was wrong."""


def pack_kernel(name: str, dtype: str, check: bool, *, ternary: bool) -> str:
    """Samples (n, features) to planes, thresholds fused in: bit = x > level.

    Eight neighbouring samples are compared with a level, each giving one bit of the bytes of 64
    features, while the eight after them are asked for. 64 vectors of such bytes, a tile of one
    level, are then transposed. With `check`, the error flag is set where a bit input is neither 0
    nor 1, or a number is NaN. `dtype` is "u8", "f32" or "f32_bits" (floats for a bit input).
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    size = 1 if dtype == "u8" else 4
    table, level_table = (f.load_field("%step", x, "ptr") for x in (Field.ROWS, Field.LEVEL_TABLE))
    features, levels = f.load_field("%step", Field.FEATURES), f.load_field("%step", Field.LEVELS)
    samples = _Samples.read(f)
    ahead = f.let(f"mul i64 {samples.stride}, {_TOGETHER}")
    # Zeros that LLVM does not know of: additions to known ones become ORs, which no mask can guard.
    zeros = f.load("<64 x i8>", f.gep("%planes", str(ZERO_PLANE * PLANE_BYTES)), PLANE_BYTES)
    wrong = [(_FLAGS[dtype], "zeroinitializer")] if check else []
    with _chunks(f, features, levels) as tiles:
        with f.loop(str(BLOCK), step=_TOGETHER) as eight:
            rows = [samples.row(f, eight.index, i) for i in range(_TOGETHER)]
            line = f.let(f"mul i64 {eight.index}, {PLANE_BYTES // _TOGETHER}")
            with f.loop(tiles.stop, *wrong, start=tiles.start) as tile:
                column = tiles.column(f, tile.index)
                cells = [f.gep(row, f.let(f"mul i64 {column}, {size}")) for row in rows]
                values = [_load_tile(f, cell, dtype) for cell in cells]
                for cell in cells:
                    _ask_for(f, f.gep(cell, ahead), TILE * size)
                if check:
                    tile.next = [_gather(f, tile.carried[0], values, dtype)]
                with f.loop(levels) as level:
                    base = f.let(f"add i64 {f.let(f'mul i64 {level.index}, {features}')}, {column}")
                    limit = f.gep(level_table, f.let(f"mul i64 {base}, {size}"))
                    threshold = _load_tile(f, limit, dtype)
                    bits = f.gep(tiles.bits(f, tile.index, level.index), line)
                    _store_bits(f, values, threshold, zeros, bits)
            if check:
                _report(f, tile.result[0], dtype)
        with f.loop(tiles.stop, start=tiles.start) as tile, f.loop(levels) as level:
            base = f.let(f"mul i64 {level.index}, {features}")
            base = f.let(f"add i64 {base}, {tiles.column(f, tile.index)}")
            planes = f.gep(table, f.let(f"mul i64 {base}, 4"))
            _bytes_to_planes(f, tiles.bits(f, tile.index, level.index), planes)
    f.emit("ret void")
    return f.text()


def pack_words_kernel(name: str, *, ternary: bool) -> str:
    """Samples packed to rows of 64-bit words to planes. The words of samples s, s + 64, ... share a
    vector; 64 of these are transposed as matrices of bits.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    table, features = (
        f.load_field("%step", Field.ROWS, "ptr"),
        f.load_field("%step", Field.FEATURES),
    )
    samples = _Samples.read(f)
    with _chunks(f, features, "1") as tiles:
        with f.loop(str(TILE)) as s:
            rows = [samples.row(f, s.index, i * TILE) for i in range(BLOCK // TILE)]
            line = f.let(f"mul i64 {s.index}, {PLANE_BYTES}")
            with f.loop(tiles.stop, start=tiles.start) as tile:
                at = f.let(f"mul i64 {tile.index}, 8")
                bits = f.gep(tiles.bits(f, tile.index, "0"), line)
                for i, row in enumerate(rows):
                    f.store("i64", f.load("i64", f.gep(row, at), 1), f.gep(bits, str(8 * i)), 8)
        with f.loop(tiles.stop, start=tiles.start) as tile:
            planes = f.gep(table, f.let(f"mul i64 {tile.index}, {TILE * 4}"))
            _bits_to_planes(f, tiles.bits(f, tile.index, "0"), planes)
    f.emit("ret void")
    return f.text()


def widen_kernel(name: str, size: int, *, ternary: bool) -> str:
    """A block's samples of COUNT bytes copied to rows of TILE elements of `size` bytes, the rest
    zeros: so that the packer, which reads whole tiles, does not read past a narrow sample. The
    context's WIDE_SLOT then names the copies.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    count, start = f.load_field("%step", Field.COUNT), f.load_field("%context", ContextWord.START)
    samples = _Samples.read(f)
    copies = f.gep("%planes", f.load_field("%step", Field.SCRATCH))
    with f.loop(f.let(f"add i64 {samples.last}, 1")) as s:
        copy = f.gep(copies, f.let(f"mul i64 {s.index}, {TILE * size}"))
        for part in range(size):
            f.store("<64 x i8>", "zeroinitializer", f.gep(copy, str(TILE * part)), TILE)
        args = f"ptr {copy}, ptr {samples.row(f, s.index, 0)}, i64 {count}, i1 false"
        f.emit(f"call void @llvm.memcpy.p0.p0.i64({args})")
    # The packer adds the block's start to what the context names.
    wide = f.gep("%context", f.let(f"mul i64 {f.load_field('%step', Field.WIDE_SLOT)}, 8"))
    back = f.let(f"mul i64 {start}, {-TILE * size}")
    f.store("ptr", f.gep(copies, back), wide, 8)
    f.store("i64", str(TILE * size), f.gep(wide, "8"), 8)
    f.emit("ret void")
    return f.text()


@dataclass(frozen=True)
class _Samples:
    """A block's samples: the first, the bytes from one to the next, and the number of the last."""

    first: str
    stride: str
    last: str

    @classmethod
    def read(cls, f: FunctionWriter) -> _Samples:
        start = f.load_field("%context", ContextWord.START)
        where = f.gep("%context", f.let(f"mul i64 {f.load_field('%step', Field.SLOT)}, 8"))
        samples, stride = f.load("ptr", where, 8), f.load("i64", f.gep(where, "8"), 8)
        first = f.gep(samples, f.let(f"mul i64 {start}, {stride}"))
        left = f.let(f"sub i64 {f.load_field('%context', ContextWord.SAMPLES)}, {start}")
        count = f.let(f"call i64 @llvm.smin.i64(i64 {left}, i64 {BLOCK})")
        return cls(first, stride, f.let(f"add i64 {count}, -1"))

    def row(self, f: FunctionWriter, index: str, more: int) -> str:
        """Sample index + more, or the last one where there are not so many."""
        wanted = f.let(f"add i64 {index}, {more}")
        safe = f.let(f"call i64 @llvm.smin.i64(i64 {wanted}, i64 {self.last})")
        return f.gep(self.first, f.let(f"mul i64 {safe}, {self.stride}"))


@dataclass(frozen=True)
class _Tiles:
    """The tiles whose bits are held at once: from `start` to `stop`."""

    start: str
    stop: str
    last_column: str
    levels: str
    buffer: str

    def column(self, f: FunctionWriter, tile: str) -> str:
        """First feature of a tile; the last tile overlaps its neighbour rather than run over."""
        wanted = f.let(f"mul i64 {tile}, {TILE}")
        return f.let(f"call i64 @llvm.smin.i64(i64 {wanted}, i64 {self.last_column})")

    def bits(self, f: FunctionWriter, tile: str, level: str) -> str:
        """Where those of a tile and level are."""
        local = f.let(f"mul i64 {f.let(f'sub i64 {tile}, {self.start}')}, {self.levels}")
        index = f.let(f"add i64 {local}, {level}")
        return f.gep(self.buffer, f.let(f"mul i64 {index}, {TILE_BYTES}"))


@contextmanager
def _chunks(f: FunctionWriter, features: str, levels: str) -> Iterator[_Tiles]:
    """A loop over the tiles, TILES_AT_ONCE of them a round."""
    count, at_once = f.load_field("%step", Field.COUNT), f.load_field("%step", Field.TILES_AT_ONCE)
    buffer = f.gep("%planes", f.load_field("%step", Field.SCRATCH))
    last_column = f.let(f"sub i64 {features}, {TILE}")
    with f.loop(count, step=at_once) as chunk:
        end = f.let(f"add i64 {chunk.index}, {at_once}")
        stop = f.let(f"call i64 @llvm.smin.i64(i64 {end}, i64 {count})")
        yield _Tiles(chunk.index, stop, last_column, levels, buffer)


def _load_tile(f: FunctionWriter, pointer: str, dtype: str) -> list[str]:
    """64 features: one vector of bytes, or four of floats."""
    if dtype == "u8":
        return [f.load("<64 x i8>", pointer, 1)]
    return [f.load("<16 x float>", f.gep(pointer, str(64 * i)), 1) for i in range(4)]


def _ask_for(f: FunctionWriter, pointer: str, size: int) -> None:
    """Prefetch `size` bytes to the second-level cache."""
    for at in range(0, size, PLANE_BYTES):
        f.emit(f"call void @llvm.prefetch.p0(ptr {f.gep(pointer, str(at))}, i32 0, i32 2, i32 1)")


def _store_bits(
    f: FunctionWriter, values: list[list[str]], level: list[str], zeros: str, cell: str
) -> None:
    """64 bytes, bit i being sample i's x > level: a masked addition a sample."""
    if len(level) == 1:
        found = zeros
        for i, (x,) in enumerate(values):
            above = f.let(f"icmp ugt <64 x i8> {x}, {level[0]}")
            more = f.let(f"add <64 x i8> {found}, splat (i8 {(1 << i) - (i == 7) * 256})")
            found = f.let(f"select <64 x i1> {above}, <64 x i8> {more}, <64 x i8> {found}")
        f.store("<64 x i8>", found, cell, PLANE_BYTES)
        return
    for part, limit in enumerate(level):
        found = f.let(f"bitcast <64 x i8> {zeros} to <16 x i32>")
        for i, parts in enumerate(values):
            above = f.let(f"fcmp ogt <16 x float> {parts[part]}, {limit}")
            more = f.let(f"add <16 x i32> {found}, splat (i32 {1 << i})")
            found = f.let(f"select <16 x i1> {above}, <16 x i32> {more}, <16 x i32> {found}")
        few = f.let(f"trunc <16 x i32> {found} to <16 x i8>")
        f.store("<16 x i8>", few, f.gep(cell, str(16 * part)), 16)


def _gather(f: FunctionWriter, found: str, values: list[list[str]], dtype: str) -> str:
    """`found` and what a check of `values` finds."""
    for x in (part for value in values for part in value):
        if dtype == "u8":
            found = f.let(f"or <64 x i8> {found}, {x}")
            continue
        wrong = wrong_floats(f, x, 16, bits=dtype != "f32")
        found = f.let(f"or <16 x i1> {found}, {wrong}")
    return found


def _report(f: FunctionWriter, found: str, dtype: str) -> None:
    """Sets the error flag where a check found something."""
    lanes = 16
    if dtype == "u8":
        lanes, found = 64, f.let(f"icmp ugt <64 x i8> {found}, splat (i8 1)")
    set_error(f, f.let(f"bitcast <{lanes} x i1> {found} to i{lanes}"), lanes)


def _bytes_to_planes(f: FunctionWriter, buffer: str, table: str) -> None:
    """64 vectors, samples 8j to 8j + 7 of 64 features, to the planes of these, where `table` says:
    bytes change places with their neighbours in a word, then words.
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


def _bits_to_planes(f: FunctionWriter, buffer: str, table: str) -> None:
    """64 vectors of words, whose bits are features, to the planes of these, where `table` says."""
    exchange_far(f, buffer, buffer)
    with f.loop("8") as g:
        base = f.gep(buffer, f.let(f"mul i64 {g.index}, {8 * PLANE_BYTES}"))
        rows = exchange(f, load_rows(f, base, PLANE_BYTES), BITS)
        entry = f.gep(table, f.let(f"mul i64 {g.index}, 32"))
        for i, row in enumerate(rows):
            f.store_plane(row, "%planes", f.load_u32(f.gep(entry, str(4 * i))))
