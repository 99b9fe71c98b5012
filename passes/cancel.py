"""`cancel`: a bit and its complement, counted by one class, need not be computed.

A GroupSum only counts, so x and not x may be 1 and 0 there. Counts stay what they were, and with
them every bit of the scores. Constants stay bits that are counted: folded into `beta` they would
change how scores round. What classes have in common stays as well, since each score shows it.
Only scores are equal, so a netlist of the bits, as BLIF has it, differs from the original's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Reshape
from lgir.ir.truth_tables import widen_table
from lgir.ir.types import FALSE, TRUE
from lgir.passes.kernels.normalize import Index, Literals
from lgir.registry import register_pass


@register_pass("cancel")
def cancel(graph: Graph) -> Graph:
    """Replace a bit and its complement by 1 and 0 where one class counts both."""
    nodes = list(graph.nodes)
    for node in graph.nodes:
        if isinstance(node.op, GroupSum):
            source = _counted(graph, node)
            if source is not None and isinstance(source.op, Logic):
                body = _without_complements(source.op.body, _groups(source.op, node.op.groups))
                if body is not source.op.body:
                    new = replace(source, op=replace(source.op, body=body))
                    nodes[nodes.index(source)] = new
    if all(new is old for new, old in zip(nodes, graph.nodes, strict=True)):
        return graph
    return graph.with_nodes(nodes)


def _counted(graph: Graph, node: Node) -> Node | None:
    """The node whose bits `node` counts, reshaped or not, if nothing else reads them."""
    users = graph.users()
    while True:
        name = node.inputs[0]
        source = graph.producer(name)
        if source is None or name in graph.outputs or len(users[name]) > 1:
            return None
        if not isinstance(source.op, Reshape):
            return source
        node = source


def _groups(op: Logic, groups: int) -> Index:
    """(C,) the group that counts all of a channel's bits; -1 where several share them."""
    channels = len(op.body.outputs)
    size = channels * op.positions // groups
    first = np.arange(channels) * op.positions
    group = first // size
    return np.where(group == (first + op.positions - 1) // size, group, -1)


def _without_complements(body: Body, group: Index) -> Body:
    """The body with outputs True and False where a group has a net and its complement."""
    literal = _output_literals(body)
    inverted = np.zeros(body.num_nets, bool)
    inverted[literal[literal & 1 == 1] >> 1] = True
    channel = np.flatnonzero((group >= 0) & (literal > 1) & inverted[literal >> 1])
    channel = channel[np.lexsort((literal[channel], group[channel]))]
    net, odd = literal[channel] >> 1, literal[channel] & 1
    # Runs of one net in one group: of plain and complemented ones, as many as there are of both.
    run, place = _runs(net, group[channel])
    size = np.bincount(run)[run]
    complements = np.bincount(run, odd).astype(np.int64)[run]
    place = np.where(odd == 1, place - (size - complements), place)
    gone = place < np.minimum(complements, size - complements)
    if not gone.any():
        return body
    outputs = body.outputs.copy()
    outputs[channel[gone]] = np.where(odd[gone] == 1, FALSE, TRUE)
    return Body.build(body.taps, body.fanin, body.table, outputs, copy=False)


def _runs(*keys: npt.NDArray[np.integer]) -> tuple[Index, Index]:
    """For rows that are sorted, the run of equal rows that each is in, and its place there."""
    start = np.ones(len(keys[0]), bool)
    start[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    run = np.cumsum(start) - 1
    return run, np.arange(len(start)) - np.flatnonzero(start)[run]


def _output_literals(body: Body) -> Literals:
    """(C,) 2 * net + complement of each output, seen through inverters; 0 and 1 for constants."""
    literal = 2 * body.outputs
    literal[body.outputs == TRUE] = 1
    gate = np.flatnonzero(body.outputs >= body.first_gate)
    row = body.outputs[gate] - body.first_gate
    inverts = body.table[row] == widen_table(np.array([0b01], np.uint8), 1, body.k)[0]
    literal[gate[inverts]] = 2 * body.fanin[row[inverts], 0] + 1
    return literal
