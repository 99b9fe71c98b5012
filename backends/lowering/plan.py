"""Plan: a graph lowered to steps over numbered planes, independent of the target.

A plane holds one bit of every sample of a batch block. Each value's elements are mapped to planes
(`Storage`), so that reshapes cost nothing; each step is one template applied to a table of rows.
"Code for shapes, data for wiring": what a backend compiles are templates, what it loads are rows.
Values that convolutions read past their edge carry a halo of planes that stay False.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering.channel_groups import split_groups
from lgir.backends.lowering.chunked_popcount import planes_by_group
from lgir.backends.lowering.cones import ConeCutter
from lgir.backends.lowering.halos import Halo
from lgir.backends.lowering.legalize import legalize
from lgir.backends.lowering.options import LoweringOptions
from lgir.backends.lowering.schedule import schedule_gates
from lgir.backends.lowering.steps import (
    BUFFER,
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
from lgir.backends.lowering.storage import Memory, Storage
from lgir.errors import BackendError
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Reshape, Threshold
from lgir.ir.simulate import tap_index
from lgir.ir.thresholds import element_levels
from lgir.ir.types import FIRST_TAP, Value


def make_plan(graph: Graph, options: LoweringOptions) -> Plan:
    """Lower `graph` to a plan, by the transformations that `options` name.

    The lowering is legalization, the split into channel groups and the choice of steps and planes.
    """
    graph = legalize(graph)
    if options.channel_groups:
        graph = split_groups(graph)
    return _Planner(graph, options).plan()


class _Planner:
    def __init__(self, graph: Graph, options: LoweringOptions) -> None:
        self.graph = graph
        self.options = options
        self.memory = Memory(graph)
        self.steps: list[Step] = []
        self.batches = 0

    def plan(self) -> Plan:
        graph = self.graph
        self.memory.gather(graph)
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
            self.memory.release(node)
        for i, name in enumerate(graph.outputs):
            self._output(i, name)
        return Plan(graph, tuple(self.steps), self.memory.num_planes, gates)

    # -- inputs ----------------------------------------------------------------------------------

    def _pack(
        self, index: int, value: Value, levels: npt.NDArray[np.float32] | None, to: str = ""
    ) -> None:
        """Pack graph input `index` into the value named `to` (itself where it is bits)."""
        bits = self.graph.values[to] if to else value
        planes = self.memory.allocate(bits).planes
        count = 1 if levels is None else levels.shape[0]
        by_level = np.moveaxis(planes.reshape(value.shape[0], count, -1), 1, 0)
        self.steps.append(
            PackStep(index, value.dtype, levels, np.ascontiguousarray(by_level.reshape(count, -1)))
        )

    def _threshold(self, node: Node, op: Threshold) -> None:
        source, shape = node.inputs[0], self.graph.values[node.inputs[0]].shape
        flat = element_levels(op, shape).reshape(-1, op.num_levels)
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
        source = self.memory.values.get(node.inputs[0])
        if source is None:  # numbers, read by a Threshold later
            return
        self.memory.values[node.output] = Storage(source.planes.reshape(op.shape))

    # -- logic -----------------------------------------------------------------------------------

    def _logic(self, node: Node, op: Logic) -> None:
        if op.positions > 1:
            self._cones(node, op)
            return
        shapes = [self.graph.values[name].shape for name in node.inputs]
        every = [self.memory.values[name].planes.ravel() for name in node.inputs]
        table = np.concatenate([*every, [ZERO_PLANE]])
        taps = table[tap_index(op, shapes)[:, 0]]
        classes = self._classes(node)
        done = schedule_gates(op.body, taps, self.memory.free, self.options, classes)
        self.steps += done.steps
        shape = self.graph.values[node.output].shape
        self.memory.values[node.output] = Storage(
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
        value = self.graph.values[node.output]
        out = self.memory.values.get(node.output) or self.memory.allocate(value)
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
        scratch = self.memory.free.take(len(inner) * extent) if len(inner) else 0
        place[inner] = scratch + np.arange(len(inner)) * extent
        strides = sources[0].strides
        assert strides is not None
        space = _three(op.space, 1)
        out_step = _three(out.strides, 0)
        in_step = _three(tuple(s * t for s, t in zip(strides, op.stride, strict=True)), 0)
        level = None
        for group in sorted(groups, key=lambda g: g.level):
            self.batches += group.level != level
            level = group.level
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
                    self.batches,
                )
            )
        self._copy_channels(op, out, place, strides)
        if len(inner):
            self.memory.free.give(scratch, len(inner) * extent)

    def _copy_channels(
        self, op: Logic, out: Storage, place: Planes, strides: tuple[int, ...]
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

    def _regular(self, name: str) -> Storage:
        """The storage of an input that a convolution can walk: affine, with its halo."""
        storage = self.memory.values[name]
        if (
            storage.strides is not None
            and Halo(storage.low, storage.high) == self.memory.halos[name]
        ):
            return storage
        fresh = self.memory.allocate(self.graph.values[name])
        self._copy(storage.planes, fresh.planes)
        return fresh

    # -- outputs ---------------------------------------------------------------------------------

    def _output(self, index: int, name: str) -> None:
        producer = self.graph.producer(name)
        if producer is not None and isinstance(producer.op, GroupSum):
            op = producer.op
            storage = self.memory.values[producer.inputs[0]]
            planes = storage.planes.reshape(op.groups, -1)
            if storage.counts is not None:
                group, column = np.nonzero(planes >= 0)
                planes = planes_by_group(planes[group, column], group, op.groups)
            self.steps.append(SumStep(index, planes, op.tau, op.beta, storage.counts))
        elif name in self.memory.values:
            self.steps.append(ExportStep(index, self.memory.values[name].planes.ravel()))
        else:
            raise BackendError(
                f"output %{name} is an input passed through as numbers; only bits and scores can "
                "be compiled"
            )


def _tap_planes(body: Body, sources: list[Storage]) -> Planes:
    """The plane that each tap reads at position 0; it may lie in the halo."""
    taps = body.taps.astype(np.int64)
    planes = np.zeros(len(taps), np.int64)
    for i, source in enumerate(sources):
        mine = taps[:, 0] == i
        origin = source.planes.reshape(source.planes.shape[0], -1)[:, 0]
        planes[mine] = origin[taps[mine, 1]] + taps[mine, 2:] @ np.array(source.strides, np.int64)
    return planes


def _three(axes: tuple[int, ...], fill: int) -> tuple[int, int, int]:
    a, b, c = (fill,) * (3 - len(axes)) + tuple(axes)
    return a, b, c
