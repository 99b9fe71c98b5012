"""Sums: counts of groups of planes, turned into class scores, counts or labels.

A bit-sliced count is held in 8, 16 or 32 planes. A tile of 64 planes, the counts of some groups, is
transposed as matrices of bits: the words that result are rows of numbers, sample by sample.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.carry_save import count_planes, pad_to_rounds
from lgir.backends.llvm.llvm_text import BLOCK, GREATER, PLANE, PLANE_BYTES, FunctionWriter
from lgir.backends.llvm.records import (
    FLOAT,
    INTEGER,
    KERNEL_PARAMS,
    POINTER,
    RecordLayout,
    StepRecord,
)
from lgir.backends.llvm.steps.cost import TILE_EXCHANGES, CostTarget
from lgir.backends.llvm.steps.count import count_cost
from lgir.backends.llvm.steps.step_kind import CallForm, ProgramContext, StepKind
from lgir.backends.llvm.steps.tables import plane_offsets
from lgir.backends.llvm.transpose import (
    BITS,
    exchange,
    exchange_far,
    exchange_words,
    load_rows,
    store_rows,
)
from lgir.backends.lowering.steps import ZERO_PLANE, SumStep
from lgir.roofline import StepCost
from lgir.samples import Array

TILE: Final = 64
"""Planes that are transposed at a time, those of a word."""
RECORD: Final = RecordLayout(
    rows=POINTER,
    groups=INTEGER,
    bits=INTEGER,
    tau=FLOAT,
    beta=FLOAT,
    slot=INTEGER,
    scratch=INTEGER,
)


class SumKind(StepKind[SumStep]):
    """Steps that count groups for an output; the form of records is the result of the call."""

    name = "sum"
    depends_on_call = True

    def form(self, step: SumStep, call: CallForm) -> str | None:
        return call.result if call.result == "scores" or step.output == 0 else None

    def records(self, step: SumStep, form: str, program: ProgramContext) -> list[StepRecord]:
        groups, width = len(step.planes), _width(step)
        initial = np.full((groups, width), ZERO_PLANE) if step.initial is None else step.initial
        # In order, so that the planes of a group are read from near to far.
        rows = np.concatenate([initial, pad_to_rounds(np.sort(step.planes, axis=1))], axis=1)
        if form == "labels":
            label_bits = (groups - 1).bit_length()
            name = f"labels{width}_{label_bits}"
            kernel = program.kernels.use(name, label_kernel, width, label_bits)
        else:
            kernel = program.kernels.use(f"{form}{width}", number_kernel, width, form == "scores")
        record = RECORD.record(
            kernel,
            rows=plane_offsets(rows),
            groups=groups,
            bits=rows.shape[1] - width,
            tau=step.tau,
            beta=step.beta,
            slot=program.slots.output_slot(step.output),
            scratch=program.scratch,
        )
        return [record]

    def scratch_bytes(self, step: SumStep) -> int:
        """Return the bytes of the larger of the two kernels.

        Numbers need counts, a tile, and a tile's numbers for 512 samples; labels need one count,
        and a tile twice.
        """
        width, groups = _width(step), len(step.planes)
        lanes = count_lanes(width)
        groups_per_tile = TILE // lanes
        counts = (max(groups, groups_per_tile) * lanes + TILE) * PLANE_BYTES
        labels = (width + 2 * TILE) * PLANE_BYTES
        return max(counts + groups_per_tile * BLOCK * 4, labels)

    def cost(self, step: SumStep, samples: list[Array], target: CostTarget) -> StepCost:
        """Return the cost of scores.

        Tiles of counts are transposed in two passes and made numbers, vectors of 16 in three
        instructions.
        """
        groups, width = len(step.planes), _width(step)
        count = count_cost(self.name, step.planes, width, target)
        near, *far = count.traffic
        groups_per_tile = TILE // count_lanes(width)
        tiles = -(-groups // groups_per_tile)
        near = replace(
            near,
            loads=near.loads + 2 * tiles * TILE,
            stores=near.stores + tiles * TILE + groups * BLOCK / 16,
        )
        exchanges = 2 * TILE_EXCHANGES * (2 + 2 * target.three_inputs)
        logic = tiles * (exchanges + 3 * groups_per_tile * BLOCK // 16)
        return replace(count, logic=count.logic + logic, traffic=(near, *far))


def _width(step: SumStep) -> int:
    """Return the planes of a group's count."""
    planes = step.planes.shape[1].bit_length() if step.initial is None else step.initial.shape[1]
    return int(planes)


def count_lanes(bits: int) -> int:
    """Return the planes that a count of `bits` planes takes in a tile."""
    return max(8, 1 << (bits - 1).bit_length())


def number_kernel(name: str, bits: int, scores: bool, *, ternary: bool) -> str:
    """Write the kernel of class scores in float32, or without `scores` of counts in int32.

    Numbers are (samples, groups). A row per group is as `count_planes` takes it, with counts of
    `bits` planes. The last tile overlaps its neighbor rather than run over. If groups or samples
    are fewer than a tile holds, numbers go to scratch memory first.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    lanes = count_lanes(bits)
    groups_per_tile = TILE // lanes
    rows, groups, per_group = (RECORD.load(f, x) for x in ("rows", "groups", "bits"))
    scale = [_splat(f, RECORD.load(f, x)) for x in ("beta", "tau")] if scores else []
    first, valid = _output(f, f.let(f"mul i64 {groups}, 4"))
    counts = f.gep("%planes", RECORD.load(f, "scratch"))
    columns = f.let(f"call i64 @llvm.smin.i64(i64 {groups}, i64 {groups_per_tile})")
    last = f.let(f"sub i64 {groups}, {columns}")
    padded_groups = f.let(f"add i64 {last}, {groups_per_tile}")
    tile = f.gep(counts, f.let(f"mul i64 {padded_groups}, {lanes * PLANE_BYTES}"))
    staging = f.gep(tile, str(TILE * PLANE_BYTES))
    words = f.let(f"add i64 {per_group}, {bits}")
    enough = f.let(f"icmp sge i64 {groups}, {groups_per_tile}")
    direct = f.let(f"and i1 {enough}, {f.let(f'icmp eq i64 {valid}, {BLOCK}')}")
    row_bytes = f.let(f"mul i64 {groups}, 4")
    stride = f.let(f"select i1 {direct}, i64 {row_bytes}, i64 {4 * groups_per_tile}")
    sample_offsets = [f.let(f"mul i64 {stride}, {BLOCK // 8 * w}") for w in range(8)]
    remaining = f.let(f"select i1 {direct}, i64 0, i64 {valid}")
    with f.loop(groups, step=groups_per_tile) as chunk:
        end = f.let(f"add i64 {chunk.index}, {groups_per_tile}")
        end = f.let(f"call i64 @llvm.smin.i64(i64 {end}, i64 {groups})")
        with f.loop(end, start=chunk.index) as g:
            table = f.gep(rows, f.let(f"mul i64 {f.let(f'mul i64 {g.index}, {words}')}, 4"))
            total = count_planes(f, table, per_group, bits)
            cell = f.gep(counts, f.let(f"mul i64 {g.index}, {lanes * PLANE_BYTES}"))
            for i in range(lanes):
                plane = total[i] if i < bits else "zeroinitializer"
                f.store(PLANE, plane, f.gep(cell, str(i * PLANE_BYTES)), PLANE_BYTES)
        group = f.let(f"call i64 @llvm.smin.i64(i64 {chunk.index}, i64 {last})")
        column = f.gep(first, f.let(f"shl i64 {group}, 2"))
        target = f.let(f"select i1 {direct}, ptr {column}, ptr {staging}")
        source = f.gep(counts, f.let(f"mul i64 {group}, {lanes * PLANE_BYTES}"))
        exchange_far(f, source, tile)
        with f.loop("8") as g:
            eight = f.gep(tile, f.let(f"mul i64 {g.index}, {8 * PLANE_BYTES}"))
            sample = f.gep(target, f.let(f"mul i64 {f.let(f'mul i64 {g.index}, 8')}, {stride}"))
            for row in exchange(f, load_rows(f, eight, PLANE_BYTES), BITS):
                samples = [f.gep(sample, offset) for offset in sample_offsets]
                _store_numbers(f, row, lanes, scale, samples)
                sample = f.gep(sample, stride)
        with f.loop(remaining) as s:
            numbers = f.gep(staging, f.let(f"mul i64 {s.index}, {4 * groups_per_tile}"))
            row_start = f.gep(first, f.let(f"mul i64 {s.index}, {row_bytes}"))
            with f.loop(columns) as c:
                offset = f.let(f"shl i64 {c.index}, 2")
                group_offset = f.let(f"shl i64 {group}, 2")
                out = f.gep(row_start, f.let(f"add i64 {offset}, {group_offset}"))
                f.store("i32", f.load("i32", f.gep(numbers, offset), 4), out, 4)
    f.emit("ret void")
    return f.text()


def label_kernel(name: str, bits: int, label_bits: int, *, ternary: bool) -> str:
    """Write the kernel of class labels in int64, (samples,): the first group of the highest count.

    Rows are those of `number_kernel`. Counts are compared as planes, and only labels are made
    numbers.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, groups, per_group = (RECORD.load(f, x) for x in ("rows", "groups", "bits"))
    first, valid = _output(f, "8")
    words = f.let(f"add i64 {per_group}, {bits}")
    best = f.gep("%planes", RECORD.load(f, "scratch"))
    labels = f.gep(best, str(bits * PLANE_BYTES))
    ordered = f.gep(labels, str(TILE * PLANE_BYTES))
    for i in range(bits + TILE):
        f.store(PLANE, "zeroinitializer", f.gep(best, str(i * PLANE_BYTES)), PLANE_BYTES)
    with f.loop(groups) as g:
        table = f.gep(rows, f.let(f"mul i64 {f.let(f'mul i64 {g.index}, {words}')}, 4"))
        count = count_planes(f, table, per_group, bits)
        highest = [f.load_plane(best, str(i * PLANE_BYTES)) for i in range(bits)]
        above = "zeroinitializer"
        for new, old in zip(count, highest, strict=True):
            above = f.ternary(new, old, above, GREATER)
        for i, (new, old) in enumerate(zip(count, highest, strict=True)):
            f.store_plane(f.select(above, new, old), best, str(i * PLANE_BYTES))
        number = f.let(f"trunc i64 {g.index} to i32")
        for i in range(label_bits):
            bit = f.let(f"and i32 {f.let(f'lshr i32 {number}, {i}')}, 1")
            label = f.broadcast(f.let(f"sub i32 0, {bit}"))
            old = f.load_plane(labels, str(i * PLANE_BYTES))
            f.store_plane(f.select(above, label, old), labels, str(i * PLANE_BYTES))
    exchange_far(f, labels, labels)
    # Row 8g + i holds the labels of samples 8g + i, 64 + 8g + i, ...: their words change places.
    with f.loop("8") as g:
        eight = f.gep(labels, f.let(f"mul i64 {g.index}, {8 * PLANE_BYTES}"))
        in_order = exchange_words(f, exchange(f, load_rows(f, eight, PLANE_BYTES), BITS))
        words_out = f.gep(ordered, f.let(f"mul i64 {g.index}, {PLANE_BYTES}"))
        store_rows(f, in_order, words_out, 8 * PLANE_BYTES)
    size = f.let(f"shl i64 {valid}, 3")
    args = f"ptr {first}, ptr {ordered}, i64 {size}, i1 false"
    f.emit(f"call void @llvm.memcpy.p0.p0.i64({args})")
    f.emit("ret void")
    return f.text()


def _output(f: FunctionWriter, sample_bytes: str) -> tuple[str, str]:
    """Write and return where the block's results go, and how many samples it has."""
    start = f.load_field("%context", ContextWord.START)
    remaining = f.let(f"sub i64 {f.load_field('%context', ContextWord.SAMPLES)}, {start}")
    valid = f.let(f"call i64 @llvm.smin.i64(i64 {remaining}, i64 {BLOCK})")
    slot = f.let(f"mul i64 {RECORD.load(f, 'slot')}, 8")
    results = f.load("ptr", f.gep("%context", slot), 8)
    return f.gep(results, f.let(f"mul i64 {start}, {sample_bytes}")), valid


def _store_numbers(
    f: FunctionWriter, row: str, lanes: int, scale: list[str], samples: list[str]
) -> None:
    """Write the store of a row of eight words, each the counts of one sample in `lanes` bits.

    They go to the pointers of `samples` as integers, or as floats (count + scale[0]) / scale[1].
    """
    per_word = TILE // lanes
    kind = "float" if scale else "i32"
    counts = f.let(f"bitcast {PLANE} {row} to <{8 * per_word} x i{lanes}>")
    for part in range(per_word // 2):
        numbers = _lanes(f, counts, f"i{lanes}", 8 * per_word, 16 * part, 16)
        if lanes < 32:
            numbers = f.let(f"zext <16 x i{lanes}> {numbers} to <16 x i32>")
        if scale:
            numbers = f.let(f"sitofp <16 x i32> {numbers} to <16 x float>")
            numbers = f.let(f"fadd <16 x float> {numbers}, {scale[0]}")
            numbers = f.let(f"fdiv <16 x float> {numbers}, {scale[1]}")
        for i in range(16 // per_word):
            sample = _lanes(f, numbers, kind, 16, i * per_word, per_word)
            f.store(f"<{per_word} x {kind}>", sample, samples[part * 16 // per_word + i], 4)


def _lanes(f: FunctionWriter, vector: str, kind: str, size: int, first: int, count: int) -> str:
    """Write and return `count` lanes of a vector from lane `first` on."""
    if count == size:
        return vector
    lanes = ", ".join(f"i32 {first + i}" for i in range(count))
    whole = f"<{size} x {kind}>"
    return f.let(f"shufflevector {whole} {vector}, {whole} poison, <{count} x i32> <{lanes}>")


def _splat(f: FunctionWriter, value: str) -> str:
    """Write and return a vector of 16 copies of a float."""
    one = f.let(f"insertelement <16 x float> poison, float {value}, i64 0")
    return f.let(
        f"shufflevector <16 x float> {one}, <16 x float> poison, <16 x i32> zeroinitializer"
    )
