"""`fuse-pool`: a pool is pulled into the convolution it reads.

The convolution's output is then never stored, and one position of the fused node computes a whole
window. Fused only where exact and free: the pool reads nothing else, nobody else reads the
convolution, no window leaves it, and no gate is computed more often than before.

Layout (the LLVM backend relies on it): channel by channel, the fused body holds the window copies
of the cone, one after another, each with the same gates in the same order and with taps shifted by
a constant offset, then the gates of the pool. A gate shared by several cones stands with the first.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Node
from lgir.ir.types import FIRST_TAP
from lgir.passes.kernels.facts import tap_reach
from lgir.registry import register_pass

IntArray = npt.NDArray[np.int32]
_NO_OWNER = np.iinfo(np.int32).max


@register_pass("fuse-pool")
def fuse_pool(graph: Graph) -> Graph:
    """Pull pools into the convolutions they read, copying each cone once per window cell."""
    users = graph.users()
    nodes: list[Node] = []
    changed = False
    for node in graph.nodes:
        producer = next((n for n in nodes if n.output == node.inputs[0]), None)
        fused = None
        if producer is not None and len(users[producer.output]) == 1:
            fused = _fuse(graph, producer, node)
        if fused is None or producer is None:
            nodes.append(node)
        else:
            changed = True
            nodes[nodes.index(producer)] = fused
    return graph.with_nodes(nodes) if changed else graph


def _fuse(graph: Graph, producer: Node, pool: Node) -> Node | None:
    """The one node for both, or None where it would not be exact or not free."""
    conv, op = producer.op, pool.op
    if not isinstance(conv, Logic) or not isinstance(op, Logic) or not op.space:
        return None
    if producer.output in graph.outputs or set(pool.inputs) != {producer.output}:
        return None
    if not _is_pool(op.body) or conv.body.num_gates == 0:
        return None
    shape = graph.values[producer.output].shape
    never_outside, _ = tap_reach(op, [shape] * len(pool.inputs))
    window, cell = np.unique(op.body.taps[:, 2:], axis=0, return_inverse=True)
    if not never_outside.all() or len(window) * op.positions > conv.positions:
        return None
    body = _fused_body(conv, op.body, window.astype(np.int32), cell.reshape(-1))
    stride = tuple(a * b for a, b in zip(conv.stride, op.stride, strict=True))
    return replace(pool, op=Logic(body, op.space, stride), inputs=producer.inputs)


def _is_pool(body: Body) -> bool:
    """Whether each net reads one channel only, through a window of more than one cell."""
    if body.num_taps < 2 or (body.outputs < FIRST_TAP).any():
        return False
    channel = body.taps[:, 1]
    low, high = _spread(body, channel, least=True), _spread(body, channel, least=False)
    return bool((low[body.outputs] == high[body.outputs]).all())


def _spread(body: Body, channel: IntArray, *, least: bool) -> IntArray:
    """(num_nets,) the least or greatest channel that each net depends on."""
    neutral = _NO_OWNER if least else -1
    pick = np.minimum if least else np.maximum
    found = np.full(body.num_nets, neutral, np.int32)
    found[FIRST_TAP : body.first_gate] = channel
    level = body.levels()
    for depth in range(1, int(level.max(initial=0)) + 1):
        gates = np.flatnonzero(level == depth) - body.first_gate
        found[body.first_gate + gates] = pick.reduce(found[body.fanin[gates]], axis=1)
    return found


def _fused_body(conv: Logic, pool: Body, window: IntArray, cell: npt.NDArray[np.integer]) -> Body:
    k = max(conv.body.k, pool.k)
    cone, pool = conv.body.widened(k), pool.widened(k)
    copies = len(window)
    stride = np.array(conv.stride, dtype=np.int32)
    shifted = np.tile(cone.taps, (copies, 1))
    shifted[:, 2:] += np.repeat(window * stride, cone.num_taps, axis=0)
    # Copy after copy of the cone, then the pool's gates; the order is chosen below.
    first_copy = FIRST_TAP + len(shifted)
    first_pool = first_copy + copies * cone.num_gates
    net_of = np.empty((copies, cone.num_nets), np.int32)
    net_of[:, :FIRST_TAP] = np.arange(FIRST_TAP)
    net_of[:, FIRST_TAP : cone.first_gate] = FIRST_TAP + np.arange(
        len(shifted), dtype=np.int32
    ).reshape(copies, -1)
    net_of[:, cone.first_gate :] = first_copy + np.arange(
        copies * cone.num_gates, dtype=np.int32
    ).reshape(copies, -1)
    pool_net = np.arange(pool.num_nets, dtype=np.int32)
    pool_net[FIRST_TAP : pool.first_gate] = net_of[cell, cone.outputs[pool.taps[:, 1]]]
    pool_net[pool.first_gate :] += first_pool - pool.first_gate
    fanin = np.concatenate([net_of[:, cone.fanin].reshape(-1, k), pool_net[pool.fanin]])
    table = np.concatenate([np.tile(cone.table, copies), pool.table])
    outputs = pool_net[pool.outputs]

    owner = _owners(cone)
    channel = _spread(pool, pool.taps[:, 1], least=True)[pool.first_gate :]
    order = np.lexsort(
        (
            np.concatenate(
                [np.repeat(np.arange(copies), cone.num_gates), np.full(pool.num_gates, copies)]
            ),
            np.concatenate([np.tile(owner, copies), channel]),
        )
    )
    taps, place = unique_rows(shifted)
    new_id = np.arange(first_pool + pool.num_gates, dtype=np.int32)
    new_id[FIRST_TAP:first_copy] = FIRST_TAP + place
    new_id[first_copy + order] = FIRST_TAP + len(taps) + np.arange(len(order), dtype=np.int32)
    return Body.build(taps, new_id[fanin[order]], table[order], new_id[outputs])


def unique_rows(rows: IntArray) -> tuple[IntArray, npt.NDArray[np.int64]]:
    """The distinct rows in lexicographic order, and the place of each row among them."""
    order = np.lexsort(rows.T[::-1])
    ranked = rows[order]
    new = np.concatenate([[True], (ranked[1:] != ranked[:-1]).any(axis=1)])
    place = np.empty(len(rows), np.int64)
    place[order] = np.cumsum(new) - 1
    return ranked[new], place


def _owners(body: Body) -> IntArray:
    """(G,) for each gate the first output channel whose cone holds it."""
    owner = np.full(body.num_nets, _NO_OWNER, np.int32)
    np.minimum.at(owner, body.outputs, np.arange(len(body.outputs), dtype=np.int32))
    level = body.levels()
    for depth in range(int(level.max(initial=0)), 0, -1):
        gates = np.flatnonzero(level == depth) - body.first_gate
        own = owner[body.first_gate + gates]
        for column in range(body.k):
            np.minimum.at(owner, body.fanin[gates, column], own)
    return owner[body.first_gate :]
