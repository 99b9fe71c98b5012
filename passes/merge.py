"""`merge`: a chain of dense nodes becomes one node, so that other passes see across its layers.

A producer is taken into its reader where every position of the reader reads it at that position
alone (always so for dense nodes, and for pointwise readers of a convolution) and nobody else does.
Gates keep their order, layer by layer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Node
from lgir.ir.types import FIRST_TAP
from lgir.registry import register_pass


@register_pass("merge")
def merge(graph: Graph) -> Graph:
    """Join chains of dense (or pointwise) logic nodes into one body."""
    while (merged := _merge_once(graph)) is not graph:  # joined readers may leave one reader
        graph = merged
    return graph


def _merge_once(graph: Graph) -> Graph:
    users = graph.users()
    parts: dict[str, list[Node]] = {}  # an absorbed value -> the nodes that make it, in order
    nodes = []
    for node in graph.nodes:
        if not isinstance(node.op, Logic):
            nodes.append(node)
            continue
        members = [m for name in dict.fromkeys(node.inputs) for m in parts.pop(name, ())]
        members.append(node)
        if _absorbed(graph, node, users[node.output], _stride(members)):
            parts[node.output] = members
        else:
            nodes.append(node if len(members) == 1 else _join(members))
    return graph if len(nodes) == len(graph.nodes) else graph.with_nodes(nodes)


def _absorbed(graph: Graph, node: Node, users: list[Node], stride: tuple[int, ...]) -> bool:
    """Whether the only reader of `node`, which reads at `stride`, can take it in."""
    if node.output in graph.outputs or len(users) != 1:
        return False
    made, reader = node.op, users[0].op
    if not isinstance(made, Logic) or not isinstance(reader, Logic):
        return False
    if made.space != reader.space or any(s != 1 for s in reader.stride):
        return False
    taps = reader.body.taps
    mine = np.isin(taps[:, 0], [i for i, x in enumerate(users[0].inputs) if x == node.output])
    # Other inputs of the reader would be read at the producer's stride.
    alone = mine.all() or all(s == 1 for s in stride)
    return bool(mine.any() and alone and not taps[mine, 2:].any())


def _join(members: list[Node]) -> Node:
    """One node for `members`, the last of which reads the others, directly or not."""
    inner = {m.output for m in members[:-1]}
    inputs = tuple(dict.fromkeys(x for m in members for x in m.inputs if x not in inner))
    bodies = [_body(m) for m in members]
    k = max(body.k for body in bodies)
    bodies = [body.widened(k) for body in bodies]
    outer = [
        np.array([x not in inner for x in m.inputs])[body.taps[:, 0]]
        for m, body in zip(members, bodies, strict=True)
    ]
    num_taps = sum(int(mask.sum()) for mask in outer)
    next_tap, next_gate = FIRST_TAP, FIRST_TAP + num_taps
    channels: dict[str, npt.NDArray[np.int32]] = {}  # an inner value -> its nets in the new body
    taps = []
    fanin = np.empty((sum(body.num_gates for body in bodies), k), np.int32)
    for m, body, mask in zip(members, bodies, outer, strict=True):
        net = np.arange(body.num_nets, dtype=np.int32)
        source, channel = body.taps[:, 0], body.taps[:, 1]
        rows = body.taps[mask]
        taps.append(np.column_stack([_positions(m, inputs)[rows[:, 0]], rows[:, 1:]]))
        own = net[FIRST_TAP : body.first_gate]
        own[mask] = next_tap + np.arange(len(rows), dtype=np.int32)
        for i, name in enumerate(m.inputs):
            if name in inner:
                read = source == i
                own[read] = channels[name][channel[read]]
        net[body.first_gate :] += next_gate - body.first_gate
        start = next_gate - FIRST_TAP - num_taps
        for j in range(k):
            fanin[start : start + body.num_gates, j] = net[body.fanin[:, j]]
        channels[m.output] = net[body.outputs]
        next_tap += len(rows)
        next_gate += body.num_gates
    last = members[-1]
    assert isinstance(last.op, Logic)
    body = Body.build(
        np.concatenate(taps),
        fanin,
        np.concatenate([body.table for body in bodies]),
        channels[last.output],
        rank=bodies[0].rank,
        copy=False,
    )
    return replace(last, op=replace(last.op, body=body, stride=_stride(members)), inputs=inputs)


def _body(node: Node) -> Body:
    assert isinstance(node.op, Logic)
    return node.op.body


def _positions(node: Node, inputs: tuple[str, ...]) -> npt.NDArray[np.int32]:
    """(inputs of the node,) their places in the joined node; 0 for those taken in."""
    return np.array([inputs.index(x) if x in inputs else 0 for x in node.inputs], dtype=np.int32)


def _stride(members: list[Node]) -> tuple[int, ...]:
    """The stride at which the joined node reads.

    Only a member that is alone in feeding the others may have one that is not 1: the first.
    """
    op = members[0].op
    assert isinstance(op, Logic)
    return op.stride
