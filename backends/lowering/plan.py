"""Lower a graph to a plan: steps over numbered planes, independent of the target.

The elements of each value are mapped to planes, so that reshapes cost nothing, and each step is one
template applied to a table of rows: "code for shapes, data for wiring". A backend compiles the
templates and loads the rows.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering.channel_groups import split_groups
from lgir.backends.lowering.chunked_popcount import planes_by_group
from lgir.backends.lowering.convolution import lower_convolution
from lgir.backends.lowering.layouts import ValueLayout
from lgir.backends.lowering.legalize import legalize
from lgir.backends.lowering.options import LoweringOptions
from lgir.backends.lowering.plane_allocator import PlaneAllocator
from lgir.backends.lowering.schedule import schedule_gates
from lgir.backends.lowering.steps import (
    ZERO_PLANE,
    ExportStep,
    PackStep,
    Plan,
    Step,
    SumStep,
    copy_steps,
)
from lgir.errors import BackendError
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Reshape, Threshold
from lgir.ir.simulate import tap_index
from lgir.ir.thresholds import element_levels
from lgir.ir.types import Shape


def make_plan(graph: Graph, options: LoweringOptions) -> Plan:
    """Return the plan of `graph`, made by the transformations that `options` name.

    The lowering is legalization, the split into channel groups, and the choice of steps and planes
    for one node after another.

    Raises BackendError if a value takes too many planes, or an output is neither bits nor scores.
    """
    graph = legalize(graph)
    if options.channel_groups:
        graph = split_groups(graph)
    steps, num_planes = _lower_nodes(graph, options)
    gates = sum(op.body.num_gates * op.positions for _, op in graph.of_type(Logic))
    return Plan(graph, tuple(steps), num_planes, gates)


def _lower_nodes(graph: Graph, options: LoweringOptions) -> tuple[list[Step], int]:
    """Return the steps of all nodes in order, and the number of planes that they use."""
    planes = PlaneAllocator(graph)
    stages = itertools.count(1)
    steps: list[Step] = []
    for index, value in enumerate(graph.inputs):
        if value.dtype == "bit":
            steps.append(_pack(graph, planes, index, value.name, value.shape, None))
    for node in graph.nodes:
        match node.op:
            case Threshold():
                steps.append(_threshold(graph, planes, node, node.op))
            case Reshape():
                source = planes.layouts.get(node.inputs[0])
                if source is not None:  # Numbers have no planes; a Threshold reads them later.
                    planes.bind(node.output, ValueLayout(source.planes.reshape(node.op.shape)))
            case Logic() if node.op.positions > 1:
                steps += _walkable_inputs(graph, planes, node)
                sources = [planes.layouts[name] for name in node.inputs]
                out = planes.layouts.get(node.output) or planes.allocate(graph.values[node.output])
                steps += lower_convolution(node.op, sources, out, planes.plain, stages)
            case Logic():
                steps += _dense(graph, planes, node, node.op, options)
        planes.release(node)
    for index, name in enumerate(graph.outputs):
        steps.append(_output(graph, planes, index, name))
    return steps, planes.num_planes


def _threshold(graph: Graph, planes: PlaneAllocator, node: Node, op: Threshold) -> Step:
    """Return the step that packs the bits of a Threshold.

    A reshaped input has the same elements in the same order, so only the grouping of bits by the
    channels of the node matters.
    """
    shape = graph.values[node.inputs[0]].shape
    levels = element_levels(op, shape).reshape(-1, op.num_levels)
    index = _graph_input(graph, node.inputs[0])
    return _pack(graph, planes, index, node.output, shape, np.ascontiguousarray(levels.T))


def _pack(
    graph: Graph,
    planes: PlaneAllocator,
    index: int,
    name: str,
    shape: Shape,
    levels: npt.NDArray[np.float32] | None,
) -> Step:
    """Return the step that packs graph input `index`, of `shape`, into the bits `name`.

    `levels` are (L, elements), or None for an input of bits.
    """
    layout = planes.allocate(graph.values[name])
    count = 1 if levels is None else levels.shape[0]
    by_level = np.moveaxis(layout.planes.reshape(shape[0], count, -1), 1, 0).reshape(count, -1)
    return PackStep(index, graph.inputs[index].dtype, levels, np.ascontiguousarray(by_level))


def _graph_input(graph: Graph, name: str) -> int:
    """Return the index of the graph input that `name` is, or is a reshape of."""
    while (producer := graph.producer(name)) is not None:
        name = producer.inputs[0]
    return [value.name for value in graph.inputs].index(name)


def _walkable_inputs(graph: Graph, planes: PlaneAllocator, node: Node) -> list[Step]:
    """Return the steps that copy inputs without the layout that a convolution walks to one."""
    steps: list[Step] = []
    for name in node.inputs:
        layout = planes.layouts[name]
        if layout.walk is None or layout.walk.halo != planes.halos[name]:
            steps += copy_steps(layout.planes, planes.allocate(graph.values[name]).planes)
    return steps


def _dense(
    graph: Graph, planes: PlaneAllocator, node: Node, op: Logic, options: LoweringOptions
) -> list[Step]:
    """Return the steps of a body that is evaluated once."""
    sources = [planes.layouts[name].planes for name in node.inputs]
    elements = np.concatenate([*(source.ravel() for source in sources), [ZERO_PLANE]])
    taps = elements[tap_index(op, [source.shape for source in sources])[:, 0]]
    groups = _sum_groups(graph, node.output)
    scheduled = schedule_gates(op.body, taps, planes.plain, options, groups)
    outputs = scheduled.outputs.reshape(graph.values[node.output].shape)
    layout = ValueLayout(outputs, partial_count=scheduled.partial_count)
    planes.bind(node.output, layout, scheduled.ranges)
    return scheduled.steps


def _sum_groups(graph: Graph, name: str) -> npt.NDArray[np.int64] | None:
    """Return the group of each element of a value, (elements,), if its only use is a GroupSum."""
    if name in graph.outputs:
        return None
    readers = graph.users()[name]
    if len(readers) != 1 or not isinstance(readers[0].op, GroupSum):
        return None
    groups = readers[0].op.groups
    return np.repeat(np.arange(groups), graph.values[name].size // groups)


def _output(graph: Graph, planes: PlaneAllocator, index: int, name: str) -> Step:
    """Return the step that hands out graph output `index`."""
    producer = graph.producer(name)
    if producer is not None and isinstance(producer.op, GroupSum):
        return _sum(planes.layouts[producer.inputs[0]], index, producer.op)
    if name in planes.layouts:
        return ExportStep(index, planes.layouts[name].planes.ravel())
    raise BackendError(
        f"output %{name} is an input passed through as numbers; only bits and scores can be "
        "compiled"
    )


def _sum(layout: ValueLayout, index: int, op: GroupSum) -> Step:
    """Return the step that counts what is not counted yet, and makes scores of the counts."""
    planes, counted = layout.planes.reshape(op.groups, -1), layout.partial_count
    if counted is None:
        return SumStep(index, planes, op.tau, op.beta)
    remaining = ~counted.is_counted.reshape(op.groups, -1)
    groups = np.nonzero(remaining)[0]
    planes = planes_by_group(planes[remaining], groups, op.groups)
    return SumStep(index, planes, op.tau, op.beta, counted.counts)
