"""Plan: a graph lowered to steps over numbered planes, independent of the target.

A plane holds one bit of every sample of a batch block. Each value's elements are mapped to planes
(`Storage`), so that reshapes cost nothing; each step is one template applied to a table of rows.
"Code for shapes, data for wiring": what a backend compiles are templates, what it loads are rows.
Values that convolutions read past their edge carry a halo of planes that stay False.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.backends.cones import ConeCutter, legal_for_cones
from lgir.backends.forest import ragged
from lgir.backends.groups import split_groups
from lgir.backends.schedule import schedule_gates
from lgir.backends.steps import (
    BUFFER,
    FIRST_FREE_PLANE,
    ONE_PLANE,
    ZERO_PLANE,
    ConeStep,
    ExportStep,
    GateStep,
    PackStep,
    Plan,
    Planes,
    Step,
    SumStep,
)
from lgir.body import FIRST_TAP, Body
from lgir.errors import BackendError
from lgir.graph import Graph, GroupSum, Logic, Node, Reshape, Shape, Threshold, Value
from lgir.registry import PASSES
from lgir.simulate import tap_index


@dataclass
class _Storage:
    """Where a value lives: the plane of each element and, if regular, its affine layout. Elements
    without a plane, -1, are counted in `counts` (groups, width).
    """

    planes: Planes
    strides: tuple[int, ...] | None = None
    low: Shape = ()
    high: Shape = ()
    geometry: tuple[int, ...] = ()
    blocks: list[tuple[int, int]] = field(default_factory=list)
    counts: Planes | None = None


class _Planes:
    """The planes of a plan: every one new."""

    def __init__(self, first: int) -> None:
        self.size = first

    def take(self, count: int) -> int:
        start, self.size = self.size, self.size + count
        return start


class _Margin:
    """Ranges with planes that stay False before them."""

    def __init__(self, source: _Planes, before: int) -> None:
        self._source, self._before = source, before

    def take(self, count: int) -> int:
        return self._source.take(self._before + count) + self._before


class _Allocator:
    """First-fit allocation of ranges, with coalescing; planes never used come from `source`."""

    def __init__(self, source: _Planes | _Margin) -> None:
        self._source = source
        self._free: list[tuple[int, int]] = []

    def take(self, count: int) -> int:
        for i, (start, length) in enumerate(self._free):
            if length >= count:
                rest = (start + count, length - count)
                self._free[i : i + 1] = [rest] if rest[1] else []
                return start
        return self._source.take(count)

    def give(self, start: int, count: int) -> None:
        merged = sorted([*self._free, (start, count)])
        self._free = merged[:1]
        for begin, length in merged[1:]:
            last_begin, last_length = self._free[-1]
            if last_begin + last_length == begin:
                self._free[-1] = (last_begin, last_length + length)
            else:
                self._free.append((begin, length))


def make_plan(graph: Graph, *, chains: bool = False) -> Plan:
    """Lower `graph`; `chains` allows ChainSteps and splits convolutions into channel groups, for
    targets where caches are what limits.

    Where a convolution body holds constants or ignored inputs, the graph is
    folded first: cone templates have no place for them.
    """
    conv = [op.body for _, op in graph.of_type(Logic) if op.positions > 1]
    if not all(map(legal_for_cones, conv)):
        graph = PASSES.get("fold")(graph)
    if chains:
        graph = split_groups(graph)
    return _Planner(graph, chains).plan()


class _Planner:
    def __init__(self, graph: Graph, chains: bool) -> None:
        self.graph = graph
        self.chains = chains
        self.all = _Planes(FIRST_FREE_PLANE)
        self.alloc = _Allocator(self.all)
        self.haloed: dict[tuple[int, ...], _Allocator] = {}
        self.steps: list[Step] = []
        self.storage: dict[str, _Storage] = {}
        self.pads = _halos(graph)
        self.root = _roots(graph)
        self.readers = _readers(graph, self.root)

    def plan(self) -> Plan:
        graph = self.graph
        gates = 0
        for i, value in enumerate(graph.inputs):
            if value.dtype == "bit":
                self._pack(i, value, None)
        for node in graph.nodes:
            if isinstance(node.op, Threshold):
                self._threshold(node, node.op)
            elif isinstance(node.op, Reshape):
                self._reshape(node, node.op)
            elif isinstance(node.op, Logic):
                gates += node.op.body.num_gates * node.op.positions
                self._logic(node, node.op)
            self._release(node)
        for i, name in enumerate(graph.outputs):
            self._output(i, name)
        return Plan(graph, tuple(self.steps), self.all.size, gates)

    # -- values ----------------------------------------------------------------------------------

    def _allocate(self, value: Value) -> _Storage:
        """Planes for `value`. A line along an axis ends in cells that stay False, which serve before
        the next line as well: reading past either edge finds them. A range with such a halo is only
        ever used by values of its geometry, which write the same cells.
        """
        low, high = self.pads.get(value.name, ((0,) * (len(value.shape) - 1),) * 2)
        channels, *space = value.shape
        padded = [s + max(a, b) for s, a, b in zip(space, low, high, strict=True)]
        strides = _row_major(padded)
        count = channels * math.prod(padded)
        storage = _Storage(np.zeros(0, np.int64), strides, low, high)
        if any(low) or any(high):
            storage.geometry = (*space, *low, *high)
            if storage.geometry not in self.haloed:
                before = sum(a * step for a, step in zip(low, strides, strict=True))
                self.haloed[storage.geometry] = _Allocator(_Margin(self.all, before))
            base = self.haloed[storage.geometry].take(count)
        else:
            base = self.alloc.take(count)
        storage.blocks.append((base, count))
        grid = np.arange(base, base + count, dtype=np.int64).reshape(channels, *padded)
        storage.planes = grid[(slice(None), *map(slice, space))]
        self.storage[value.name] = storage
        return storage

    def _release(self, node: Node) -> None:
        """Frees the planes of what nothing reads after `node`."""
        if not isinstance(node.op, Reshape):
            for root in {self.root[name] for name in node.inputs}:
                self.readers[root] -= 1
                self._free_if_dead(root)
        self._free_if_dead(self.root[node.output])

    def _free_if_dead(self, root: str) -> None:
        if self.readers[root]:
            return
        for name, storage in self.storage.items():
            if self.root[name] == root:
                alloc = self.haloed[storage.geometry] if storage.geometry else self.alloc
                for start, count in storage.blocks:
                    alloc.give(start, count)
                storage.blocks = []

    # -- inputs ----------------------------------------------------------------------------------

    def _pack(
        self, index: int, value: Value, levels: npt.NDArray[np.float32] | None, to: str = ""
    ) -> None:
        """Pack graph input `index` into the value named `to` (itself where it is bits)."""
        bits = self.graph.values[to] if to else value
        planes = self._allocate(bits).planes
        count = 1 if levels is None else levels.shape[0]
        by_level = np.moveaxis(planes.reshape(value.shape[0], count, -1), 1, 0)
        self.steps.append(
            PackStep(index, value.dtype, levels, np.ascontiguousarray(by_level.reshape(count, -1)))
        )

    def _threshold(self, node: Node, op: Threshold) -> None:
        source, shape = node.inputs[0], self.graph.values[node.inputs[0]].shape
        lead = op.levels.shape[:-1]
        levels = op.levels.reshape(*lead, *(1,) * (len(shape) - len(lead)), op.num_levels)
        flat = np.broadcast_to(levels, (*shape, op.num_levels)).reshape(-1, op.num_levels)
        index, value = self._graph_input(source)
        # A reshaped input has the same elements in the same order, so only the grouping of bits by
        # this node's channels matters.
        value = Value(value.name, value.dtype, shape)
        self._pack(index, value, np.ascontiguousarray(flat.T), node.output)

    def _graph_input(self, name: str) -> tuple[int, Value]:
        """The graph input behind `name`, through reshapes."""
        while True:
            for i, value in enumerate(self.graph.inputs):
                if value.name == name:
                    return i, value
            producer = self.graph.producer(name)
            assert producer is not None
            name = producer.inputs[0]

    def _reshape(self, node: Node, op: Reshape) -> None:
        source = self.storage.get(node.inputs[0])
        if source is None:  # numbers, read by a Threshold later
            return
        self.storage[node.output] = _Storage(source.planes.reshape(op.shape))

    # -- logic -----------------------------------------------------------------------------------

    def _logic(self, node: Node, op: Logic) -> None:
        if op.positions > 1:
            self._cones(node, op)
            return
        shapes = [self.graph.values[name].shape for name in node.inputs]
        every = [self.storage[name].planes.ravel() for name in node.inputs]
        table = np.concatenate([*every, [ZERO_PLANE]])
        taps = table[tap_index(op, shapes)[:, 0]]
        classes = self._classes(node)
        done = schedule_gates(op.body, taps, self.alloc, chains=self.chains, classes=classes)
        self.steps += done.steps
        shape = self.graph.values[node.output].shape
        self.storage[node.output] = _Storage(
            done.outputs.reshape(shape), blocks=done.blocks, counts=done.counts
        )

    def _classes(self, node: Node) -> npt.NDArray[np.int64] | None:
        """The group of each element of the node's output, if a GroupSum is all that reads it."""
        if node.output in self.graph.outputs:
            return None
        readers = self.graph.users()[node.output]
        if len(readers) != 1 or not isinstance(readers[0].op, GroupSum):
            return None
        groups = readers[0].op.groups
        return np.repeat(np.arange(groups), self.graph.values[node.output].size // groups)

    def _cones(self, node: Node, op: Logic) -> None:
        body = op.body
        sources = [self._regular(name) for name in node.inputs]
        out = self._allocate(self.graph.values[node.output])
        assert out.strides is not None
        taps = _tap_planes(body, sources)
        place = np.full(body.num_nets, -1, np.int64)
        place[:FIRST_TAP] = ZERO_PLANE, ONE_PLANE
        place[FIRST_TAP : body.first_gate] = taps
        origin = out.planes.reshape(len(body.outputs), -1)[:, 0]
        groups = ConeCutter(body).groups()
        roots = np.concatenate([g.roots for g in groups]) if groups else np.zeros(0, np.int64)
        # A root that is an output is computed in place of its first channel; others in scratch.
        channel_nets, first_channel = np.unique(body.outputs, return_index=True)
        is_output = np.isin(roots, channel_nets)
        place[roots[is_output]] = origin[
            first_channel[np.searchsorted(channel_nets, roots[is_output])]
        ]
        inner = roots[~is_output]
        # Scratch channels are laid out as the output's, halo included.
        extent = out.strides[0] * (op.space[0] + max(out.low[0], out.high[0]))
        scratch = self.alloc.take(len(inner) * extent) if len(inner) else 0
        place[inner] = scratch + np.arange(len(inner)) * extent
        strides = sources[0].strides
        assert strides is not None
        space = _three(op.space, 1)
        out_step = _three(out.strides, 0)
        in_step = _three(tuple(s * t for s, t in zip(strides, op.stride, strict=True)), 0)
        for group in sorted(groups, key=lambda g: g.level):
            shifts = group.shifts @ np.array(strides, dtype=np.int64)
            self.steps.append(
                ConeStep(
                    group.expr,
                    place[group.leaves],
                    group.masks,
                    place[group.roots],
                    space,
                    in_step,
                    out_step,
                    shifts,
                )
            )
        self._copy_channels(op, out, place, strides)
        if len(inner):
            self.alloc.give(scratch, len(inner) * extent)

    def _copy_channels(
        self, op: Logic, out: _Storage, place: Planes, strides: tuple[int, ...]
    ) -> None:
        """Output channels that are a tap or a constant, or repeat another one."""
        outputs = op.body.outputs
        planes = out.planes.reshape(len(outputs), -1)
        nets, first = np.unique(outputs, return_index=True)
        plain = first[nets < op.body.first_gate]
        grid = np.indices(op.space).reshape(len(op.space), -1).T * np.array(op.stride)
        walk = grid @ np.array(strides, dtype=np.int64)
        moves = outputs[plain, None] >= FIRST_TAP  # a constant is the same at every position
        self._copy(place[outputs[plain], None] + np.where(moves, walk, 0), planes[plain])
        original = first[np.searchsorted(nets, outputs)]
        again = np.flatnonzero(original != np.arange(len(outputs)))
        self._copy(planes[original[again]], planes[again])

    def _copy(self, source: Planes, target: Planes) -> None:
        """A step that copies planes one by one, where there are any."""
        rows = np.stack([source.ravel(), target.ravel()], axis=1)
        if len(rows):
            self.steps.append(GateStep(1, BUFFER, rows))

    def _regular(self, name: str) -> _Storage:
        """The storage of an input that a convolution can walk: affine, with its halo."""
        storage = self.storage[name]
        if storage.strides is not None and (storage.low, storage.high) == self.pads[name]:
            return storage
        fresh = self._allocate(self.graph.values[name])
        self._copy(storage.planes, fresh.planes)
        return fresh

    # -- outputs ---------------------------------------------------------------------------------

    def _output(self, index: int, name: str) -> None:
        producer = self.graph.producer(name)
        if producer is not None and isinstance(producer.op, GroupSum):
            op = producer.op
            storage = self.storage[producer.inputs[0]]
            planes = storage.planes.reshape(op.groups, -1)
            if storage.counts is not None:
                group, column = np.nonzero(planes >= 0)
                planes = ragged(planes[group, column], group, op.groups)
            self.steps.append(SumStep(index, planes, op.tau, op.beta, storage.counts))
        elif name in self.storage:
            self.steps.append(ExportStep(index, self.storage[name].planes.ravel()))
        else:
            raise BackendError(
                f"output %{name} is an input passed through as numbers; only bits and scores can "
                "be compiled"
            )


def _tap_planes(body: Body, sources: list[_Storage]) -> Planes:
    """The plane that each tap reads at position 0; it may lie in the halo."""
    taps = body.taps.astype(np.int64)
    planes = np.zeros(len(taps), np.int64)
    for i, source in enumerate(sources):
        mine = taps[:, 0] == i
        origin = source.planes.reshape(source.planes.shape[0], -1)[:, 0]
        planes[mine] = origin[taps[mine, 1]] + taps[mine, 2:] @ np.array(source.strides, np.int64)
    return planes


def _row_major(extent: list[int]) -> tuple[int, ...]:
    """Strides of the axes after the channel axis, in planes."""
    return tuple(math.prod(extent[i + 1 :]) for i in range(len(extent)))


def _three(axes: tuple[int, ...], fill: int) -> tuple[int, int, int]:
    a, b, c = (fill,) * (3 - len(axes)) + tuple(axes)
    return a, b, c


def _roots(graph: Graph) -> dict[str, str]:
    """Value -> the value whose planes it shares, through reshapes."""
    root = {value.name: value.name for value in graph.inputs}
    for node in graph.nodes:
        shares = isinstance(node.op, Reshape)
        root[node.output] = root[node.inputs[0]] if shares else node.output
    return root


def _readers(graph: Graph, root: dict[str, str]) -> dict[str, int]:
    """How many nodes read each root; what graph outputs read is held to the end."""
    readers = dict.fromkeys(graph.values, 0)
    for node in graph.nodes:
        if not isinstance(node.op, Reshape):
            for name in {root[name] for name in node.inputs}:
                readers[name] += 1
    for name in graph.outputs:
        producer = graph.producer(name)
        if producer is not None and isinstance(producer.op, GroupSum):
            name = producer.inputs[0]
        readers[root[name]] += 1
    return readers


def _halos(graph: Graph) -> dict[str, tuple[Shape, Shape]]:
    """Cells that convolutions read before and after each axis of a value, by value name.

    Inputs of one node share their row strides: a template walks them with one offset.
    """
    pads: dict[str, tuple[Any, Any]] = {}
    nodes = [(n, op) for n, op in graph.of_type(Logic) if op.positions > 1]
    for node, op in nodes:
        last = (np.array(op.space) - 1) * np.array(op.stride)
        for i, name in enumerate(node.inputs):
            space = np.array(graph.values[name].shape[1:])
            offsets = op.body.taps[op.body.taps[:, 0] == i, 2:].astype(np.int64)
            zero = np.zeros((1, len(space)), np.int64)
            low = np.concatenate([zero, -offsets]).max(axis=0)
            high = np.concatenate([zero, offsets + last - space + 1]).max(axis=0)
            if name in pads:
                low, high = np.maximum(low, pads[name][0]), np.maximum(high, pads[name][1])
            pads[name] = (low, high)
    changed = True
    while changed:
        changed = False
        for node, _ in nodes:
            extents = {
                name: np.array(graph.values[name].shape[1:]) + np.maximum(*pads[name])
                for name in node.inputs
            }
            widest = np.max(list(extents.values()), axis=0)
            for name, extent in extents.items():
                missing = widest - extent
                missing[0] = 0  # the slowest axis has no part in the strides
                if missing.any():
                    low, high = pads[name]
                    pads[name] = (low, np.where(missing > 0, np.maximum(low, high) + missing, high))
                    changed = True
    return {n: (tuple(map(int, a)), tuple(map(int, b))) for n, (a, b) in pads.items()}
