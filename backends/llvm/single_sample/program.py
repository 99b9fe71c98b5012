"""A graph as steps that evaluate one sample: kernels, and tables of their rows.

A convolution is evaluated at every cell, also at those that a stride leaves out, so that the copies
of a cone under a pool are one cone; its maps are then moved to where they are read. What the trees
of dense layers read is gathered by their order. The wiring is data and so are the shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.records import StepRecord, Tables, fields_of
from lgir.backends.llvm.single_sample.ends import (
    NUMBERS,
    export_kernel,
    level_kernel,
    load_kernel,
    load_words_kernel,
    sum_kernel,
)
from lgir.backends.llvm.single_sample.kernels import (
    CELLS,
    GATHERED,
    POSITIONS,
    ROUND,
    Template,
    cells_at_once,
    gather_kernel,
    move_kernel,
    permute_kernel,
    rows_kernel,
    trees_kernel,
)
from lgir.backends.llvm.single_sample.maps import SLACK, Bytes, layouts
from lgir.backends.llvm.single_sample.nets import Bools, Ints, dense_nets, shifted_nets
from lgir.backends.llvm.single_sample.records import LANES, Item, module, run_kernel
from lgir.backends.llvm.single_sample.trees import Trees, cut, span
from lgir.backends.llvm.target import Target
from lgir.backends.lowering.cones import legal_for_cones
from lgir.errors import BackendError
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Reshape, Threshold
from lgir.ir.simulate import tap_index
from lgir.ir.types import FALSE, FIRST_TAP, Shape
from lgir.registry import PASSES

RUN_SAMPLES: Final = "lgir_run_samples"
MAX_SPAN: Final = 1 << 14
"""Bytes within which permutations find what one by one takes longer."""

INPUT_KINDS: Final = {"bit": ("u8", "f32", "bits"), "u8": ("u8",), "f32": ("f32",)}
"""Kinds of samples by the dtype of an input."""

Fields = dict[int, int]

# Cycles, as measured.
_STEP: Final = 200
"""A step takes with nothing to do."""
_ONE_BYTE: Final = 1.25
"""A gather takes for each, one by one."""


class SingleSampleProgram:
    """Steps and kernels that evaluate `graph` for one sample at a time.

    Attributes:
        kernels: LLVM text of functions by name, of which none is a name of the block path's.
        workspace: bytes; those of `ones` are to be -1 and all others 0 at first.
        context_words: length of a call's context: `ContextWord`, then a pointer and a stride
            for each input, then a pointer for each output.
        cycles: that a sample takes, estimated.

    Raises BackendError where 32-bit offsets do not reach.
    """

    def __init__(self, graph: Graph, target: Target) -> None:
        if not all(legal_for_cones(op.body) for _, op in graph.of_type(Logic)):
            graph = PASSES.get("fold")(graph)
        self.graph = graph
        self.target = target
        self.kernels: dict[str, str] = {}
        self._use(RUN_SAMPLES, run_kernel)
        self.cycles = 0.0
        self.context_words = self.output_slot(len(graph.outputs))
        self._steps: list[StepRecord | tuple[int, dict[str, StepRecord]]] = []
        self._layouts = layouts(graph)
        # What lanes read that nobody wants lies no further than a channel away from what is read.
        read = [n for node, op in graph.of_type(Logic) if op.positions > 1 for n in node.inputs]
        reach = max((self._layouts[name].channel for name in read), default=0)
        self._reach = 2 * reach + max((self._layouts[n].before for n in read), default=0) + SLACK
        self._bytes = Bytes(self._reach)
        self._constant = [self._bytes.take(2 * self._reach) + self._reach for _ in range(2)]
        self.ones = (self._constant[1] - self._reach, self._constant[1] + self._reach)
        self._places: dict[str, Ints] = {}
        self._maps: dict[str, int] = {}
        self._samples: dict[int, int] = {}
        self._lower()
        self.workspace = self._bytes.size + 2 * self._reach + ROUND
        if self.workspace >= 1 << 32:
            raise BackendError(f"one sample takes {self.workspace:,} bytes; at most 4 GiB")

    @property
    def modules(self) -> dict[str, str]:
        """Each kernel's own module, by name."""
        ternary = self.target.ternary
        return {name: module(text, ternary=ternary) for name, text in self.kernels.items()}

    def sequence(self, kinds: Sequence[str]) -> list[StepRecord]:
        """The records of a call, in order, for inputs of these kinds: "u8" or "f32", or "bits" in
        rows of 64-bit words.
        """
        return [s if isinstance(s, StepRecord) else s[1][kinds[s[0]]] for s in self._steps]

    def _lower(self) -> None:
        graph = self.graph
        for index, value in enumerate(graph.inputs):
            if value.dtype == "bit":
                self._levels(index, value.name, value.shape, None)
        for node in graph.nodes:
            if isinstance(node.op, Threshold):
                self._threshold(node, node.op)
            elif isinstance(node.op, Reshape):
                if node.inputs[0] in self._places:  # not numbers, read by a Threshold later
                    self._places[node.output] = self._places[node.inputs[0]].reshape(node.op.shape)
            elif isinstance(node.op, Logic):
                lower = self._convolution if node.op.positions > 1 else self._dense
                lower(node, node.op)
                self._bytes.settle()
        for index, name in enumerate(graph.outputs):
            producer = graph.producer(name)
            if producer is not None and isinstance(producer.op, GroupSum):
                self._sum(index, producer.op, self._places[producer.inputs[0]])
            else:
                self._export(index, self._places[name].ravel())

    def _add(self, step: StepRecord | tuple[int, dict[str, StepRecord]], cycles: float) -> None:
        self._steps.append(step)
        self.cycles += _STEP + cycles

    def _use(self, name: str, kernel: Callable[..., str], *args: Any) -> None:
        if name not in self.kernels:
            self.kernels[name] = kernel(name, *args, ternary=self.target.ternary)

    def _record(
        self,
        name: str,
        kernel: Callable[..., str],
        *args: Any,
        fields: Fields,
        tables: Tables | None = None,
    ) -> StepRecord:
        name = f"sample_{name}"
        self._use(name, kernel, *args)
        return StepRecord(name, fields_of(fields), tables or {})

    def input_slot(self, index: int) -> int:
        return ContextWord.FIRST_SLOT + 2 * index

    def output_slot(self, index: int) -> int:
        return self.input_slot(len(self.graph.inputs)) + index

    # -- inputs ----------------------------------------------------------------------------------

    def _threshold(self, node: Node, op: Threshold) -> None:
        name = node.inputs[0]
        shape = self.graph.values[name].shape
        lead = op.levels.shape[:-1]
        levels = op.levels.reshape(*lead, *(1,) * (len(shape) - len(lead)), op.num_levels)
        while (producer := self.graph.producer(name)) is not None:
            name = producer.inputs[0]
        index = [value.name for value in self.graph.inputs].index(name)
        self._levels(index, node.output, shape, np.broadcast_to(levels, (*shape, op.num_levels)))

    def _levels(
        self, index: int, name: str, shape: Shape, levels: npt.NDArray[np.float32] | None
    ) -> None:
        """Bits of graph input `index`, taken as numbers of `shape`, into the value `name`."""
        count = 1 if levels is None else levels.shape[-1]
        if len(shape) > 1:
            channels, each, width = shape[0], math.prod(shape[1:-1]), shape[-1]
            cells = self._map(name)
            rows = cells.reshape(channels, count, each, width)[..., 0]
        else:  # in rows by level, since features by themselves would be rows of one cell
            channels, each, width = 1, 1, shape[0]
            extent = width + SLACK
            rows = self._bytes.take(count * extent) + np.arange(count) * extent
            self._places[name] = (rows + np.arange(width)[:, None]).ravel()
        kinds = {}
        dtype = self.graph.inputs[index].dtype
        for kind in INPUT_KINDS[dtype]:
            form = "u8" if kind == "bits" else kind
            tables: Tables = {Item.ROWS: _u32(rows), Item.VALID: _valid(width, NUMBERS)}
            if levels is not None:
                by_row = np.moveaxis(levels.reshape(channels, each, width, count), -1, 1).ravel()
                by_row = np.concatenate([by_row, np.zeros(NUMBERS, np.float32)])
                if form == "u8":
                    by_row = np.clip(np.floor(by_row), -1, 255).astype(np.int16)
                tables[Item.LEVEL_TABLE] = by_row
            fields: Fields = {
                Item.COUNT: channels,
                Item.LEVELS: count,
                Item.ROWS_EACH: each,
                Item.WIDTH: width,
                Item.NUMBERS: self._sample(index),
            }
            bits = levels is None
            name = f"{'bits' if bits else 'levels'}_{form}"
            kinds[kind] = self._record(name, level_kernel, form, bits, fields=fields, tables=tables)
        self._add((index, kinds), channels * each * count * (4 + 2 * -(-width // NUMBERS)))

    def _sample(self, index: int) -> int:
        """Where the numbers of graph input `index` are, copied once."""
        if index in self._samples:
            return self._samples[index]
        value = self.graph.inputs[index]
        self._samples[index] = out = self._bytes.take(4 * (value.size + NUMBERS))
        kinds = {}
        for kind in INPUT_KINDS[value.dtype]:
            check = {"bit": "bits", "f32": "nan", "u8": ""}[value.dtype]
            fields: Fields = {
                Item.COUNT: value.size,
                Item.SLOT: self.input_slot(index),
                Item.OUT: out,
            }
            if kind == "bits":
                kinds[kind] = self._record("load_words", load_words_kernel, fields=fields)
            else:
                name = f"load_{kind}_{check}"
                kinds[kind] = self._record(name, load_kernel, kind, check, fields=fields)
        self._add((index, kinds), value.size / 16)
        return out

    def _map(self, name: str) -> Ints:
        """A map for the value `name`; (C, *space) where its elements lie."""
        layout = self._layouts[name]
        self._maps[name] = self._bytes.take(layout.size) + layout.before
        self._places[name] = self._maps[name] + layout.cells()
        return self._places[name]

    def _regular(self, name: str) -> int:
        """Where the map of the value `name` begins, gathered if it is none yet."""
        if name not in self._maps:
            layout, cells = self._layouts[name], self._places[name]
            start = self._bytes.take(layout.size)
            every = np.full(layout.size, self._constant[FALSE])
            every[layout.before + layout.cells()] = cells
            self._gather(every, start)
            self._maps[name] = start + layout.before
        return self._maps[name]

    # -- gates -----------------------------------------------------------------------------------

    def _dense(self, node: Node, op: Logic) -> None:
        body = op.body
        sources = [self._places[name] for name in node.inputs]
        every = np.concatenate([*(s.ravel() for s in sources), self._constant[:1]])
        place = np.empty(body.num_nets, np.int64)
        place[:FIRST_TAP] = self._constant
        place[FIRST_TAP : body.first_gate] = every[tap_index(op, [s.shape for s in sources])[:, 0]]
        # By output, so that what is counted together lies together.
        rank = np.full(body.num_nets, len(body.outputs))
        np.minimum.at(rank, body.outputs, np.arange(len(body.outputs)))
        groups = cut(dense_nets(body), again=False)
        # Results without gaps, so that permutations reach far.
        starts = np.cumsum([0, *(-(-len(trees.roots) // LANES) * LANES for trees in groups)])
        starts += self._bytes.take(int(starts[-1]))
        for trees, out in zip(groups, starts.tolist(), strict=False):
            order = np.lexsort([trees.roots, rank[trees.roots]])
            self._rows(trees, order, place, out)
            place[trees.roots[order]] = out + np.arange(len(order))
            self._bytes.settle()
        self._places[node.output] = place[body.outputs].reshape(
            self.graph.values[node.output].shape
        )

    def _rows(self, trees: Trees, order: Ints, place: Ints, out: int) -> None:
        """Evaluates trees in that order, lanes being trees, with results from `out` on."""
        template = _template(trees)
        n, vectors = len(order), -(-len(order) // LANES)
        leaves = np.full((vectors * LANES, template.leaves), place[trees.leaves[0, 0]])
        leaves[:n] = place[trees.leaves[order]]
        masks = np.zeros((vectors * LANES, template.masks), np.int8)
        masks[:n] = -trees.masks[order].astype(np.int8)
        at = self._bytes.borrow(leaves.size)
        self._gather(_by_lane(leaves).ravel(), at)
        fields: Fields = {Item.COUNT: vectors, Item.LEAVES: at, Item.OUT: out}
        tables: Tables = {Item.ROWS: _by_lane(masks)}
        name = f"rows_{template.name}"
        step = self._record(name, rows_kernel, template, fields=fields, tables=tables)
        self._add(step, vectors * (template.leaves + 2.6 * template.masks))

    def _gather(self, source: Ints, out: int) -> None:
        """The bytes at `source` (n,) to `out` and after, and anything behind them."""
        first = int(source.min())
        span = int(source.max()) + 1 - first
        n = -(-len(source) // GATHERED) * GATHERED
        padded = np.full(n, first)
        padded[: len(source)] = source
        rounds, bits = -(-span // ROUND), self.target.permutes
        cycles = rounds * 30 + n * bits / 512 * (2 + 2 * rounds)
        if bits and span <= MAX_SPAN and cycles < _ONE_BYTE * n:
            fields: Fields = {
                Item.COUNT: n,
                Item.OUT: out,
                Item.SOURCE: first,
                Item.ROUNDS: rounds,
                Item.BITS: self._bytes.borrow(rounds * ROUND // 8),
            }
            tables: Tables = {Item.ROWS: _permutation(padded - first, bits)}
            name = f"permute{bits}"
            step = self._record(name, permute_kernel, bits, fields=fields, tables=tables)
        else:
            fields = {Item.COUNT: n, Item.OUT: out}
            tables = {Item.ROWS: _u32(padded)}
            step = self._record("gather", gather_kernel, fields=fields, tables=tables)
            cycles = _ONE_BYTE * n
        self._add(step, cycles)

    def _convolution(self, node: Node, op: Logic) -> None:
        body = op.body
        starts = [self._regular(name) for name in node.inputs]
        layout = [self._layouts[name] for name in node.inputs]
        pitch = np.array(layout[0].pitch, np.int64)
        nets = shifted_nets(body, pitch)
        place = np.zeros(body.num_nets, np.int64)
        place[:FIRST_TAP] = self._constant
        taps = body.taps.astype(np.int64)
        channel = np.array([x.channel for x in layout])[taps[:, 0]] * taps[:, 1]
        place[FIRST_TAP : body.first_gate] = (
            np.array(starts)[taps[:, 0]] + channel + taps[:, 2:] @ pitch
        )
        groups = cut(nets, again=True)
        last = int((np.array(op.space) - 1) * np.array(op.stride) @ pitch)
        low, high = span(nets, groups, last)
        vectors = (high - low) // POSITIONS + 1
        roots = np.concatenate([g.roots for g in groups]) if groups else np.zeros(0, np.int64)
        size = vectors * POSITIONS
        place[roots] = self._bytes.borrow(len(roots) * size) + np.arange(len(roots)) * size - low
        for trees in groups:
            template = _template(trees)
            leaves = place[trees.leaves] + trees.shifts + low
            words = [_u32(leaves), _u32(place[trees.roots, None] + low), _words(trees.masks)]
            fields: Fields = {Item.COUNT: len(trees.roots), Item.VECTORS: vectors}
            tables: Tables = {Item.ROWS: np.concatenate(words, axis=1)}
            name = f"maps_{template.name}"
            step = self._record(name, trees_kernel, template, fields=fields, tables=tables)
            logic = (template.leaves + template.masks) * (0.25 if self.target.ternary else 0.5)
            self._add(step, len(trees.roots) * (0.6 * template.masks + vectors * logic))
        self._move(node, op, place[nets.bases, None] + nets.copies, pitch)

    def _move(self, node: Node, op: Logic, sources: Ints, pitch: Ints) -> None:
        """Each channel's map is the OR of maps at `sources` (C, m), read with the node's stride."""
        cells = self._map(node.output)
        layout = self._layouts[node.output]
        out = cells.reshape(len(cells), -1)[:, :1]
        stride, m = op.stride[-1], sources.shape[1]
        space = _three(op.space, 1)
        fields: Fields = {Item.COUNT: len(cells)}
        fields |= {Item.SPACE + i: x for i, x in enumerate(space)}
        in_step = _three(tuple((pitch * np.array(op.stride)).tolist()), 0)
        fields |= {Item.IN_STEP + i: x for i, x in enumerate(in_step[:2])}
        fields |= {Item.OUT_STEP + i: x for i, x in enumerate(_three(layout.pitch, 0)[:2])}
        tables: Tables = {
            Item.ROWS: _u32(np.concatenate([out, sources], axis=1)),
            Item.VALID: _valid(space[2], CELLS),
        }
        each = -(-space[2] // cells_at_once(stride))
        kind = stride, m, each == 1
        name = f"move_{stride}_{m}{'' if each > 1 else '_narrow'}"
        step = self._record(name, move_kernel, *kind, fields=fields, tables=tables)
        self._add(step, len(cells) * (3 + space[0] * space[1] * (1 + each * m)))

    # -- outputs ---------------------------------------------------------------------------------

    def _sum(self, index: int, op: GroupSum, place: Ints) -> None:
        """Long runs of bytes are counted where they are; what is scattered is gathered first."""
        found = [_runs(row) for row in place.reshape(op.groups, -1)]
        ranges = [runs for runs, _ in found]
        scattered = np.concatenate([rest for _, rest in found])
        if len(scattered):
            start = self._bytes.borrow(len(scattered))
            self._gather(scattered, start)
            for runs, rest in found:
                runs.append((start, len(rest)))
                start += len(rest)
        most = max(map(len, ranges))
        rows = np.array([r + [(0, 0)] * (most - len(r)) for r in ranges])
        tau, beta = np.array([op.tau, op.beta], np.float32).view(np.uint32).tolist()
        fields: Fields = {
            Item.COUNT: op.groups,
            Item.RANGES: most,
            Item.SLOT: self.output_slot(index),
            Item.TAU: tau,
            Item.BETA: beta,
        }
        tables: Tables = {Item.ROWS: _u32(rows)}
        step = self._record("sum", sum_kernel, fields=fields, tables=tables)
        self._add(step, op.groups * most * 15 + place.size / 16)

    def _export(self, index: int, place: Ints) -> None:
        start = self._bytes.take(len(place) + GATHERED)
        self._gather(place, start)
        fields: Fields = {
            Item.COUNT: len(place),
            Item.SOURCE: start,
            Item.SLOT: self.output_slot(index),
        }
        self._add(self._record("export", export_kernel, fields=fields), len(place) / 16)


def _runs(places: Ints) -> tuple[list[tuple[int, int]], Ints]:
    """Long ranges (start, length) of which `places` holds every byte, and what else it holds."""
    distinct, count = np.unique(places, return_counts=True)
    first = np.flatnonzero(np.diff(distinct, prepend=-2) != 1)
    length = np.diff(first, append=len(distinct))
    long = length >= LANES // 2
    inside = np.repeat(long, length)
    ranges = zip(distinct[first[long]].tolist(), length[long].tolist(), strict=True)
    return list(ranges), np.repeat(distinct, np.where(inside, count - 1, count))


def _template(trees: Trees) -> Template:
    return Template(trees.height, 0 if trees.height else trees.leaves.shape[1])


def _by_lane(rows: npt.NDArray[Any], lanes: int = LANES) -> npt.NDArray[Any]:
    """(vectors * lanes, m) -> (vectors, m, lanes)."""
    return np.ascontiguousarray(rows.reshape(-1, lanes, rows.shape[1]).transpose(0, 2, 1))


def _permutation(places: Ints, bits: int) -> npt.NDArray[Any]:
    """(vectors, 3, lanes): places of words of `bits` bits, rounds that find them, and masks."""
    within = places % ROUND
    parts = np.stack([within // bits, places // ROUND, 1 << within % bits], axis=1)
    return _by_lane(parts.astype(np.uint8 if bits == 8 else np.uint16), 512 // bits)


def _valid(width: int, step: int) -> npt.NDArray[np.int8]:
    """-1 for each cell of a row and 0 for those after, in whole steps."""
    mask = np.zeros(-(-width // step) * step, np.int8)
    mask[:width] = -1
    return mask


def _words(masks: Bools) -> npt.NDArray[np.uint32]:
    return np.where(masks, np.uint32(0xFFFF_FFFF), np.uint32(0))


def _u32(offsets: Ints) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(offsets, dtype=np.uint32)


def _three(axes: tuple[int, ...], fill: int) -> tuple[int, int, int]:
    a, b, c = (fill,) * (3 - len(axes)) + tuple(axes)
    return a, b, c
