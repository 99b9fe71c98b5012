"""A graph as one flat netlist over Boolean variables: what proofs and interchange formats read.

Each gate of a convolution's body stands once per position. `lgir.ir.input_space` says what the
variables are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.errors import GraphError
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.input_space import InputSpace
from lgir.ir.netlist_builder import NetlistBuilder, Nets
from lgir.ir.nodes import GroupSum, Logic, Reshape, Threshold
from lgir.ir.simulate import tap_index
from lgir.ir.types import FALSE, Shape

MAX_GATES: Final = 1 << 28


@dataclass(frozen=True)
class NetlistOutput:
    """One output of an unrolled graph.

    Attributes:
        name: name of the output.
        nets: its nets in row-major order, int32 (n,); empty if the output is a numeric input.
        op: the GroupSum that sums the nets, or None if the output is the bits themselves.
        raw: name of the graph input that the output hands on as numbers, or None.
    """

    name: str
    nets: Nets
    op: GroupSum | None = None
    raw: str | None = None


@dataclass(frozen=True)
class UnrolledGraph:
    """Gates over the variables of an `InputSpace`, as a body of rank 0, and the outputs' nets."""

    body: Body
    outputs: tuple[NetlistOutput, ...]


def unroll_graph(graph: Graph, space: InputSpace | None = None) -> UnrolledGraph:
    """Return the flat netlist of `graph`, in which each gate stands once per position.

    `space` may be that of several graphs, so that their netlists have the same taps; by default it
    is the graph's own. Raises GraphError for more than 2**28 gates.
    """
    space = InputSpace([graph]) if space is None else space
    total = sum(op.body.num_gates * op.positions for _, op in graph.of_type(Logic))
    if total > MAX_GATES:
        raise GraphError(f"{graph.name!r} unrolls to {total:,} gates; at most {MAX_GATES:,} fit")
    k = max([op.body.k for _, op in graph.of_type(Logic)], default=1)
    builder = NetlistBuilder(space.num_variables, k)
    nets = {v.name: space.bit_nets(v) for v in graph.inputs if v.dtype == "bit"}
    raw = {v.name: v.name for v in graph.inputs if v.dtype != "bit"}
    sums: dict[str, GroupSum] = {}
    for node in graph.nodes:
        op, first = node.op, node.inputs[0]
        if isinstance(op, Threshold):
            nets[node.output] = space.threshold_nets(graph.values[raw[first]], op)
        elif isinstance(op, Reshape):
            if first not in nets:
                raise GraphError(f"node %{node.output}: only bits can be reshaped in a netlist")
            nets[node.output] = nets[first].reshape(op.shape)
        elif isinstance(op, GroupSum):
            nets[node.output], sums[node.output] = nets[first], op
        elif isinstance(op, Logic):
            sources = [nets[name] for name in node.inputs]
            copied = builder.add_copies(op.body, tap_nets(op, sources))
            nets[node.output] = copied[op.body.outputs].reshape(-1, *op.space)
    outputs = tuple(
        NetlistOutput(name, nets[name].ravel(), sums.get(name))
        if name in nets
        else NetlistOutput(name, np.zeros(0, np.int32), None, raw[name])
        for name in graph.outputs
    )
    return UnrolledGraph(builder.build(np.concatenate([x.nets for x in outputs])), outputs)


def unroll_logic(op: Logic, shapes: list[Shape], sources: list[int]) -> Body:
    """Return the body of rank 0 that computes `op` over the flattened inputs of its node.

    Gate g at position p is gate g * positions + p. Reads outside an input are the constant False.

    Args:
        op: the operator to unroll.
        shapes: shape of each operand.
        sources: number of each operand among the flattened inputs, which count up from 0; operands
            that are the same value have the same number.
    """
    sizes = {source: int(np.prod(shape)) for source, shape in zip(sources, shapes, strict=True)}
    first = np.cumsum([0, *(sizes[source] for source in range(len(sizes)))])
    builder = NetlistBuilder(int(first[-1]), op.body.k)
    inputs = [
        builder.tap_nets(int(first[source]), shape)
        for source, shape in zip(sources, shapes, strict=True)
    ]
    nets = builder.add_copies(op.body, tap_nets(op, inputs))
    source = np.repeat(np.arange(len(sizes)), np.diff(first))
    taps = np.stack([source, np.arange(builder.num_taps) - first[source]], axis=1)
    return builder.build(nets[op.body.outputs].ravel(), taps)


def tap_nets(op: Logic, inputs: list[Nets]) -> npt.NDArray[np.int32]:
    """Return the net that each tap of `op` reads at each position, int32 (taps, positions).

    `inputs` are the nets of the elements of each operand, (C, *axes). Outside an input a tap reads
    the constant False.
    """
    planes = np.concatenate([*(x.ravel() for x in inputs), [FALSE]]).astype(np.int32)
    return planes[tap_index(op, [x.shape for x in inputs])]
