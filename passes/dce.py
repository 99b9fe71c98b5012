"""`dce`: remove what no output depends on, from gates to whole nodes.

Liveness travels backwards over the nodes, channel by channel, and within a body net by net. Then
the live channels are renumbered forwards.

Options: none. Cost: linear; bodies that are long chains are walked gate by gate.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Node, Reshape, Threshold
from lgir.ir.sets import distinct
from lgir.ir.types import FIRST_TAP
from lgir.registry import register_pass

Mask = npt.NDArray[np.bool_]

_CHUNK: Final = 4096
"""Gates in which liveness is settled before the gates that precede them."""
_ROUNDS: Final = 64
"""Vectorized rounds per chunk, after which the chunk is walked gate by gate."""


@register_pass("dce")
def dce(graph: Graph) -> Graph:
    """Remove gates, taps, channels, inputs of nodes and nodes that no output depends on."""
    live = _live_channels(graph)
    kept: dict[str, Mask] = {v.name: np.ones(v.shape[0], bool) for v in graph.inputs}
    nodes = []
    for node in graph.nodes:
        if live[node.output].any():
            shrunk, kept[node.output] = _shrink(graph, node, live, kept)
            nodes.append(shrunk)
    if len(nodes) == len(graph.nodes) and all(
        new is old for new, old in zip(nodes, graph.nodes, strict=True)
    ):
        return graph
    return graph.with_nodes(nodes)


def live_nets(body: Body, outputs: Mask) -> Mask:
    """Return which nets (num_nets,) the outputs chosen by `outputs` (C,) depend on.

    Gates are visited from the last to the first in chunks. A chunk that does not settle within a
    few vectorized rounds, such as a long chain, is walked gate by gate.
    """
    live = np.zeros(body.num_nets, bool)
    live[body.outputs[outputs]] = True
    for stop in range(body.num_gates, 0, -_CHUNK):
        start = max(0, stop - _CHUNK)
        live_gates = live[body.first_gate + start : body.first_gate + stop]
        fanin = body.fanin[start:stop]
        last_count = -1
        for _ in range(_ROUNDS):
            count = int(live_gates.sum())
            if count == last_count:
                break
            last_count = count
            live[fanin[live_gates]] = True
        else:
            for gate in range(stop - start - 1, -1, -1):
                if live_gates[gate]:
                    live[fanin[gate]] = True
    return live


def _live_channels(graph: Graph) -> dict[str, Mask]:
    """Return which channels of each value some output depends on."""
    live = {v.name: np.zeros(v.shape[0], bool) for v in graph.values.values()}
    for name in graph.outputs:
        live[name][:] = True
    for node in reversed(graph.nodes):
        live_outputs = live[node.output]
        if not live_outputs.any():
            continue
        op, first = node.op, node.inputs[0]
        if isinstance(op, Logic):
            nets = live_nets(op.body, live_outputs)
            taps = op.body.taps[nets[FIRST_TAP : op.body.first_gate]]
            for i, name in enumerate(node.inputs):
                live[name][taps[taps[:, 0] == i, 1]] = True
            if not len(taps):  # A node reads at least one value, even if it is constant.
                live[node.inputs[_cheapest_input(graph, node)]][0] = True
        elif isinstance(op, Reshape) and len(op.shape) == 1:
            live[first] |= live_outputs.reshape(len(live[first]), -1).any(axis=1)
        else:
            live[first][:] = True
    return live


def _cheapest_input(graph: Graph, node: Node) -> int:
    """Return the input that a constant node keeps: an input of the graph if it reads one."""
    graph_inputs = {v.name for v in graph.inputs}
    return next((i for i, name in enumerate(node.inputs) if name in graph_inputs), 0)


def _shrink(
    graph: Graph, node: Node, live: dict[str, Mask], kept: dict[str, Mask]
) -> tuple[Node, Mask]:
    """Return `node` without what is dead, and which channels of its output remain."""
    op, live_outputs = node.op, live[node.output]
    if isinstance(op, Logic):
        return _shrink_logic(graph, node, op, live_outputs, kept), live_outputs
    if isinstance(op, Threshold):
        levels = live_outputs.reshape(-1, op.num_levels).any(axis=0)
        keep = np.tile(levels, len(live_outputs) // op.num_levels)
        if levels.all():
            return node, keep
        return replace(node, op=Threshold(np.ascontiguousarray(op.levels[..., levels]))), keep
    if isinstance(op, Reshape):
        kept_inputs = kept[node.inputs[0]]
        if kept_inputs.all():
            return node, np.ones_like(live_outputs)
        keep = np.repeat(kept_inputs, len(live_outputs) // len(kept_inputs))
        return replace(node, op=Reshape((int(keep.sum()),))), keep
    return node, np.ones_like(live_outputs)


def _shrink_logic(
    graph: Graph, node: Node, op: Logic, outputs: Mask, kept: dict[str, Mask]
) -> Node:
    body = op.body
    live = live_nets(body, outputs)
    live[:FIRST_TAP] = True
    taps = body.taps[live[FIRST_TAP : body.first_gate]]
    inputs = distinct(taps[:, 0]) if len(taps) else np.array([_cheapest_input(graph, node)])
    channels_stay = all(kept[node.inputs[i]].all() for i in inputs)
    if live.all() and outputs.all() and len(inputs) == len(node.inputs) and channels_stay:
        return node
    shrunk = body.restricted(live, body.outputs[outputs])
    taps = taps.copy()
    for i in inputs:
        rows = taps[:, 0] == i
        new_channel = np.cumsum(kept[node.inputs[i]]) - 1
        taps[rows, 1] = new_channel[taps[rows, 1]]
    taps[:, 0] = np.searchsorted(inputs, taps[:, 0])
    shrunk = Body.build(taps, shrunk.fanin, shrunk.table, shrunk.outputs, copy=False)
    return replace(
        node,
        op=replace(op, body=shrunk),
        inputs=tuple(node.inputs[i] for i in inputs.tolist()),
    )
