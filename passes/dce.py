"""`dce`: remove what no output needs, from gates to whole nodes.

Need travels backwards over the nodes, channel by channel, and within a body net by net; then the
survivors are renumbered forwards.
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
_SWEEPS: Final = 64


@register_pass("dce")
def dce(graph: Graph) -> Graph:
    """Remove gates, taps, channels, inputs of nodes and nodes that no output depends on."""
    needed = _needed_channels(graph)
    kept: dict[str, Mask] = {v.name: np.ones(v.shape[0], bool) for v in graph.inputs}
    nodes = []
    for node in graph.nodes:
        if needed[node.output].any():
            new, keep = _shrink(graph, node, needed, kept)
            kept[node.output] = keep
            nodes.append(new)
    if len(nodes) == len(graph.nodes) and all(
        new is old for new, old in zip(nodes, graph.nodes, strict=True)
    ):
        return graph
    return graph.with_nodes(nodes)


def live_nets(body: Body, outputs: Mask) -> Mask:
    """(num_nets,) which nets the outputs chosen by `outputs` (C,) depend on.

    Gates are swept from the last to the first in chunks; one that does not settle soon (a long
    chain) is walked gate by gate.
    """
    live = np.zeros(body.num_nets, bool)
    live[body.outputs[outputs]] = True
    for stop in range(body.num_gates, 0, -_CHUNK):
        start = max(0, stop - _CHUNK)
        first = body.first_gate + start
        own = live[first : body.first_gate + stop]
        fanin = body.fanin[start:stop]
        count = -1
        for _ in range(_SWEEPS):
            if (now := int(own.sum())) == count:
                break
            count = now
            live[fanin[own]] = True
        else:
            for gate in range(stop - start - 1, -1, -1):
                if own[gate]:
                    live[fanin[gate]] = True
    return live


def _needed_channels(graph: Graph) -> dict[str, Mask]:
    needed = {v.name: np.zeros(v.shape[0], bool) for v in graph.values.values()}
    for name in graph.outputs:
        needed[name][:] = True
    for node in reversed(graph.nodes):
        own = needed[node.output]
        if not own.any():
            continue
        op, first = node.op, node.inputs[0]
        if isinstance(op, Logic):
            live = live_nets(op.body, own)
            taps = op.body.taps[live[FIRST_TAP : op.body.first_gate]]
            for i, name in enumerate(node.inputs):
                needed[name][taps[taps[:, 0] == i, 1]] = True
            if not len(taps):  # a node reads at least one value, even where all is constant
                needed[node.inputs[_cheapest_input(graph, node)]][0] = True
        elif isinstance(op, Threshold):
            needed[first][:] = True
        elif isinstance(op, Reshape) and len(op.shape) == 1:
            needed[first] |= own.reshape(len(needed[first]), -1).any(axis=1)
        else:
            needed[first][:] = True
    return needed


def _cheapest_input(graph: Graph, node: Node) -> int:
    """The input a constant node keeps: one that costs nothing to have, where there is one."""
    given = {v.name for v in graph.inputs}
    return next((i for i, name in enumerate(node.inputs) if name in given), 0)


def _shrink(
    graph: Graph, node: Node, needed: dict[str, Mask], kept: dict[str, Mask]
) -> tuple[Node, Mask]:
    """`node` without what is dead, and the channels of its output that remain."""
    op, own = node.op, needed[node.output]
    if isinstance(op, Logic):
        new = _shrink_logic(graph, node, op, own, kept)
        return new, own
    if isinstance(op, Threshold):
        levels = own.reshape(-1, op.num_levels).any(axis=0)
        keep = np.tile(levels, len(own) // op.num_levels)
        if levels.all():
            return node, keep
        return replace(node, op=Threshold(np.ascontiguousarray(op.levels[..., levels]))), keep
    if isinstance(op, Reshape):
        before = kept[node.inputs[0]]
        if before.all():
            return node, np.ones_like(own)
        keep = np.repeat(before, len(own) // len(before))
        return replace(node, op=Reshape((int(keep.sum()),))), keep
    return node, np.ones_like(own)


def _shrink_logic(
    graph: Graph, node: Node, op: Logic, outputs: Mask, kept: dict[str, Mask]
) -> Node:
    body = op.body
    live = live_nets(body, outputs)
    live[:FIRST_TAP] = True
    taps = body.taps[live[FIRST_TAP : body.first_gate]]
    used = distinct(taps[:, 0]) if len(taps) else np.array([_cheapest_input(graph, node)])
    renumbered = all(kept[node.inputs[i]].all() for i in used)
    if live.all() and outputs.all() and len(used) == len(node.inputs) and renumbered:
        return node
    new = body.restricted(live, body.outputs[outputs])
    taps = taps.copy()
    for i in used:
        mine = taps[:, 0] == i
        channel = np.cumsum(kept[node.inputs[i]]) - 1
        taps[mine, 1] = channel[taps[mine, 1]]
    taps[:, 0] = np.searchsorted(used, taps[:, 0])
    new = Body.build(taps, new.fanin, new.table, new.outputs, copy=False)
    return replace(
        node, op=replace(op, body=new), inputs=tuple(node.inputs[i] for i in used.tolist())
    )
