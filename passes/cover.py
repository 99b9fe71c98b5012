"""Covering a body with tables of k inputs by priority cuts: area flow, then exact area.

Every net gets a few cuts; the best by the area that its tables would take, shared among their
readers (area flow), makes a cover. Then each net in turn takes the cut that adds fewest tables to
the cover as it is (exact area). From Mishchenko et al., "Combinational and sequential mapping with
priority cuts", ICCAD 2007, without its depth constraint.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.body import Body
from lgir.ops import narrow_table, table_dtype, widen_table
from lgir.passes.cuts import compiled, gate_table, merge_leaves, spread, variable

CUTS: Final = 12
FLOW_ROUNDS: Final = 4
AREA_ROUNDS: Final = 4


def cover_body(body: Body, k: int) -> Body:
    """The body in tables of at most `k` inputs, at least as wide as its gates are.

    Gates of more than two inputs may be taken into others as they are. The body is in the normal
    form that `fold` leaves.
    """
    first, nets = body.first_gate, body.num_nets
    if not body.num_gates:
        return body
    arity = np.zeros(nets, np.int8)
    arity[first:] = body.arity()
    fanin = np.zeros((nets, body.k), np.int32)
    fanin[first:] = body.fanin
    table = np.zeros(nets, np.uint64)
    for n in range(1, body.k + 1):
        rows = np.flatnonzero(arity == n)
        table[rows] = _repeated(narrow_table(body.table[rows - first], body.k, n), n)
    fixed = np.bincount(body.outputs, minlength=nets).astype(np.int32)
    leaves, size, tables, best, used = _cover(fanin, arity, table, fixed, CUTS, k)
    kept = np.flatnonzero(used[first:] > 0) + first
    new_id = np.arange(nets, dtype=np.int32)
    new_id[kept] = np.arange(first, first + len(kept), dtype=np.int32)
    wide = np.zeros((len(kept), k), np.int32)
    new_table = np.zeros(len(kept), table_dtype(k))
    cut = best[kept]
    for n in range(k + 1):
        at = np.flatnonzero(size[kept, cut] == n)
        wide[at, :n] = new_id[leaves[kept[at], cut[at], :n]]
        new_table[at] = widen_table(_once(tables[kept[at], cut[at]], n), n, k)
    return Body.build(body.taps, wide, new_table, new_id[body.outputs], copy=False)


def _reversed(table: npt.NDArray[Any], n: int) -> npt.NDArray[np.uint64]:
    """Tables of n inputs with the inputs in the opposite order."""
    wide, out = table.astype(np.uint64), np.zeros(len(table), np.uint64)
    for i in range(1 << n):
        to = int(f"{i:0{n}b}"[::-1], 2) if n else 0
        out |= (wide >> np.uint64(i) & np.uint64(1)) << np.uint64(to)
    return out


def _repeated(table: npt.NDArray[Any], n: int) -> npt.NDArray[np.uint64]:
    """Tables of `lgir.ops` as those of cuts: least input first, repeated to 64 bits."""
    out = _reversed(table, n)
    for i in range(n, 6):
        out |= out << np.uint64(1 << i)
    return out


def _once(table: npt.NDArray[np.uint64], n: int) -> npt.NDArray[np.uint64]:
    """Undo `_repeated`."""
    mask = np.uint64((1 << (1 << n)) - 1)
    return _reversed(table & mask, n).astype(table_dtype(n))


@compiled
def _cover(fanin, arity, table, fixed, most, k):  # type: ignore[no-untyped-def]
    """Cuts of all nets, the best of each, and how many tables and outputs read each net."""
    nets = len(arity)
    leaves = np.zeros((nets, most, k), np.int32)
    size = np.zeros((nets, most), np.int8)
    tables = np.zeros((nets, most), np.uint64)
    count = np.zeros(nets, np.int8)
    cost = np.zeros((nets, most), np.float64)
    flow = np.zeros(nets, np.float64)
    best = np.zeros(nets, np.int64)
    readers = fixed.astype(np.float64)
    for net in range(nets):
        for j in range(arity[net]):
            readers[fanin[net, j]] += 1
    used = np.zeros(nets, np.int32)
    for _ in range(FLOW_ROUNDS):
        for net in range(nets):
            if arity[net]:
                count[net] = _cuts_of(
                    net, fanin, arity, table, leaves, size, tables, count, cost, flow, k
                )
                flow[net] = cost[net, 0] / max(readers[net], 1.0)
        _count_users(leaves, size, best, arity, fixed, used)
        for net in range(nets):
            readers[net] = (2 * readers[net] + used[net]) / 3
    stack = np.empty(nets + 1, np.int32)
    for _ in range(AREA_ROUNDS):
        for net in range(nets):
            if arity[net] == 0:
                continue
            if used[net]:
                _give(net, best[net], leaves, size, best, arity, used, stack)
            least = nets + 1
            chosen = best[net]
            for cut in range(count[net]):
                area = _take(net, cut, leaves, size, best, arity, used, stack)
                _give(net, cut, leaves, size, best, arity, used, stack)
                if area < least:
                    least, chosen = area, cut
            best[net] = chosen
            if used[net]:
                _take(net, chosen, leaves, size, best, arity, used, stack)
    return leaves, size, tables, best, used


@compiled
def _cuts_of(  # type: ignore[no-untyped-def]
    net, fanin, arity, table, leaves, size, tables, count, cost, flow, k
):
    """Fill in the cuts of one net, cheapest by area flow first; how many."""
    if arity[net] != 2:
        n = arity[net]
        leaves[net, 0, :n] = fanin[net, :n]
        size[net, 0] = n
        tables[net, 0] = table[net]
        cost[net, 0] = 1.0
        for i in range(n):
            cost[net, 0] += flow[fanin[net, i]]
        return 1
    most = size.shape[1]
    merged = np.empty(8, np.int32)
    one = np.empty((2, 1), np.int32)
    a, b = fanin[net, 0], fanin[net, 1]
    one[0, 0], one[1, 0] = a, b
    kept = 0
    for i in range(-1, np.int64(count[a])):
        x_leaves = one[0] if i < 0 else leaves[a, i]
        x_size = 1 if i < 0 else np.int64(size[a, i])
        x = variable if i < 0 else tables[a, i]
        for j in range(-1, np.int64(count[b])):
            y_leaves = one[1] if j < 0 else leaves[b, j]
            y_size = 1 if j < 0 else np.int64(size[b, j])
            n = merge_leaves(x_leaves, x_size, y_leaves, y_size, k, merged)
            if n > k:
                continue
            price = 1.0
            for c in range(n):
                price += flow[merged[c]]
            at = kept
            while at > 0 and (
                cost[net, at - 1] > price + 1e-6
                or (cost[net, at - 1] > price - 1e-6 and size[net, at - 1] > n)
            ):
                at -= 1
            if at == most or _covered(leaves[net], size[net], at, merged, n):
                continue
            kept = min(kept + 1, most)
            for c in range(kept - 1, at, -1):
                leaves[net, c] = leaves[net, c - 1]
                size[net, c] = size[net, c - 1]
                tables[net, c] = tables[net, c - 1]
                cost[net, c] = cost[net, c - 1]
            leaves[net, at, :n] = merged[:n]
            size[net, at] = n
            cost[net, at] = price
            y = variable if j < 0 else tables[b, j]
            wide_x = spread(x, x_leaves, x_size, merged, n)
            wide_y = spread(y, y_leaves, y_size, merged, n)
            tables[net, at] = gate_table(_pair(table[net]), wide_x, wide_y)
    return kept


@compiled
def _pair(table):  # type: ignore[no-untyped-def]
    """A repeated table of two inputs as `gate_table` takes it, the first more significant."""
    t = np.int64(table & np.uint64(15))
    return (t & 9) | (t & 2) << 1 | (t & 4) >> 1


@compiled
def _covered(leaves, size, count, wanted, n):  # type: ignore[no-untyped-def]
    """Whether one of the first cuts has no leaf that is not in `wanted`."""
    for c in range(count):
        i = 0
        for j in range(n):
            if i < size[c] and leaves[c, i] == wanted[j]:
                i += 1
        if i == size[c]:
            return True
    return False


@compiled
def _count_users(leaves, size, best, arity, fixed, used):  # type: ignore[no-untyped-def]
    """The tables and outputs that read each net, in the cover by the best cuts."""
    used[:] = fixed
    for net in range(len(arity) - 1, -1, -1):
        if arity[net] and used[net]:
            for j in range(size[net, best[net]]):
                used[leaves[net, best[net], j]] += 1


@compiled
def _take(net, cut, leaves, size, best, arity, used, stack):  # type: ignore[no-untyped-def]
    """Let a net's cut read its leaves; the tables that this adds to the cover."""
    area, top = 1, 0
    for j in range(size[net, cut]):
        leaf = leaves[net, cut, j]
        if used[leaf] == 0 and arity[leaf]:
            stack[top] = leaf
            top += 1
        used[leaf] += 1
    while top:
        top -= 1
        area += 1
        gate = stack[top]
        for j in range(size[gate, best[gate]]):
            leaf = leaves[gate, best[gate], j]
            if used[leaf] == 0 and arity[leaf]:
                stack[top] = leaf
                top += 1
            used[leaf] += 1
    return area


@compiled
def _give(net, cut, leaves, size, best, arity, used, stack):  # type: ignore[no-untyped-def]
    """Undo `_take`."""
    top = 0
    for j in range(size[net, cut]):
        leaf = leaves[net, cut, j]
        used[leaf] -= 1
        if used[leaf] == 0 and arity[leaf]:
            stack[top] = leaf
            top += 1
    while top:
        top -= 1
        gate = stack[top]
        for j in range(size[gate, best[gate]]):
            leaf = leaves[gate, best[gate], j]
            used[leaf] -= 1
            if used[leaf] == 0 and arity[leaf]:
                stack[top] = leaf
                top += 1
