"""Plan the evaluation of a graph for one sample: steps over a workspace of bytes, for any target.

A convolution is evaluated at every cell of its input maps, also at the cells that a stride skips,
so that the copies of a cone under a pool are one cone; its results are then moved to where they are
read. The trees of a dense layer are evaluated a vector at a time, and what they read is gathered in
their order first. Wiring and shapes are data of the steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.single_sample.byte_allocator import SLACK, ByteAllocator
from lgir.backends.llvm.single_sample.byte_maps import map_layouts
from lgir.backends.llvm.single_sample.costs import ZEN4
from lgir.backends.llvm.single_sample.perfect_trees import (
    PerfectTrees,
    cell_range,
    cut_perfect_trees,
)
from lgir.backends.llvm.single_sample.shifted_nets import Ints, convolution_nets, dense_nets
from lgir.backends.llvm.single_sample.steps import (
    GATHER_BLOCK,
    LANES,
    LOOKUP_BITS,
    NUMBERS,
    POSITIONS,
    CompareLevels,
    CountRanges,
    DenseTrees,
    ExportBits,
    GatherBytes,
    LoadSample,
    Lookup,
    MapTrees,
    MoveMaps,
    SampleStep,
    gather_cycles,
)
from lgir.backends.lowering.layouts import three_axes
from lgir.backends.lowering.legalize import legalize
from lgir.errors import BackendError
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Reshape, Threshold
from lgir.ir.simulate import tap_index
from lgir.ir.thresholds import element_levels
from lgir.ir.types import FALSE, FIRST_TAP, Shape

MAX_LOOKUP_SPAN: Final = 1 << 14
"""Bytes within which a gather may look bits up by permutations."""
_MAX_WORKSPACE: Final = 1 << 32
"""Bytes that 32-bit offsets address."""
_MIN_RUN: Final = LANES // 2
"""Successive bytes from which on a sum counts them where they are."""


@dataclass(frozen=True)
class SingleSampleOptions:
    """What the target offers to a plan.

    Attributes:
        lane_bits: the bits of the lanes, 8 or 16, that one instruction permutes between two 512-bit
            registers; 0 if the target has no such instruction.
    """

    lane_bits: int = 0


@dataclass(frozen=True, eq=False)
class SingleSamplePlan:
    """The steps that evaluate one sample of a graph, in order.

    Attributes:
        graph: the legalized graph that is evaluated.
        steps: the steps; they work in one workspace.
        workspace: the bytes of the workspace. They are 0 before the first sample, but for `ones`.
        ones: the range (start, stop) of bytes that are 0xFF before the first sample.
    """

    graph: Graph
    steps: tuple[SampleStep, ...]
    workspace: int
    ones: tuple[int, int]


def plan_single_sample(
    graph: Graph, options: SingleSampleOptions = SingleSampleOptions()
) -> SingleSamplePlan:
    """Return the plan of `graph` for one sample.

    Raises BackendError if the workspace exceeds the 4 GiB that 32-bit offsets address.
    """
    graph = legalize(graph, dense_bodies=True)
    return _Planner(graph, options).plan()


class _Planner:
    """Plans node by node. Elements of values are offsets of bytes of the workspace.

    Attributes:
        offsets: the offset of each element of every value of bits so far, by name.
        maps: the offset of the first cell of every value that is laid out as a map.
    """

    def __init__(self, graph: Graph, options: SingleSampleOptions) -> None:
        self.graph = graph
        self.options = options
        self.steps: list[SampleStep] = []
        self.layouts = map_layouts(graph)
        self.reach = self._reach()
        self.bytes = ByteAllocator(self.reach)
        # Constants are ranges: lanes around a tap's cell read the bytes around it.
        self.constants = [self.bytes.allocate(2 * self.reach) + self.reach for _ in range(2)]
        self.offsets: dict[str, Ints] = {}
        self.maps: dict[str, int] = {}
        self.samples: dict[int, int] = {}

    def plan(self) -> SingleSamplePlan:
        graph = self.graph
        for index, value in enumerate(graph.inputs):
            if value.dtype == "bit":
                self._compare(index, value.name, value.shape, None)
        for node in graph.nodes:
            match node.op:
                case Threshold():
                    self._threshold(node, node.op)
                case Reshape():
                    self._reshape(node, node.op)
                case Logic():
                    if node.op.positions > 1:
                        self._convolution(node, node.op)
                    else:
                        self._dense(node, node.op)
                    self.bytes.release()
        for index, name in enumerate(graph.outputs):
            producer = graph.producer(name)
            if producer is not None and isinstance(producer.op, GroupSum):
                self._group_sum(index, producer.op, self.offsets[producer.inputs[0]])
            else:
                self._export(index, self.offsets[name].ravel())
        workspace = self.bytes.size + 2 * self.reach + LOOKUP_BITS
        if workspace >= _MAX_WORKSPACE:
            raise BackendError(f"one sample takes {workspace:,} bytes; at most 4 GiB")
        true = self.constants[1]
        ones = (true - self.reach, true + self.reach)
        return SingleSamplePlan(graph, tuple(self.steps), workspace, ones)

    def _reach(self) -> int:
        """Return how far from a byte that is wanted lanes read bytes that nobody wants.

        That is at most a channel beyond what a tap reads.
        """
        names = [
            n for node, op in self.graph.of_type(Logic) if op.positions > 1 for n in node.inputs
        ]
        channel_pitch = max((self.layouts[name].channel_pitch for name in names), default=0)
        before = max((self.layouts[name].before for name in names), default=0)
        return 2 * channel_pitch + before + SLACK

    # -- inputs ----------------------------------------------------------------------------------

    def _threshold(self, node: Node, op: Threshold) -> None:
        name = node.inputs[0]
        shape = self.graph.values[name].shape
        while (producer := self.graph.producer(name)) is not None:
            name = producer.inputs[0]
        index = [value.name for value in self.graph.inputs].index(name)
        self._compare(index, node.output, shape, element_levels(op, shape))

    def _compare(
        self, index: int, name: str, shape: Shape, levels: npt.NDArray[np.float32] | None
    ) -> None:
        """Compare graph input `index`, numbers of `shape`, with `levels` (*shape, count).

        The bits become the value `name`. Without levels, the numbers are bits.
        """
        count = 1 if levels is None else levels.shape[-1]
        if len(shape) > 1:
            channels, height, width = shape[0], math.prod(shape[1:-1]), shape[-1]
            rows = self._new_map(name).reshape(channels, count, height, width)[..., 0]
        else:  # One row per level, since one row per feature would be a row of few cells.
            channels, height, width = 1, 1, shape[0]
            pitch = width + SLACK
            start = self.bytes.allocate(count * pitch)
            rows = (start + np.arange(count) * pitch).reshape(1, count, 1)
            self.offsets[name] = (rows.ravel() + np.arange(width)[:, None]).ravel()
        thresholds = None
        if levels is not None:
            thresholds = np.moveaxis(levels.reshape(channels, height, width, count), -1, 1)
        numbers = self._loaded_sample(index)
        dtype = self.graph.inputs[index].dtype
        self.steps.append(CompareLevels(index, dtype, numbers, rows, width, thresholds))

    def _loaded_sample(self, index: int) -> int:
        """Return the offset of the numbers of graph input `index`, which are loaded once."""
        if index not in self.samples:
            value = self.graph.inputs[index]
            out = self.bytes.allocate(4 * (value.size + NUMBERS))
            self.samples[index] = out
            self.steps.append(LoadSample(index, value.dtype, value.size, out))
        return self.samples[index]

    def _reshape(self, node: Node, op: Reshape) -> None:
        if node.inputs[0] in self.offsets:  # Else numbers, which a Threshold reads.
            self.offsets[node.output] = self.offsets[node.inputs[0]].reshape(op.shape)

    # -- maps ------------------------------------------------------------------------------------

    def _new_map(self, name: str) -> Ints:
        """Allocate a map for the value `name` and return its elements' offsets, (C, *space)."""
        layout = self.layouts[name]
        self.maps[name] = self.bytes.allocate(layout.size) + layout.before
        self.offsets[name] = self.maps[name] + layout.offsets()
        return self.offsets[name]

    def _as_map(self, name: str) -> int:
        """Return the first cell's offset of the value `name`, gathered into a map if needed."""
        if name not in self.maps:
            layout = self.layouts[name]
            start = self.bytes.allocate(layout.size)
            sources = np.full(layout.size, self.constants[FALSE])
            sources[layout.before + layout.offsets()] = self.offsets[name]
            self._gather(sources, start)
            self.maps[name] = start + layout.before
        return self.maps[name]

    # -- gates -----------------------------------------------------------------------------------

    def _dense(self, node: Node, op: Logic) -> None:
        body = op.body
        inputs = [self.offsets[name] for name in node.inputs]
        elements = np.concatenate([*(x.ravel() for x in inputs), self.constants[:1]])
        offset = np.empty(body.num_nets, np.int64)
        offset[:FIRST_TAP] = self.constants
        taps = tap_index(op, [x.shape for x in inputs])[:, 0]
        offset[FIRST_TAP : body.first_gate] = elements[taps]
        # Trees are in the order of the outputs, so that the bits of one sum are neighbors.
        rank = np.full(body.num_nets, len(body.outputs))
        np.minimum.at(rank, body.outputs, np.arange(len(body.outputs)))
        groups = cut_perfect_trees(dense_nets(body), duplicate_gates=False)
        # Results have no gaps, so that permutations reach far.
        starts = np.cumsum([0, *(_rounded(len(trees.roots), LANES) for trees in groups)])
        starts += self.bytes.allocate(int(starts[-1]))
        for trees, out in zip(groups, starts.tolist(), strict=False):
            order = np.lexsort([trees.roots, rank[trees.roots]])
            self._dense_trees(trees, order, offset, out)
            offset[trees.roots[order]] = out + np.arange(len(order))
            self.bytes.release()
        shape = self.graph.values[node.output].shape
        self.offsets[node.output] = offset[body.outputs].reshape(shape)

    def _dense_trees(self, trees: PerfectTrees, order: Ints, offset: Ints, out: int) -> None:
        """Evaluate trees in `order`, one per lane; results are at `out` and the bytes behind it.

        `offset` (num_nets,) is the offset of each net's bit.
        """
        template, n = trees.template, len(order)
        lanes = _rounded(n, LANES)
        leaves = np.full((lanes, template.num_leaves), offset[trees.leaves[0, 0]])
        leaves[:n] = offset[trees.leaves[order]]
        masks = np.zeros((lanes, template.num_masks), bool)
        masks[:n] = trees.masks[order]
        gathered = self.bytes.borrow(leaves.size)
        self._gather(by_vector(leaves).ravel(), gathered)
        self.steps.append(DenseTrees(template, masks, gathered, out))

    def _convolution(self, node: Node, op: Logic) -> None:
        body = op.body
        first_cell = np.array([self._as_map(name) for name in node.inputs])
        layouts = [self.layouts[name] for name in node.inputs]
        pitch = np.array(layouts[0].pitch, np.int64)
        offset = np.zeros(body.num_nets, np.int64)
        offset[:FIRST_TAP] = self.constants
        taps = body.taps.astype(np.int64)
        channel_pitch = np.array([layout.channel_pitch for layout in layouts])
        offset[FIRST_TAP : body.first_gate] = (
            first_cell[taps[:, 0]] + channel_pitch[taps[:, 0]] * taps[:, 1] + taps[:, 2:] @ pitch
        )
        nets = convolution_nets(body, pitch)
        groups = cut_perfect_trees(nets, duplicate_gates=True)
        last = int((np.array(op.space) - 1) * np.array(op.stride) @ pitch)
        low, high = cell_range(nets, groups, last)
        vectors = (high - low) // POSITIONS + 1
        roots = np.concatenate([g.roots for g in groups]) if groups else np.zeros(0, np.int64)
        size = vectors * POSITIONS
        start = self.bytes.borrow(len(roots) * size)
        offset[roots] = start + np.arange(len(roots)) * size - low
        for trees in groups:
            leaves = offset[trees.leaves] + trees.shifts + low
            out = offset[trees.roots] + low
            self.steps.append(MapTrees(trees.template, leaves, out, trees.masks, vectors))
        self._move(node, op, offset[nets.outputs, None] + nets.output_shifts, pitch)

    def _move(self, node: Node, op: Logic, sources: Ints, pitch: Ints) -> None:
        """Move the OR of the maps at `sources` (C, m) per channel, read with the node's stride."""
        cells = self._new_map(node.output)
        out_pitch = three_axes(self.layouts[node.output].pitch, 0)
        source_pitch = three_axes((pitch * np.array(op.stride)).tolist(), 0)
        self.steps.append(
            MoveMaps(
                sources=sources,
                out=cells.reshape(len(cells), -1)[:, 0],
                space=three_axes(op.space, 1),
                source_pitch=source_pitch[:2],
                out_pitch=out_pitch[:2],
                stride=op.stride[-1],
            )
        )

    def _gather(self, sources: Ints, out: int) -> None:
        """Copy the bytes at `sources` (n,) to `out`, and arbitrary bytes behind them."""
        first = int(sources.min())
        span = int(sources.max()) + 1 - first
        padded = np.full(_rounded(len(sources), GATHER_BLOCK), first)
        padded[: len(sources)] = sources
        lookup = self._lookup(first, span, len(padded))
        self.steps.append(GatherBytes(padded, out, lookup))

    def _lookup(self, first: int, span: int, size: int) -> Lookup | None:
        """Return how `size` bytes within `span` bytes are looked up, or None if that is slower."""
        lane_bits = self.options.lane_bits
        if not lane_bits or span > MAX_LOOKUP_SPAN:
            return None
        rounds = -(-span // LOOKUP_BITS)
        lookup = Lookup(lane_bits, first, rounds, scratch=0)
        if gather_cycles(size, lookup, ZEN4) >= gather_cycles(size, None, ZEN4):
            return None
        return replace(lookup, scratch=self.bytes.borrow(rounds * LOOKUP_BITS // 8))

    # -- outputs ---------------------------------------------------------------------------------

    def _group_sum(self, index: int, op: GroupSum, offsets: Ints) -> None:
        """Count runs of bytes where they are; gather the other bytes first."""
        runs, scattered = zip(*map(split_runs, offsets.reshape(op.groups, -1)), strict=True)
        ranges: list[list[tuple[int, int]]] = [list(group) for group in runs]
        sources = np.concatenate(scattered)
        if len(sources):
            start = self.bytes.borrow(len(sources))
            self._gather(sources, start)
            for group, rest in zip(ranges, scattered, strict=True):
                group.append((start, len(rest)))
                start += len(rest)
        most = max(map(len, ranges))
        padded = np.array([group + [(0, 0)] * (most - len(group)) for group in ranges])
        self.steps.append(CountRanges(index, padded, offsets.size, op.tau, op.beta))

    def _export(self, index: int, offsets: Ints) -> None:
        start = self.bytes.allocate(len(offsets) + GATHER_BLOCK)
        self._gather(offsets, start)
        self.steps.append(ExportBits(index, start, len(offsets)))


def split_runs(offsets: Ints) -> tuple[list[tuple[int, int]], Ints]:
    """Split offsets, which may repeat, into long runs (start, size) and the others.

    Each byte of a run is among the offsets at least once; further occurrences are among the others.
    """
    distinct, count = np.unique(offsets, return_counts=True)
    first = np.flatnonzero(np.diff(distinct, prepend=-2) != 1)
    size = np.diff(first, append=len(distinct))
    is_run = size >= _MIN_RUN
    in_run = np.repeat(is_run, size)
    runs = zip(distinct[first[is_run]].tolist(), size[is_run].tolist(), strict=True)
    return list(runs), np.repeat(distinct, np.where(in_run, count - 1, count))


def by_vector(rows: npt.NDArray[Any], lanes: int = LANES) -> npt.NDArray[Any]:
    """Return rows (vectors * lanes, m) as vectors with one row per lane, (vectors, m, lanes)."""
    return np.ascontiguousarray(rows.reshape(-1, lanes, rows.shape[1]).transpose(0, 2, 1))


def _rounded(size: int, multiple: int) -> int:
    """Return the least multiple that is not below `size`."""
    return -(-size // multiple) * multiple
