"""Packing: samples become planes, with thresholds fused in.

Samples are rows of memory, and planes are columns: one feature of 512 samples. The bits of a tile,
64 features of a block, are held in near memory and transposed in registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.llvm_text import BLOCK, PLANE_BYTES, FunctionWriter
from lgir.backends.llvm.records import INTEGER, KERNEL_PARAMS, POINTER, RecordLayout, StepRecord
from lgir.backends.llvm.sample_checks import set_error, wrong_floats
from lgir.backends.llvm.steps.cost import TILE_EXCHANGES, CostTarget, footprint
from lgir.backends.llvm.steps.gate import gate_record
from lgir.backends.llvm.steps.step_kind import CallForm, ProgramContext, StepKind
from lgir.backends.llvm.steps.tables import plane_offsets
from lgir.backends.llvm.transpose import bits_to_planes, bytes_to_planes
from lgir.backends.lowering.steps import BUFFER, ONE_PLANE, ZERO_PLANE, GateStep, PackStep
from lgir.ir.thresholds import byte_levels
from lgir.roofline import LINE, StepCost, Traffic
from lgir.samples import Array

TILE: Final = 64
"""Features packed at a time: one AVX-512 register of bytes."""
TILE_BYTES: Final = TILE * PLANE_BYTES + PLANE_BYTES
"""Bytes of a tile's bits of one level, padded so that tiles do not share cache sets."""
_HELD_TILES: Final = 192
"""Tiles times levels whose bits are held at once, 780 KiB: mostly whole rows of samples."""
_SAMPLES_PER_ROUND: Final = 8
_CHECK_TYPES: Final = {"u8": "<64 x i8>", "f32": "<16 x i1>", "f32_bits": "<16 x i1>"}
"""What a check gathers: all bytes ORed, or lanes in which any number was wrong."""

RECORD: Final = RecordLayout(
    rows=POINTER,
    tiles=INTEGER,
    features=INTEGER,
    levels=INTEGER,
    level_table=POINTER,
    slot=INTEGER,
    scratch=INTEGER,
    held_tiles=INTEGER,
)
WIDEN_RECORD: Final = RecordLayout(
    sample_bytes=INTEGER,
    slot=INTEGER,
    scratch=INTEGER,
    widened_slot=INTEGER,
)


class PackKind(StepKind[PackStep]):
    """Steps that pack an input; the form of records is the kind of its samples."""

    name = "pack"
    depends_on_call = True

    def form(self, step: PackStep, call: CallForm) -> str | None:
        return call.sample_kinds[step.input]

    def records(self, step: PackStep, form: str, program: ProgramContext) -> list[StepRecord]:
        if form == "bits":
            return [_words_record(step, program)]
        levels, planes = _padded(step, max(step.planes.shape[1], TILE), program)
        # A level below 0 is passed by every byte, which no level of a byte can say.
        always = (levels < 0) & (form == "u8")
        is_bit = step.dtype == "bit"
        check = is_bit or form == "f32"
        dtype = "f32_bits" if form == "f32" and is_bit else form
        name = f"pack_{dtype}{'_checked' if check else ''}"
        kernel = program.kernels.use(name, pack_kernel, dtype, check)
        narrow = step.planes.shape[1] < TILE
        slots = program.slots
        records = [
            RECORD.record(
                kernel,
                rows=plane_offsets(np.where(always, program.unread_plane, planes)),
                level_table=_level_table(levels, form),
                slot=slots.widened_slot(step.input) if narrow else slots.input_slot(step.input),
                scratch=program.scratch,
                **_extent(*planes.shape),
            )
        ]
        if narrow:
            records.insert(0, _widen_record(step, form, program))
        if always.any():
            true = np.stack(np.broadcast_arrays(ONE_PLANE, planes[always]), axis=1)
            records.append(gate_record(GateStep(1, BUFFER, true), program))
        return records

    def scratch_bytes(self, step: PackStep) -> int:
        levels, features = map(int, step.planes.shape)
        size = _held_tiles(levels, -(-features // TILE)) * levels * TILE_BYTES
        return size + (BLOCK * TILE * 4 if features < TILE else 0)

    def cost(self, step: PackStep, samples: list[Array], target: CostTarget) -> StepCost:
        """Return the cost of packing.

        Every feature is read once, compared with each level, and added under the mask. 64 vectors
        make a tile, which is stored, transposed in two passes and stored as planes.
        """
        array = samples[step.input]
        levels, features = step.planes.shape
        tiles = -(-features // TILE)
        size = 4 if array.dtype == np.float32 else 1
        read = tiles * TILE * size * BLOCK / LINE
        packed = levels * tiles * TILE
        transpose = TILE_EXCHANGES * (2 + 2 * target.three_inputs + 2)
        logic = levels * tiles * (2 * BLOCK * size + transpose)
        traffic = (
            Traffic(read + 2 * packed, 3 * packed),
            Traffic(read, 0, array.nbytes),
            Traffic(0, packed, footprint(step.planes)),
        )
        return StepCost(self.name, levels * features, logic, traffic)


def _padded(
    step: PackStep, width: int, program: ProgramContext
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return levels and planes (levels, width); what is beyond the features goes unread."""
    count, features = step.planes.shape
    planes = np.full((count, width), program.unread_plane)
    planes[:, :features] = step.planes
    levels = np.zeros((count, width), np.float32)
    if step.levels is not None:
        levels[:, :features] = step.levels
    return levels, planes


def _extent(levels: int, width: int) -> dict[str, Any]:
    """Return the fields of RECORD that follow from levels and features."""
    tiles = -(-width // TILE)
    held_tiles = _held_tiles(levels, tiles)
    return {"tiles": tiles, "features": width, "levels": levels, "held_tiles": held_tiles}


def _held_tiles(levels: int, tiles: int) -> int:
    """Return the tiles whose bits are held at once."""
    return min(max(1, _HELD_TILES // levels), tiles)


def _level_table(levels: npt.NDArray[np.float32], kind: str) -> npt.NDArray[np.generic]:
    """Return levels in the dtype of the samples: for bytes, x > t is x > floor(t)."""
    if kind != "u8":
        return np.ascontiguousarray(levels)
    return np.maximum(byte_levels(levels), 0).astype(np.uint8)


def _words_record(step: PackStep, program: ProgramContext) -> StepRecord:
    """Return the record that packs samples which are rows of 64-bit words."""
    width = -(-step.planes.shape[1] // TILE) * TILE
    _, planes = _padded(step, width, program)
    return RECORD.record(
        program.kernels.use("pack_words", pack_words_kernel),
        rows=plane_offsets(planes),
        slot=program.slots.input_slot(step.input),
        scratch=program.scratch,
        **_extent(*planes.shape),
    )


def _widen_record(step: PackStep, kind: str, program: ProgramContext) -> StepRecord:
    """Return the record that copies a block's samples to rows of a tile, behind the tile's bits."""
    size = 1 if kind == "u8" else 4
    levels, features = step.planes.shape
    return WIDEN_RECORD.record(
        program.kernels.use(f"widen_{kind}", widen_kernel, size),
        sample_bytes=features * size,
        slot=program.slots.input_slot(step.input),
        scratch=program.scratch + levels * TILE_BYTES,
        widened_slot=program.slots.widened_slot(step.input),
    )


def pack_kernel(name: str, dtype: str, check: bool, *, ternary: bool) -> str:
    """Write the kernel that packs samples (n, features): bit = x > level.

    Eight neighboring samples are compared with a level, each giving one bit of the bytes of 64
    features, while the next eight are prefetched. 64 vectors of such bytes, a tile of one level,
    are then transposed.

    Args:
        dtype: "u8", "f32", or "f32_bits" for floats that are bits.
        check: set the error flag if a bit is neither 0 nor 1, or a number is NaN.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    size = 1 if dtype == "u8" else 4
    table, level_table = RECORD.load(f, "rows"), RECORD.load(f, "level_table")
    features, levels = RECORD.load(f, "features"), RECORD.load(f, "levels")
    samples = _BlockSamples.read(f, RECORD)
    ahead = f.let(f"mul i64 {samples.stride}, {_SAMPLES_PER_ROUND}")
    # Zeros that LLVM does not know of: additions to known ones become ORs, which no mask can guard.
    zeros = f.load("<64 x i8>", f.gep("%planes", str(ZERO_PLANE * PLANE_BYTES)), PLANE_BYTES)
    wrong = [(_CHECK_TYPES[dtype], "zeroinitializer")] if check else []
    with _tile_rounds(f, features, levels) as tiles:
        with f.loop(str(BLOCK), step=_SAMPLES_PER_ROUND) as eight:
            rows = [samples.row(f, eight.index, i) for i in range(_SAMPLES_PER_ROUND)]
            line = f.let(f"mul i64 {eight.index}, {PLANE_BYTES // _SAMPLES_PER_ROUND}")
            with f.loop(tiles.stop, *wrong, start=tiles.start) as tile:
                column = tiles.column(f, tile.index)
                cells = [f.gep(row, f.let(f"mul i64 {column}, {size}")) for row in rows]
                values = [_load_tile(f, cell, dtype) for cell in cells]
                for cell in cells:
                    _prefetch(f, f.gep(cell, ahead), TILE * size)
                if check:
                    tile.next = [_gather_wrong(f, tile.carried[0], values, dtype)]
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
            bytes_to_planes(f, tiles.bits(f, tile.index, level.index), planes)
    f.emit("ret void")
    return f.text()


def pack_words_kernel(name: str, *, ternary: bool) -> str:
    """Write the kernel that packs samples which are rows of 64-bit words.

    The words of samples s, s + 64, ... share a vector; 64 of these are transposed as matrices of
    bits.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    table, features = RECORD.load(f, "rows"), RECORD.load(f, "features")
    samples = _BlockSamples.read(f, RECORD)
    with _tile_rounds(f, features, "1") as tiles:
        with f.loop(str(TILE)) as s:
            rows = [samples.row(f, s.index, i * TILE) for i in range(BLOCK // TILE)]
            line = f.let(f"mul i64 {s.index}, {PLANE_BYTES}")
            with f.loop(tiles.stop, start=tiles.start) as tile:
                word = f.let(f"mul i64 {tile.index}, 8")
                bits = f.gep(tiles.bits(f, tile.index, "0"), line)
                for i, row in enumerate(rows):
                    f.store("i64", f.load("i64", f.gep(row, word), 1), f.gep(bits, str(8 * i)), 8)
        with f.loop(tiles.stop, start=tiles.start) as tile:
            planes = f.gep(table, f.let(f"mul i64 {tile.index}, {TILE * 4}"))
            bits_to_planes(f, tiles.bits(f, tile.index, "0"), planes)
    f.emit("ret void")
    return f.text()


def widen_kernel(name: str, size: int, *, ternary: bool) -> str:
    """Write the kernel that copies samples to rows of TILE elements of `size` bytes, filled with 0.

    The packer reads whole tiles, and so would read past a narrow sample. The context's
    `widened_slot` then points to the copies.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    sample_bytes = WIDEN_RECORD.load(f, "sample_bytes")
    start = f.load_field("%context", ContextWord.START)
    samples = _BlockSamples.read(f, WIDEN_RECORD)
    copies = f.gep("%planes", WIDEN_RECORD.load(f, "scratch"))
    with f.loop(f.let(f"add i64 {samples.last}, 1")) as s:
        copy = f.gep(copies, f.let(f"mul i64 {s.index}, {TILE * size}"))
        for part in range(size):
            f.store("<64 x i8>", "zeroinitializer", f.gep(copy, str(TILE * part)), TILE)
        args = f"ptr {copy}, ptr {samples.row(f, s.index, 0)}, i64 {sample_bytes}, i1 false"
        f.emit(f"call void @llvm.memcpy.p0.p0.i64({args})")
    # The packer adds the block's start to what the context names.
    widened = f.gep("%context", f.let(f"mul i64 {WIDEN_RECORD.load(f, 'widened_slot')}, 8"))
    negated_start = f.let(f"mul i64 {start}, {-TILE * size}")
    f.store("ptr", f.gep(copies, negated_start), widened, 8)
    f.store("i64", str(TILE * size), f.gep(widened, "8"), 8)
    f.emit("ret void")
    return f.text()


@dataclass(frozen=True)
class _BlockSamples:
    """A block's samples: the first, the bytes from one to the next, and the index of the last."""

    first: str
    stride: str
    last: str

    @classmethod
    def read(cls, f: FunctionWriter, layout: RecordLayout) -> _BlockSamples:
        """Write and return what the context says of the input at `slot`."""
        start = f.load_field("%context", ContextWord.START)
        entry = f.gep("%context", f.let(f"mul i64 {layout.load(f, 'slot')}, 8"))
        samples, stride = f.load("ptr", entry, 8), f.load("i64", f.gep(entry, "8"), 8)
        first = f.gep(samples, f.let(f"mul i64 {start}, {stride}"))
        remaining = f.let(f"sub i64 {f.load_field('%context', ContextWord.SAMPLES)}, {start}")
        count = f.let(f"call i64 @llvm.smin.i64(i64 {remaining}, i64 {BLOCK})")
        return cls(first, stride, f.let(f"add i64 {count}, -1"))

    def row(self, f: FunctionWriter, index: str, distance: int) -> str:
        """Write and return where sample index + distance is, or the last if there are fewer."""
        sample = f.let(f"add i64 {index}, {distance}")
        sample = f.let(f"call i64 @llvm.smin.i64(i64 {sample}, i64 {self.last})")
        return f.gep(self.first, f.let(f"mul i64 {sample}, {self.stride}"))


@dataclass(frozen=True)
class _HeldTiles:
    """The tiles whose bits are held at once, from `start` to `stop`."""

    start: str
    stop: str
    last_column: str
    levels: str
    buffer: str

    def column(self, f: FunctionWriter, tile: str) -> str:
        """Write and return a tile's first feature; the last tile overlaps its neighbor."""
        column = f.let(f"mul i64 {tile}, {TILE}")
        return f.let(f"call i64 @llvm.smin.i64(i64 {column}, i64 {self.last_column})")

    def bits(self, f: FunctionWriter, tile: str, level: str) -> str:
        """Write and return where the bits of a tile and level are."""
        local = f.let(f"mul i64 {f.let(f'sub i64 {tile}, {self.start}')}, {self.levels}")
        index = f.let(f"add i64 {local}, {level}")
        return f.gep(self.buffer, f.let(f"mul i64 {index}, {TILE_BYTES}"))


@contextmanager
def _tile_rounds(f: FunctionWriter, features: str, levels: str) -> Iterator[_HeldTiles]:
    """Write a loop over the tiles, in rounds of `held_tiles`."""
    count, held_tiles = RECORD.load(f, "tiles"), RECORD.load(f, "held_tiles")
    buffer = f.gep("%planes", RECORD.load(f, "scratch"))
    last_column = f.let(f"sub i64 {features}, {TILE}")
    with f.loop(count, step=held_tiles) as chunk:
        end = f.let(f"add i64 {chunk.index}, {held_tiles}")
        stop = f.let(f"call i64 @llvm.smin.i64(i64 {end}, i64 {count})")
        yield _HeldTiles(chunk.index, stop, last_column, levels, buffer)


def _load_tile(f: FunctionWriter, pointer: str, dtype: str) -> list[str]:
    """Write and return loads of 64 features: one vector of bytes, or four of floats."""
    if dtype == "u8":
        return [f.load("<64 x i8>", pointer, 1)]
    return [f.load("<16 x float>", f.gep(pointer, str(64 * i)), 1) for i in range(4)]


def _prefetch(f: FunctionWriter, pointer: str, size: int) -> None:
    """Write prefetches of `size` bytes to the second-level cache."""
    for offset in range(0, size, PLANE_BYTES):
        f.prefetch(f.gep(pointer, str(offset)), 2)


def _store_bits(
    f: FunctionWriter, values: list[list[str]], level: list[str], zeros: str, cell: str
) -> None:
    """Write the store of 64 bytes whose bit i is sample i's x > level.

    A bit is a masked addition per sample.
    """
    if len(level) == 1:
        bits = zeros
        for i, (x,) in enumerate(values):
            above = f.let(f"icmp ugt <64 x i8> {x}, {level[0]}")
            added = f.let(f"add <64 x i8> {bits}, splat (i8 {(1 << i) - (i == 7) * 256})")
            bits = f.let(f"select <64 x i1> {above}, <64 x i8> {added}, <64 x i8> {bits}")
        f.store("<64 x i8>", bits, cell, PLANE_BYTES)
        return
    for part, limit in enumerate(level):
        bits = f.let(f"bitcast <64 x i8> {zeros} to <16 x i32>")
        for i, parts in enumerate(values):
            above = f.let(f"fcmp ogt <16 x float> {parts[part]}, {limit}")
            added = f.let(f"add <16 x i32> {bits}, splat (i32 {1 << i})")
            bits = f.let(f"select <16 x i1> {above}, <16 x i32> {added}, <16 x i32> {bits}")
        narrow = f.let(f"trunc <16 x i32> {bits} to <16 x i8>")
        f.store("<16 x i8>", narrow, f.gep(cell, str(16 * part)), 16)


def _gather_wrong(f: FunctionWriter, gathered: str, values: list[list[str]], dtype: str) -> str:
    """Write and return `gathered` with what a check of `values` finds."""
    for x in (part for value in values for part in value):
        if dtype == "u8":
            gathered = f.let(f"or <64 x i8> {gathered}, {x}")
            continue
        wrong = wrong_floats(f, x, 16, bits=dtype != "f32")
        gathered = f.let(f"or <16 x i1> {gathered}, {wrong}")
    return gathered


def _report(f: FunctionWriter, gathered: str, dtype: str) -> None:
    """Write that the error flag is set if a check found something."""
    lanes = 16
    if dtype == "u8":
        lanes, gathered = 64, f.let(f"icmp ugt <64 x i8> {gathered}, splat (i8 1)")
    set_error(f, f.let(f"bitcast <{lanes} x i1> {gathered} to i{lanes}"), lanes)
