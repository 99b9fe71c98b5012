"""`merge`: join chains of dense nodes into one node, so that other passes see across layers.

A producer joins its reader if nothing else reads it and every position of the reader reads it at
that position alone. Dense nodes always do; so do pointwise readers of a convolution. Gates keep
their order, layer by layer.

Options: none. Cost: linear, one copy of the joined bodies.
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
    while (merged := _merge_once(graph)) is not graph:  # Joining readers may leave one reader.
        graph = merged
    return graph


def _merge_once(graph: Graph) -> Graph:
    users = graph.users()
    pending: dict[str, list[Node]] = {}  # A value that joins its reader -> its nodes, in order.
    nodes = []
    for node in graph.nodes:
        if not isinstance(node.op, Logic):
            nodes.append(node)
            continue
        members = [m for name in dict.fromkeys(node.inputs) for m in pending.pop(name, ())]
        members.append(node)
        if _joins_reader(graph, node, users[node.output], _stride(members)):
            pending[node.output] = members
        else:
            nodes.append(node if len(members) == 1 else _join(members))
    return graph if len(nodes) == len(graph.nodes) else graph.with_nodes(nodes)


def _joins_reader(graph: Graph, node: Node, users: list[Node], stride: tuple[int, ...]) -> bool:
    """Return whether `node`, which reads at `stride`, can become part of its only reader."""
    if node.output in graph.outputs or len(users) != 1:
        return False
    producer, reader = node.op, users[0].op
    if not isinstance(producer, Logic) or not isinstance(reader, Logic):
        return False
    if producer.space != reader.space or any(s != 1 for s in reader.stride):
        return False
    taps = reader.body.taps
    reads_node = np.isin(
        taps[:, 0], [i for i, name in enumerate(users[0].inputs) if name == node.output]
    )
    # The reader's other inputs would be read at the producer's stride, too.
    exact = reads_node.all() or all(s == 1 for s in stride)
    return bool(reads_node.any() and exact and not taps[reads_node, 2:].any())


def _join(members: list[Node]) -> Node:
    """Return one node for `members`, the last of which reads the others, directly or not."""
    inner = {m.output for m in members[:-1]}
    inputs = tuple(dict.fromkeys(x for m in members for x in m.inputs if x not in inner))
    bodies = [_body(m) for m in members]
    k = max(body.k for body in bodies)
    bodies = [body.widened(k) for body in bodies]
    outer_taps = [
        np.array([x not in inner for x in m.inputs])[body.taps[:, 0]]
        for m, body in zip(members, bodies, strict=True)
    ]
    num_taps = sum(int(mask.sum()) for mask in outer_taps)
    next_tap, next_gate = FIRST_TAP, FIRST_TAP + num_taps
    nets_of: dict[str, npt.NDArray[np.int32]] = {}  # An inner value -> its nets in the new body.
    taps = []
    fanin = np.empty((sum(body.num_gates for body in bodies), k), np.int32)
    for m, body, is_outer in zip(members, bodies, outer_taps, strict=True):
        new_net = np.arange(body.num_nets, dtype=np.int32)
        source, channel = body.taps[:, 0], body.taps[:, 1]
        rows = body.taps[is_outer]
        taps.append(np.column_stack([_input_positions(m, inputs)[rows[:, 0]], rows[:, 1:]]))
        tap_nets = new_net[FIRST_TAP : body.first_gate]
        tap_nets[is_outer] = next_tap + np.arange(len(rows), dtype=np.int32)
        for i, name in enumerate(m.inputs):
            if name in inner:
                reads = source == i
                tap_nets[reads] = nets_of[name][channel[reads]]
        new_net[body.first_gate :] += next_gate - body.first_gate
        start = next_gate - FIRST_TAP - num_taps
        for j in range(k):
            fanin[start : start + body.num_gates, j] = new_net[body.fanin[:, j]]
        nets_of[m.output] = new_net[body.outputs]
        next_tap += len(rows)
        next_gate += body.num_gates
    last = members[-1]
    assert isinstance(last.op, Logic)
    body = Body.build(
        np.concatenate(taps),
        fanin,
        np.concatenate([body.table for body in bodies]),
        nets_of[last.output],
        rank=bodies[0].rank,
        copy=False,
    )
    return replace(last, op=replace(last.op, body=body, stride=_stride(members)), inputs=inputs)


def _body(node: Node) -> Body:
    assert isinstance(node.op, Logic)
    return node.op.body


def _input_positions(node: Node, inputs: tuple[str, ...]) -> npt.NDArray[np.int32]:
    """Return the position of each input of the node in `inputs`, 0 for the nodes that join."""
    return np.array([inputs.index(x) if x in inputs else 0 for x in node.inputs], dtype=np.int32)


def _stride(members: list[Node]) -> tuple[int, ...]:
    """Return the stride at which the joined node reads.

    Only the first member may have a stride other than 1, if it alone feeds the others.
    """
    op = members[0].op
    assert isinstance(op, Logic)
    return op.stride
