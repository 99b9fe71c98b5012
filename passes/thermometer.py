"""`thermometer`: use that thresholds of one number imply each other.

If t1 <= t2, then x > t2 implies x > t1 (outside an image both are False). So a gate that reads both
never sees the lower threshold False and the higher one True. These input combinations are
satisfiability don't-cares: the rows of its table are filled so that the gate ignores as many inputs
as possible, and `fold` then removes it or narrows it.

Options: none. Cost: linear, one vectorized pass over the gates for each pair of operand positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Node, Reshape, Threshold
from lgir.ir.truth_tables import Tables, cofactor, full_mask, variable_table
from lgir.ir.types import FIRST_TAP
from lgir.passes.kernels.bodies import map_named_bodies
from lgir.passes.kernels.literals import Index
from lgir.passes.kernels.rows import first_equal
from lgir.passes.simplify import fold
from lgir.registry import register_pass


@dataclass(frozen=True)
class ThresholdOrder:
    """Implications between channels or nets.

    Attributes:
        group: (n,) those of one group are thresholds of one number at one position.
        rank: (n,) a member of a group implies the members of lower rank.
    """

    group: Index
    rank: Index


@register_pass("thermometer")
def thermometer(graph: Graph) -> Graph:
    """Simplify gates that read two thresholds of one number, which imply each other."""
    while (simpler := _simplify_bodies(graph)) is not graph:
        graph = fold(simpler)
    return graph


def tap_orders(graph: Graph) -> dict[str, ThresholdOrder]:
    """Return the implications between nets of bodies that read thresholds, by their outputs.

    Taps of one group imply those of lower rank; taps of equal rank are equal. Levels that do not
    ascend have no order.
    """
    channel_orders: dict[str, ThresholdOrder] = {}
    tap_orders = {}
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Threshold) and (op.levels[..., 1:] >= op.levels[..., :-1]).all():
            channel = np.arange(graph.values[node.output].shape[0])
            order = ThresholdOrder(channel // op.num_levels, channel % op.num_levels)
            channel_orders[node.output] = order
        elif isinstance(op, Reshape) and node.inputs[0] in channel_orders and len(op.shape) == 1:
            order = channel_orders[node.inputs[0]]
            channel_orders[node.output] = _flattened(order, op.shape[0])
        elif isinstance(op, Logic) and any(name in channel_orders for name in node.inputs):
            tap_orders[node.output] = _tap_order(op.body, node, channel_orders)
    return tap_orders


def _simplify_bodies(graph: Graph) -> Graph:
    orders = tap_orders(graph)
    return map_named_bodies(
        graph, lambda name, body: _simplified(body, orders[name]) if name in orders else body
    )


def _flattened(order: ThresholdOrder, size: int) -> ThresholdOrder:
    """Return the order of a value's elements, given the order of its channels."""
    positions = size // len(order.group)
    position = np.tile(np.arange(positions), len(order.group))
    group = np.repeat(order.group, positions) * positions + position
    return ThresholdOrder(group, np.repeat(order.rank, positions))


def _tap_order(body: Body, node: Node, orders: dict[str, ThresholdOrder]) -> ThresholdOrder:
    """Return the order of a body's nets: taps at the same offsets are grouped as their channels."""
    group = np.arange(body.num_nets)
    rank = np.zeros(body.num_nets, np.int64)
    taps = body.taps.astype(np.int64)
    for name in dict.fromkeys(node.inputs):
        if name in orders:
            positions = [i for i, x in enumerate(node.inputs) if x == name]
            tap = np.flatnonzero(np.isin(taps[:, 0], positions))
            order, channel = orders[name], taps[tap, 1]
            same = first_equal([order.group[channel], *taps[tap, 2:].T]) if len(tap) else tap
            group[FIRST_TAP + tap] = FIRST_TAP + tap[same]
            rank[FIRST_TAP + tap] = order.rank[channel]
    return ThresholdOrder(group, rank)


def _simplified(body: Body, order: ThresholdOrder) -> Body:
    """Return the body with its don't-cares filled; the same object if that changes no table."""
    care = _care_sets(body, order)
    gates = np.flatnonzero(care != full_mask(body.k))
    if not len(gates):
        return body
    table = body.table.copy()
    table[gates] = fill_dont_cares(table[gates], care[gates], body.k)
    if np.array_equal(table, body.table):
        return body
    return Body.build(body.taps, body.fanin, table, body.outputs)


def _care_sets(body: Body, order: ThresholdOrder) -> Tables:
    """Return per gate (G,) the table of the input combinations that can occur."""
    k, full = body.k, full_mask(body.k)
    care = np.full(body.num_gates, full, body.table.dtype)
    for i, j in combinations(range(k), 2):
        a, b = body.fanin[:, i], body.fanin[:, j]
        related = (order.group[a] == order.group[b]) & (a != b)
        only_a, only_b = (
            variable_table(k, x) & ~variable_table(k, y) & full for x, y in ((i, j), (j, i))
        )
        a_is_lower = order.rank[a] < order.rank[b]
        b_is_lower = order.rank[a] > order.rank[b]
        care[related & a_is_lower] &= care.dtype.type(full ^ only_b)
        care[related & b_is_lower] &= care.dtype.type(full ^ only_a)
    return care


def fill_dont_cares(table: Tables, care: Tables, k: int) -> npt.NDArray[np.unsignedinteger]:
    """Return tables that equal the given ones where `care` is True and ignore what inputs they can.

    Inputs are tried in order, so an earlier one is dropped before a later one.
    """
    for j in range(k):
        low, high = cofactor(table, k, j, False), cofactor(table, k, j, True)
        care_low, care_high = cofactor(care, k, j, False), cofactor(care, k, j, True)
        ignorable = ((low ^ high) & care_low & care_high) == 0
        merged = (low & care_low) | (high & care_high)
        table = np.where(ignorable, merged, table)
        care = np.where(ignorable, care_low | care_high, care)
    return table
