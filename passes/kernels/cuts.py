"""Cuts of up to six nets and their truth tables, enumerated bottom-up by compiled kernels.

A cut of a net is a set of nets, its leaves, through which every path from the inputs to the net
leads. Priority cuts are the few best per net (Mishchenko et al., "Combinational and sequential
mapping with priority cuts", ICCAD 2007).

Leaves ascend, and leaf j is index bit j of the cut's table. So the first leaf is the *least*
significant, opposite to `lgir.ir.truth_tables`, and the table of a cut of few leaves repeats over
the leaves that it lacks. In what follows N is the number of nets.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.ir.body import IntArray, Mask
from lgir.ir.truth_tables import Tables
from lgir.passes.kernels.compiled import compiled

Sizes = npt.NDArray[np.int8]


MAX_LEAVES: Final = 6

_LOW: Final = np.array(
    [
        0x5555_5555_5555_5555,
        0x3333_3333_3333_3333,
        0x0F0F_0F0F_0F0F_0F0F,
        0x00FF_00FF_00FF_00FF,
        0x0000_FFFF_0000_FFFF,
        0x0000_0000_FFFF_FFFF,
    ],
    np.uint64,
)
"""The bits of a table at which leaf j is False."""

_VARIABLE: Final = ~_LOW[0]
"""The table of a net over itself."""

NEVER: Final = 1 << 30
"""The required level of a net that may be as deep as it likes."""


@compiled
def _merge(a, size_a, b, size_b, most, out):  # type: ignore[no-untyped-def]
    """Write the union of two ascending sets to `out`, and return its size.

    The result is `most` + 1 if the union has more than `most` elements.
    """
    i = j = n = 0
    while i < size_a or j < size_b:
        if n == most:
            return most + 1
        if j == size_b or (i < size_a and a[i] < b[j]):
            out[n] = a[i]
            i += 1
        else:
            if i < size_a and a[i] == b[j]:
                i += 1
            out[n] = b[j]
            j += 1
        n += 1
    return n


@compiled
def _spread(table, leaves, size, wider, wider_size):  # type: ignore[no-untyped-def]
    """Return the table of a cut over the leaves of a wider cut."""
    target = wider_size - 1
    for j in range(size - 1, -1, -1):
        while wider[target] != leaves[j]:
            target -= 1
        for p in range(j, target):  # Leaf p moves up past p + 1, which the table ignores.
            step = np.uint64(1 << p)
            # The bits with leaf p True and p + 1 False change places with their opposites.
            moved = ((table >> step) ^ table) & ~_LOW[p] & _LOW[p + 1]
            table = table ^ moved ^ (moved << step)
        target -= 1
    return table


@compiled
def _gate(table, x, y):  # type: ignore[no-untyped-def]
    """Return a two-input gate of two words: bit 2 x + y of `table` for each bit of them."""
    out = np.uint64(0)
    if table & 1:
        out |= ~x & ~y
    if table & 2:
        out |= ~x & y
    if table & 4:
        out |= x & ~y
    if table & 8:
        out |= x & y
    return out


def small_cuts(
    fanin: IntArray, table: Tables, gate: Mask, nets: int, most: int
) -> tuple[IntArray, Sizes, Tables, Sizes]:
    """Return cuts of at most four leaves of two-input gates.

    Cuts are ranked by leaves less gates that they span, and the first `most` per net are kept.

    Args:
        fanin: (N, 2) the operands of each net.
        table: (N,) the two-input tables.
        gate: (N,) which nets are gates; the others are only leaves.
        nets: number of nets to consider, from the first.
        most: cuts kept per net.

    Returns:
        leaves (nets, most, 4) int32, sizes (nets, most) int8, tables (nets, most) uint16, and the
        number of cuts of each net (nets,) int8.
    """
    leaves = np.zeros((nets, most, 4), np.int32)
    size = np.zeros((nets, most), np.int8)
    tables = np.zeros((nets, most), np.uint16)
    count = np.zeros(nets, np.int8)
    _small_cuts(fanin, table, gate, leaves, size, tables, count)
    return leaves, size, tables, count


@compiled
def _small_cuts(fanin, table, gate, leaves, size, tables, count):  # type: ignore[no-untyped-def]
    nets, most = size.shape
    spans = np.zeros((nets, most), np.int8)  # At least the gates between a cut and its net.
    trivial = np.empty((2, 1), np.int32)
    merged = np.empty(4, np.int32)
    for net in range(nets):
        if not gate[net]:
            continue
        a, b = fanin[net, 0], fanin[net, 1]
        trivial[0, 0], trivial[1, 0] = a, b
        kept = 0
        for i in range(-1, np.int64(count[a])):
            x_leaves = trivial[0] if i < 0 else leaves[a, i]
            x_size = 1 if i < 0 else np.int64(size[a, i])
            x = _VARIABLE if i < 0 else np.uint64(tables[a, i]) * np.uint64(0x1_0001_0001_0001)
            x_span = 0 if i < 0 else np.int64(spans[a, i])
            for j in range(-1, np.int64(count[b])):
                y_leaves = trivial[1] if j < 0 else leaves[b, j]
                y_size = 1 if j < 0 else np.int64(size[b, j])
                n = _merge(x_leaves, x_size, y_leaves, y_size, 4, merged)
                if n > 4 or _has(leaves[net], size[net], kept, merged, n):
                    continue
                span = min(1 + x_span + (0 if j < 0 else np.int64(spans[b, j])), 127)
                slot = kept
                while slot > 0 and np.int64(size[net, slot - 1]) - spans[net, slot - 1] > n - span:
                    slot -= 1
                if slot == most:
                    continue
                kept = min(kept + 1, most)
                for c in range(kept - 1, slot, -1):
                    for leaf in range(4):
                        leaves[net, c, leaf] = leaves[net, c - 1, leaf]
                    size[net, c] = size[net, c - 1]
                    tables[net, c] = tables[net, c - 1]
                    spans[net, c] = spans[net, c - 1]
                for leaf in range(n):
                    leaves[net, slot, leaf] = merged[leaf]
                size[net, slot], spans[net, slot] = n, span
                y = _VARIABLE if j < 0 else np.uint64(tables[b, j]) * np.uint64(0x1_0001_0001_0001)
                wide_x = _spread(x, x_leaves, x_size, merged, n)
                wide_y = _spread(y, y_leaves, y_size, merged, n)
                tables[net, slot] = _gate(table[net], wide_x, wide_y)
        count[net] = kept


@compiled
def _has(leaves, size, count, candidate, n):  # type: ignore[no-untyped-def]
    """Return whether the first n leaves of `candidate` are a cut already."""
    for c in range(count):
        if size[c] == n:
            same = True
            for i in range(n):
                same &= leaves[c, i] == candidate[i]
            if same:
                return True
    return False


@compiled
def priority_cuts(fanin, arity, table, fixed, most, k, rounds):  # type: ignore[no-untyped-def]
    """Return cuts of at most k leaves, the cheapest by area flow first.

    Args:
        fanin: (N, K) the operands of each net.
        arity: (N,) the number of operands. A net of arity 0 is only a leaf; a gate of other than
            two inputs has one cut, its own operands.
        table: (N,) the tables of gates, as tables of cuts.
        fixed: (N,) the number of outputs that read each net.
        most: cuts kept per net.
        rounds: how often cuts are ranked, each time by the readers in the last round's cover.

    Returns:
        leaves (N, most + 1, k), sizes and tables (N, most + 1), and the number of cuts (N,). The
        last slot of each net stays free for `recover_area`.
    """
    nets = len(arity)
    leaves, size, tables, count = _no_cuts(nets, most, k)
    cost = np.zeros((nets, most), np.float64)
    late = np.zeros((nets, most), np.int32)
    flow = np.zeros(nets, np.float64)
    first = np.zeros(nets, np.int64)
    level = np.zeros(nets, np.int32)  # Nothing is too deep.
    readers = _readers(fanin, arity, fixed)
    used = np.zeros(nets, np.int32)
    for _ in range(rounds):
        for net in range(nets):
            if arity[net]:
                count[net] = _cuts_of(
                    net, fanin, arity, table, leaves, size, tables, count, cost, late, flow, level,
                    NEVER, False, k,
                )  # fmt: skip
                flow[net] = cost[net, 0] / max(readers[net], 1.0)
        _count_users(leaves, size, first, arity, fixed, used)
        for net in range(nets):
            readers[net] = (2 * readers[net] + used[net]) / 3
    return leaves, size, tables, count


@compiled
def timed_cuts(fanin, arity, table, fixed, start, slack, most, k, rounds):  # type: ignore[no-untyped-def]
    """Return cuts of at most k leaves by area flow, with the shallowest one of each net among them.

    The first round ranks cuts by depth, which gives each net its least level. Every later round
    ranks by area flow those cuts that can meet the levels that the last round's cover requires.

    Args:
        fanin, arity, table, fixed, most, k, rounds: as for `priority_cuts`.
        start: (N,) the levels of nets of arity 0.
        slack: levels that the outputs may be deeper than the deepest of them has to be.

    Returns:
        What `priority_cuts` returns, and the level that the outputs must meet.
    """
    nets = len(arity)
    leaves, size, tables, count = _no_cuts(nets, most, k)
    cost = np.zeros((nets, most), np.float64)
    late = np.zeros((nets, most), np.int32)
    flow = np.zeros(nets, np.float64)
    level = start.copy()
    shallow = np.zeros((nets, k), np.int32)
    shallow_size, shallow_table = np.zeros(nets, np.int8), np.zeros(nets, np.uint64)
    readers = _readers(fanin, arity, fixed)
    used, best = np.zeros(nets, np.int32), np.zeros(nets, np.int64)
    required = np.full(nets, NEVER, np.int32)
    bound = 0
    for turn in range(rounds + 1):
        for net in range(nets):
            if arity[net] == 0:
                continue
            kept = _cuts_of(
                net, fanin, arity, table, leaves, size, tables, count, cost, late, flow, level,
                required[net], turn == 0, k,
            )  # fmt: skip
            if turn == 0:
                level[net] = late[net, 0]
                shallow_size[net], shallow_table[net] = size[net, 0], tables[net, 0]
                for j in range(size[net, 0]):
                    shallow[net, j] = leaves[net, 0, j]
            else:
                least = NEVER
                for cut in range(kept):
                    least = min(least, late[net, cut])
                if least > level[net]:
                    kept = min(kept + 1, most)
                    size[net, kept - 1], tables[net, kept - 1] = (
                        shallow_size[net],
                        shallow_table[net],
                    )
                    for j in range(shallow_size[net]):
                        leaves[net, kept - 1, j] = shallow[net, j]
            count[net] = kept
            flow[net] = cost[net, 0] / max(readers[net], 1.0)
        if turn == 0:
            for net in range(nets):
                if fixed[net]:
                    bound = max(bound, level[net] + slack)
        for net in range(nets):
            best[net] = 0
        _select(leaves, size, best, fanin, arity, fixed, level, bound, used, required)
        for net in range(nets):
            readers[net] = (2 * readers[net] + used[net]) / 3
    return leaves, size, tables, count, bound


@compiled
def _no_cuts(nets, most, k):  # type: ignore[no-untyped-def]
    """Return arrays for cuts, as `priority_cuts` returns them, that hold none."""
    leaves = np.zeros((nets, most + 1, k), np.int32)
    size = np.zeros((nets, most + 1), np.int8)
    tables = np.zeros((nets, most + 1), np.uint64)
    return leaves, size, tables, np.zeros(nets, np.int8)


@compiled
def _readers(fanin, arity, fixed):  # type: ignore[no-untyped-def]
    """Return the number of gates and outputs that read each net, as floats."""
    readers = fixed.astype(np.float64)
    for net in range(len(arity)):
        for j in range(arity[net]):
            readers[fanin[net, j]] += 1
    return readers


@compiled
def _level(net, cut, leaves, size, arity, level):  # type: ignore[no-untyped-def]
    """Return the level of a net with this cut; inverters and buffers add none."""
    deepest = 0
    for j in range(size[net, cut]):
        deepest = max(deepest, level[leaves[net, cut, j]])
    return deepest + (arity[net] > 1)


@compiled
def _select(  # type: ignore[no-untyped-def]
    leaves, size, best, fanin, arity, fixed, level, bound, used, required
):
    """Select a cover top-down: each net's best cut if it meets the required level, else the first.

    Writes `best`, the readers of each net in the cover, and the level that each net must meet. A
    net outside the cover gets the strictest level that any net in the cover above it could ask for.
    """
    nets = len(arity)
    strictest = np.full(nets, NEVER, np.int32)
    for net in range(nets):
        used[net] = fixed[net]
        required[net] = bound if fixed[net] else NEVER
    for net in range(nets - 1, -1, -1):
        if arity[net] == 0:
            continue
        step = np.int32(arity[net] > 1)
        if used[net]:
            if _level(net, best[net], leaves, size, arity, level) > required[net]:
                best[net] = 0
                while _level(net, best[net], leaves, size, arity, level) > required[net]:
                    best[net] += 1
            for j in range(size[net, best[net]]):
                leaf = leaves[net, best[net], j]
                used[leaf] += 1
                required[leaf] = min(required[leaf], required[net] - step)
        else:
            required[net] = strictest[net]
            step = np.int32(0)
        for j in range(arity[net]):
            strictest[fanin[net, j]] = min(strictest[fanin[net, j]], required[net] - step)


@compiled
def recover_area(  # type: ignore[no-untyped-def]
    leaves, size, tables, count, initial, initial_size, initial_table, fanin, arity, fixed, start,
    bound, rounds,
):  # fmt: skip
    """Improve a cover: in turn, each net takes the cut that adds the fewest tables to the cover.

    Args:
        leaves, size, tables, count: from `priority_cuts`; the free slot is overwritten.
        initial, initial_size, initial_table: (N, k), (N,) and (N,) the cuts of the cover to
            improve. A size of -1 says that a net has none, and its first cut is taken.
        fanin, arity, fixed: as for `priority_cuts`.
        start: (N,) the levels of nets of arity 0.
        bound: the level that outputs must meet, NEVER if they may be as deep as they like. Cuts
            of the initial cover that prevent that are replaced first.
        rounds: how often to visit every net.

    Returns:
        The best cut of each net (N,), and the number of cuts and outputs that read each net (N,),
        0 for nets that the cover does without.
    """
    nets = len(arity)
    best, used = np.zeros(nets, np.int64), np.zeros(nets, np.int32)
    for net in range(nets):
        if initial_size[net] >= 0:
            slot = count[net]
            for j in range(initial_size[net]):
                leaves[net, slot, j] = initial[net, j]
            size[net, slot], tables[net, slot] = initial_size[net], initial_table[net]
            best[net] = slot
    level, required = start.copy(), np.full(nets, NEVER, np.int32)
    if bound < NEVER:
        for net in range(nets):
            if arity[net]:
                level[net] = NEVER
                for cut in range(count[net] + (initial_size[net] >= 0)):
                    level[net] = min(level[net], _level(net, cut, leaves, size, arity, level))
        _select(leaves, size, best, fanin, arity, fixed, level, bound, used, required)
        for net in range(nets):
            if arity[net]:
                level[net] = _level(net, best[net], leaves, size, arity, level)
    _count_users(leaves, size, best, arity, fixed, used)
    stack = np.empty(nets + 1, np.int32)
    for _ in range(rounds):
        if bound < NEVER:
            _select(leaves, size, best, fanin, arity, fixed, level, bound, used, required)
        for net in range(nets):
            if arity[net] == 0:
                continue
            if used[net]:
                _dereference(net, best[net], leaves, size, best, arity, used, stack)
            least, chosen, soonest = nets + 1, best[net], NEVER
            for cut in range(count[net] + (initial_size[net] >= 0)):
                depth = _level(net, cut, leaves, size, arity, level)
                if depth > required[net]:
                    if least > nets and depth < soonest:
                        soonest, chosen = depth, cut
                    continue
                area = _reference(net, cut, leaves, size, best, arity, used, stack)
                _dereference(net, cut, leaves, size, best, arity, used, stack)
                if area < least:
                    least, chosen = area, cut
            best[net] = chosen
            level[net] = _level(net, chosen, leaves, size, arity, level)
            if used[net]:
                _reference(net, chosen, leaves, size, best, arity, used, stack)
    return best, used


@compiled
def cover_depth(fanin, alive, outputs, start):  # type: ignore[no-untyped-def]
    """Return the level of the deepest output in a cover; inverters and buffers add none.

    Args:
        fanin, alive: (G, k) and (G,) as in `lgir.passes.kernels.cover.LutCover`.
        outputs: (C,) the nets that outputs read.
        start: (N,) the levels of the nets that are no gates.
    """
    level = start.copy()
    first = len(start) - len(fanin)
    for gate in range(len(fanin)):
        if alive[gate]:
            deepest, operands = np.int32(0), 0
            for j in range(fanin.shape[1]):
                deepest = max(deepest, level[fanin[gate, j]])
                operands += fanin[gate, j] != 0
            level[first + gate] = deepest + (operands > 1)
    deepest = np.int32(0)
    for net in outputs:
        deepest = max(deepest, level[net])
    return deepest


@compiled
def _cuts_of(  # type: ignore[no-untyped-def]
    net, fanin, arity, table, leaves, size, tables, count, cost, late, flow, level,
    latest, by_depth, k,
):  # fmt: skip
    """Fill in the cuts of one net, the cheapest by area flow first, and return their number.

    Cuts whose leaves' levels make the net deeper than `latest` are left out. If `by_depth`, the
    shallowest cuts come first.
    """
    if arity[net] != 2:
        n = arity[net]
        size[net, 0] = n
        tables[net, 0] = table[net]
        cost[net, 0] = 1.0
        for j in range(n):
            leaves[net, 0, j] = fanin[net, j]
            cost[net, 0] += flow[fanin[net, j]]
        late[net, 0] = _level(net, 0, leaves, size, arity, level)
        return 1
    most = cost.shape[1]
    merged = np.empty(8, np.int32)
    trivial = np.empty((2, 1), np.int32)
    a, b = fanin[net, 0], fanin[net, 1]
    trivial[0, 0], trivial[1, 0] = a, b
    kept = 0
    for i in range(-1, np.int64(count[a])):
        x_leaves = trivial[0] if i < 0 else leaves[a, i]
        x_size = 1 if i < 0 else np.int64(size[a, i])
        x = _VARIABLE if i < 0 else tables[a, i]
        for j in range(-1, np.int64(count[b])):
            y_leaves = trivial[1] if j < 0 else leaves[b, j]
            y_size = 1 if j < 0 else np.int64(size[b, j])
            n = _merge(x_leaves, x_size, y_leaves, y_size, k, merged)
            if n > k:
                continue
            price, depth = 1.0, np.int32(1)
            for c in range(n):
                price += flow[merged[c]]
                depth = max(depth, level[merged[c]] + 1)
            if depth > latest:
                continue
            slot = kept
            while slot > 0 and (
                late[net, slot - 1] > depth
                or (late[net, slot - 1] == depth and size[net, slot - 1] > n)
                if by_depth
                else cost[net, slot - 1] > price + 1e-6
                or (cost[net, slot - 1] > price - 1e-6 and size[net, slot - 1] > n)
            ):
                slot -= 1
            if slot == most or _covered(leaves[net], size[net], slot, merged, n):
                continue
            kept = min(kept + 1, most)
            for c in range(kept - 1, slot, -1):
                for leaf in range(k):
                    leaves[net, c, leaf] = leaves[net, c - 1, leaf]
                size[net, c] = size[net, c - 1]
                tables[net, c] = tables[net, c - 1]
                cost[net, c] = cost[net, c - 1]
                late[net, c] = late[net, c - 1]
            for leaf in range(n):
                leaves[net, slot, leaf] = merged[leaf]
            size[net, slot] = n
            cost[net, slot], late[net, slot] = price, depth
            y = _VARIABLE if j < 0 else tables[b, j]
            wide_x = _spread(x, x_leaves, x_size, merged, n)
            wide_y = _spread(y, y_leaves, y_size, merged, n)
            tables[net, slot] = _gate(_pair(table[net]), wide_x, wide_y)
    return kept


@compiled
def _pair(table):  # type: ignore[no-untyped-def]
    """Return a repeated two-input table as `_gate` takes it, the first input more significant."""
    t = np.int64(table & np.uint64(15))
    return (t & 9) | (t & 2) << 1 | (t & 4) >> 1


@compiled
def _covered(leaves, size, count, candidate, n):  # type: ignore[no-untyped-def]
    """Return whether one of the first cuts has only leaves that are in `candidate`."""
    for c in range(count):
        i = 0
        for j in range(n):
            if i < size[c] and leaves[c, i] == candidate[j]:
                i += 1
        if i == size[c]:
            return True
    return False


@compiled
def _count_users(leaves, size, best, arity, fixed, used):  # type: ignore[no-untyped-def]
    """Count the tables and outputs that read each net in the cover by the best cuts."""
    for net in range(len(fixed)):
        used[net] = fixed[net]
    for net in range(len(arity) - 1, -1, -1):
        if arity[net] and used[net]:
            for j in range(size[net, best[net]]):
                used[leaves[net, best[net], j]] += 1


@compiled
def _reference(net, cut, leaves, size, best, arity, used, stack):  # type: ignore[no-untyped-def]
    """Reference a net's cut, and return the number of tables that this adds to the cover."""
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
def _dereference(net, cut, leaves, size, best, arity, used, stack):  # type: ignore[no-untyped-def]
    """Dereference a net's cut: undo `_reference`."""
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
