"""`thermometer`: bits of one number imply each other, which first layers can use.

Of one element, x > t2 implies x > t1 where t1 <= t2 (outside an image both are False), so a gate
that reads both never sees the lower one False and the higher one True. Rows of its table that
cannot occur are filled so that it ignores as many inputs as possible; `fold` then removes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Node, Reshape, Threshold
from lgir.ir.truth_tables import cofactor, full_mask, variable_table
from lgir.ir.types import FIRST_TAP
from lgir.passes.kernels.normalize import Index, first_equal
from lgir.passes.simplify import fold
from lgir.registry import register_pass


@dataclass(frozen=True)
class Order:
    """Per channel or net (n,): those of one group imply those of lower rank in it."""

    group: Index
    rank: Index


@register_pass("thermometer")
def thermometer(graph: Graph) -> Graph:
    """Simplify gates that read two thresholds of one number, which imply each other."""
    while (simpler := _simplify_nodes(graph)) is not graph:
        graph = fold(simpler)
    return graph


def tap_orders(graph: Graph) -> dict[str, Order]:
    """For each Logic node that reads thresholds, by its output: group and rank of its body's nets.

    Taps of one group, at one position, imply those of lower rank; taps of equal rank are equal.
    """
    channels: dict[str, Order] = {}
    found = {}
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Threshold) and (op.levels[..., 1:] >= op.levels[..., :-1]).all():
            channel = np.arange(graph.values[node.output].shape[0])
            channels[node.output] = Order(channel // op.num_levels, channel % op.num_levels)
        elif isinstance(op, Reshape) and node.inputs[0] in channels and len(op.shape) == 1:
            channels[node.output] = _flattened(channels[node.inputs[0]], op.shape[0])
        elif isinstance(op, Logic) and any(name in channels for name in node.inputs):
            found[node.output] = _tap_order(op.body, node, channels)
    return found


def _simplify_nodes(graph: Graph) -> Graph:
    orders = tap_orders(graph)
    nodes = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Logic) and node.output in orders:
            body = _simplified(op.body, orders[node.output])
            if body is not op.body:
                node = replace(node, op=replace(op, body=body))
        nodes.append(node)
    if all(new is old for new, old in zip(nodes, graph.nodes, strict=True)):
        return graph
    return graph.with_nodes(nodes)


def _flattened(order: Order, size: int) -> Order:
    cells = size // len(order.group)
    cell = np.tile(np.arange(cells), len(order.group))
    return Order(np.repeat(order.group, cells) * cells + cell, np.repeat(order.rank, cells))


def _tap_order(body: Body, node: Node, orders: dict[str, Order]) -> Order:
    """Group and rank of each net: taps at the same offsets are grouped as their channels are."""
    group = np.arange(body.num_nets)
    rank = np.zeros(body.num_nets, np.int64)
    taps = body.taps.astype(np.int64)
    for name in dict.fromkeys(node.inputs):
        if name in orders:
            places = [i for i, x in enumerate(node.inputs) if x == name]
            mine = np.flatnonzero(np.isin(taps[:, 0], places))
            order, channel = orders[name], taps[mine, 1]
            same = first_equal([order.group[channel], *taps[mine, 2:].T]) if len(mine) else mine
            group[FIRST_TAP + mine] = FIRST_TAP + mine[same]
            rank[FIRST_TAP + mine] = order.rank[channel]
    return Order(group, rank)


def _simplified(body: Body, order: Order) -> Body:
    """The body with tables that ignore what implications let them; the same where none can."""
    k, full = body.k, full_mask(body.k)
    care = np.full(body.num_gates, full, body.table.dtype)
    columns = [body.fanin[:, j] for j in range(k)]
    for i, j in combinations(range(k), 2):
        a, b = columns[i], columns[j]
        related = (order.group[a] == order.group[b]) & (a != b)
        lower = order.rank[a] < order.rank[b]
        first_only, second_only = (
            variable_table(k, x) & ~variable_table(k, y) & full for x, y in ((i, j), (j, i))
        )
        care[related & lower] &= care.dtype.type(full ^ second_only)
        care[related & (order.rank[a] > order.rank[b])] &= care.dtype.type(full ^ first_only)
    rows = np.flatnonzero(care != full)
    if not len(rows):
        return body
    table = body.table.copy()
    table[rows] = _ignoring(table[rows], care[rows], k)
    if np.array_equal(table, body.table):
        return body
    return Body.build(body.taps, body.fanin, table, body.outputs)


def _ignoring(table: npt.NDArray[Any], care: npt.NDArray[Any], k: int) -> npt.NDArray[Any]:
    """Tables equal to the given ones where `care`, independent of each input that they can be."""
    for j in range(k):
        low, high = cofactor(table, k, j, False), cofactor(table, k, j, True)
        care_low, care_high = cofactor(care, k, j, False), cofactor(care, k, j, True)
        free = ((low ^ high) & care_low & care_high) == 0
        merged = (low & care_low) | (high & care_high)
        table = np.where(free, merged, table)
        care = np.where(free, care_low | care_high, care)
    return table
