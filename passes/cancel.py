"""`cancel`: replace a bit and its complement that one class counts by True and False.

A GroupSum only counts, so constants serve for x and NOT x. Counts stay what they were, and with
them every bit of the scores. The constants stay bits that are counted: folded into `beta` they
would change how scores round. What all classes have in common stays too, since each score shows it.

Only scores are kept, so a netlist of the bits, as BLIF has it, differs from the original's. For
that reason only the pipeline `size` runs this pass.

Options: none. Cost: one sort of the counted bits.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Reshape
from lgir.ir.truth_tables import not_table
from lgir.ir.types import FALSE, TRUE
from lgir.passes.kernels.literals import Index, Literals
from lgir.passes.kernels.rows import runs
from lgir.registry import register_pass

_SHARED = -1
"""Stands for the class of a channel whose bits several classes count."""


@register_pass("cancel")
def cancel(graph: Graph) -> Graph:
    """Replace a bit and its complement by True and False if one class counts both."""
    nodes = list(graph.nodes)
    for node in graph.nodes:
        if isinstance(node.op, GroupSum):
            source = _counted_node(graph, node)
            if source is not None and isinstance(source.op, Logic):
                classes = _class_of_channels(source.op, node.op.groups)
                body = _without_complements(source.op.body, classes)
                if body is not source.op.body:
                    new = replace(source, op=replace(source.op, body=body))
                    nodes[nodes.index(source)] = new
    if all(new is old for new, old in zip(nodes, graph.nodes, strict=True)):
        return graph
    return graph.with_nodes(nodes)


def _counted_node(graph: Graph, node: Node) -> Node | None:
    """Return the node whose bits `node` counts, seen through reshapes; None if others read it."""
    users = graph.users()
    while True:
        name = node.inputs[0]
        source = graph.producer(name)
        if source is None or name in graph.outputs or len(users[name]) > 1:
            return None
        if not isinstance(source.op, Reshape):
            return source
        node = source


def _class_of_channels(op: Logic, num_classes: int) -> Index:
    """Return per channel the class that counts all its bits, _SHARED if several do; (C,)."""
    channels = len(op.body.outputs)
    class_size = channels * op.positions // num_classes
    first_bit = np.arange(channels) * op.positions
    first_class = first_bit // class_size
    last_class = (first_bit + op.positions - 1) // class_size
    return np.where(first_class == last_class, first_class, _SHARED)


def _without_complements(body: Body, classes: Index) -> Body:
    """Return the body with constants as outputs that cancel in one class."""
    literal = _output_literals(body)
    has_complement = np.zeros(body.num_nets, bool)
    has_complement[literal[literal & 1 == 1] >> 1] = True
    candidate = (classes != _SHARED) & (literal > 1) & has_complement[literal >> 1]
    channel = np.flatnonzero(candidate)
    channel = channel[np.lexsort((literal[channel], classes[channel]))]
    net, complemented = literal[channel] >> 1, literal[channel] & 1
    # A run holds the literals of one net in one class, plain ones first. As many of both cancel as
    # there are of the rarer kind.
    run, position = runs(net, classes[channel])
    run_size = np.bincount(run)[run]
    num_complemented = np.bincount(run, complemented).astype(np.int64)[run]
    num_plain = run_size - num_complemented
    position = np.where(complemented == 1, position - num_plain, position)
    cancelled = position < np.minimum(num_complemented, num_plain)
    if not cancelled.any():
        return body
    outputs = body.outputs.copy()
    outputs[channel[cancelled]] = np.where(complemented[cancelled] == 1, FALSE, TRUE)
    return Body.build(body.taps, body.fanin, body.table, outputs, copy=False)


def _output_literals(body: Body) -> Literals:
    """Return the literal of each output (C,), seen through inverters; 0 and 1 for constants."""
    literal = 2 * body.outputs
    literal[body.outputs == TRUE] = 1
    channel = np.flatnonzero(body.outputs >= body.first_gate)
    gate = body.outputs[channel] - body.first_gate
    inverts = body.table[gate] == not_table(body.k)
    literal[channel[inverts]] = 2 * body.fanin[gate[inverts], 0] + 1
    return literal
