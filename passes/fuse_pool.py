"""`fuse-pool`: make a pool part of the convolution that it reads.

The convolution's output is then never stored, and one position of the fused node computes a whole
window. A pair is fused only if that is exact and free: the pool reads nothing else, nothing else
reads the convolution, no window leaves it, and no gate is evaluated more often than before.

The layout is a promise that the LLVM backend relies on. Channel by channel, the fused body holds
one copy of the channel's cone per cell of the window, then the gates of the pool. Each copy has the
same gates in the same order, with taps shifted by a constant offset. A gate that several cones
share stands with the first of them.

Options: none. Cost: linear in the gates of the fused bodies, one sort of them.
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
from lgir.passes.kernels.rows import unique_rows
from lgir.registry import register_pass

IntArray = npt.NDArray[np.int32]
_NO_CHANNEL = np.iinfo(np.int32).max


@register_pass("fuse-pool")
def fuse_pool(graph: Graph) -> Graph:
    """Fuse pools into the convolutions they read, copying each cone once per window cell."""
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
    """Return one node for both, or None if it would not be exact or not free."""
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
    """Return whether each output reads one channel only, in a body of more than one tap."""
    if body.num_taps < 2 or (body.outputs < FIRST_TAP).any():
        return False
    first, last = (_channel_bound(body, lower=lower) for lower in (True, False))
    return bool((first[body.outputs] == last[body.outputs]).all())


def _channel_bound(body: Body, *, lower: bool) -> IntArray:
    """Return the lowest or the highest channel that each net depends on, (num_nets,)."""
    neutral = _NO_CHANNEL if lower else -1
    pick = np.minimum if lower else np.maximum
    bound = np.full(body.num_nets, neutral, np.int32)
    bound[FIRST_TAP : body.first_gate] = body.taps[:, 1]
    level = body.levels()
    for depth in range(1, int(level.max(initial=0)) + 1):
        gates = np.flatnonzero(level == depth) - body.first_gate
        bound[body.first_gate + gates] = pick.reduce(bound[body.fanin[gates]], axis=1)
    return bound


def _fused_body(conv: Logic, pool: Body, window: IntArray, cell: npt.NDArray[np.integer]) -> Body:
    """Return the body of the fused node.

    Args:
        window: (cells, axes) the offsets of the window's cells.
        cell: (taps of the pool,) the cell that each tap of the pool reads.
    """
    k = max(conv.body.k, pool.k)
    cone, pool = conv.body.widened(k), pool.widened(k)
    num_copies = len(window)
    stride = np.array(conv.stride, dtype=np.int32)
    taps = np.tile(cone.taps, (num_copies, 1))
    taps[:, 2:] += np.repeat(window * stride, cone.num_taps, axis=0)
    # Nets are numbered copy after copy first, then the pool's gates; `_layout` reorders the gates.
    first_gate = FIRST_TAP + len(taps)
    first_pool_gate = first_gate + num_copies * cone.num_gates
    copy_net = np.empty((num_copies, cone.num_nets), np.int32)
    copy_net[:, :FIRST_TAP] = np.arange(FIRST_TAP)
    copy_net[:, FIRST_TAP : cone.first_gate] = FIRST_TAP + np.arange(
        len(taps), dtype=np.int32
    ).reshape(num_copies, -1)
    copy_net[:, cone.first_gate :] = first_gate + np.arange(
        num_copies * cone.num_gates, dtype=np.int32
    ).reshape(num_copies, -1)
    pool_net = np.arange(pool.num_nets, dtype=np.int32)
    pool_net[FIRST_TAP : pool.first_gate] = copy_net[cell, cone.outputs[pool.taps[:, 1]]]
    pool_net[pool.first_gate :] += first_pool_gate - pool.first_gate
    fanin = np.concatenate([copy_net[:, cone.fanin].reshape(-1, k), pool_net[pool.fanin]])
    table = np.concatenate([np.tile(cone.table, num_copies), pool.table])

    order = _layout(cone, pool, num_copies)
    distinct_taps, tap_row = unique_rows(taps)
    new_net = np.arange(first_pool_gate + pool.num_gates, dtype=np.int32)
    new_net[FIRST_TAP:first_gate] = FIRST_TAP + tap_row
    new_net[first_gate + order] = (
        FIRST_TAP + len(distinct_taps) + np.arange(len(order), dtype=np.int32)
    )
    outputs = new_net[pool_net[pool.outputs]]
    return Body.build(distinct_taps, new_net[fanin[order]], table[order], outputs)


def _layout(cone: Body, pool: Body, num_copies: int) -> npt.NDArray[np.intp]:
    """Return the order of gates, by channel and then by copy, with the pool's gates last."""
    copy = np.repeat(np.arange(num_copies), cone.num_gates)
    cone_channel = np.tile(_first_channels(cone), num_copies)
    pool_channel = _channel_bound(pool, lower=True)[pool.first_gate :]
    return np.lexsort(
        (
            np.concatenate([copy, np.full(pool.num_gates, num_copies)]),
            np.concatenate([cone_channel, pool_channel]),
        )
    )


def _first_channels(body: Body) -> IntArray:
    """Return per gate (G,) the first output channel whose cone holds it."""
    channel = np.full(body.num_nets, _NO_CHANNEL, np.int32)
    np.minimum.at(channel, body.outputs, np.arange(len(body.outputs), dtype=np.int32))
    level = body.levels()
    for depth in range(int(level.max(initial=0)), 0, -1):
        gates = np.flatnonzero(level == depth) - body.first_gate
        channel_of_gates = channel[body.first_gate + gates]
        for column in range(body.k):
            np.minimum.at(channel, body.fanin[gates, column], channel_of_gates)
    return channel[body.first_gate :]
