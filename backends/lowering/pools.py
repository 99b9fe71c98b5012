"""Find pools in a convolution body: ORs of shifted copies of one cone.

Nets of one translation class are copies of each other at an offset. So an OR pool that the pass
`fuse-pool` pulled into its convolution is recognized exactly, whatever the tree of its ORs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.truth_tables import OR, narrow_table
from lgir.ir.types import FIRST_TAP, TRUE

MAX_LEAVES: Final = 32
"""The leaves that a tree may have."""
MAX_POOL: Final = 16
"""The copies that a pool may have."""

_EMPTY: Final = -1
_MAX_COUNT: Final = 1 << 40
"""The number at which counts of leaves saturate."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pools:
    """The pools of a body.

    Attributes:
        roots: (p,) the nets that compute the ORs.
        operands: (p,) the first copy of each pool, from left to right.
        shifts: (p, MAX_POOL, rank) the offsets of the copies from the first one; 0 past the last.
        copies: (p,) the number of copies.
    """

    roots: Ints
    operands: Ints
    shifts: Ints
    copies: Ints

    def by_shift(self) -> list[tuple[Ints, Ints]]:
        """Return the pools grouped by their shifts: pairs of shifts (m, rank) and pool indices."""
        if not len(self.roots):
            return []
        keys = np.column_stack([self.shifts.reshape(len(self.roots), -1), self.copies])
        ids = _row_ids(keys)
        groups = []
        for i in range(int(ids.max()) + 1):
            indices = np.flatnonzero(ids == i)
            groups.append((self.shifts[indices[0], : self.copies[indices[0]]], indices))
        return groups


def no_pools(rank: int) -> Pools:
    """Return the pools of a body without any, with `rank` axes of space."""
    none = np.zeros(0, np.int64)
    return Pools(none, none, np.zeros((0, MAX_POOL, rank), np.int64), none)


def find_pools(body: Body, by_level: list[Ints], leaves: Ints, roots: Ints) -> Pools:
    """Return those of `roots` that are an OR of shifted copies of a cone of at most MAX_LEAVES.

    Args:
        body: a body with two inputs per gate or more.
        by_level: the gates of each level, as `Body.gates_by_level` returns them.
        leaves: (num_nets,) the leaves of each net, as `tree_leaves` returns them.
        roots: the nets that may be pools, ascending.
    """
    arity = body.arity().astype(np.int64)
    is_or = np.zeros(body.num_nets, bool)
    is_or[body.first_gate :] = (narrow_table(body.table, body.k, 2) == OR) & (arity == 2)
    candidates = roots[is_or[roots]]
    if not len(candidates):
        return no_pools(body.rank)
    translation_class, anchor = translation_classes(body, by_level)
    # The class of the copies below an OR tree, and how many copies it has.
    copy_class = translation_class.copy()
    copies = np.ones(body.num_nets, np.int64)
    for gates in by_level:
        nets = body.first_gate + gates
        nets = nets[is_or[nets]]
        left, right = body.fanin[nets - body.first_gate, :2].T
        is_pool = copy_class[left] == copy_class[right]
        is_pool &= copies[left] + copies[right] <= MAX_POOL
        nets, left, right = nets[is_pool], left[is_pool], right[is_pool]
        copy_class[nets] = copy_class[left]
        copies[nets] = copies[left] + copies[right]
    pools = candidates[copies[candidates] > 1]
    if not len(pools):
        return no_pools(body.rank)
    members = _pool_members(body, pools, copies)
    first = members[:, 0]
    offsets = anchor[np.maximum(members, 0)] - anchor[first][:, None]
    shifts = np.where((members != _EMPTY)[..., None], offsets, 0)
    small = leaves[first] <= MAX_LEAVES
    return Pools(pools[small], first[small], shifts[small], copies[pools[small]])


def _pool_members(body: Body, pools: Ints, copies: Ints) -> Ints:
    """Return the copies of each pool from left to right, (p, MAX_POOL), then `_EMPTY`.

    Roots are expanded to their operands by repeated replacement, column by column.
    """
    members = np.full((len(pools), MAX_POOL), _EMPTY, np.int64)
    members[:, 0] = pools
    column = 0
    while column < MAX_POOL:
        net = members[:, column]
        split = np.flatnonzero((net != _EMPTY) & (copies[net] > 1))
        if not len(split):
            column += 1
            continue
        gate = net[split] - body.first_gate
        members[split, column + 2 :] = members[split, column + 1 : -1]
        members[split, column] = body.fanin[gate, 0]
        members[split, column + 1] = body.fanin[gate, 1]
    return members


def translation_classes(body: Body, by_level: list[Ints]) -> tuple[Ints, Ints]:
    """Return the class of each net, (num_nets,), and its anchor, (num_nets, rank).

    Nets of one class are copies of each other, shifted by the difference of their anchors. The
    class of a tap is what it reads apart from its offset; the class of a gate is its table, the
    classes of its operands and the offsets between their anchors. Classes are exact, since they
    come from sorted keys.
    """
    taps = body.taps.astype(np.int64)
    classes = np.zeros(body.num_nets, np.int64)
    anchor = np.zeros((body.num_nets, body.rank), np.int64)
    classes[TRUE] = 1
    if len(taps):
        classes[FIRST_TAP : body.first_gate] = FIRST_TAP + _row_ids(taps[:, :2])
        anchor[FIRST_TAP : body.first_gate] = taps[:, 2:]
    count = int(classes.max()) + 1
    for gates in by_level:
        fanin = body.fanin[gates].astype(np.int64)
        origin = anchor[fanin[:, 0]]
        columns = [body.table[gates].astype(np.uint64).view(np.int64)[:, None], classes[fanin]]
        # Unused trailing operands are net 0, whose anchor has no meaning.
        columns += [
            (anchor[fanin[:, c]] - origin) * (fanin[:, c] >= FIRST_TAP)[:, None]
            for c in range(1, body.k)
        ]
        nets = body.first_gate + gates
        classes[nets] = count + _row_ids(np.concatenate(columns, axis=1))
        anchor[nets] = origin
        count = int(classes[nets].max()) + 1
    return classes, anchor


def tree_leaves(body: Body, by_level: list[Ints]) -> Ints:
    """Return the leaves of each net's tree, (num_nets,), with every shared gate expanded.

    A gate of one input counts as a leaf: chains of such gates would otherwise be trees of any
    depth. Counts saturate.
    """
    arity = body.arity()
    count = np.ones(body.num_nets, np.int64)
    for gates in by_level:
        total = (arity[gates] == 1).astype(np.int64)
        for column in range(body.k):
            total += count[body.fanin[gates, column]] * (arity[gates] > column)
        count[body.first_gate + gates] = np.minimum(total, _MAX_COUNT)
    return count


def _row_ids(rows: Ints) -> Ints:
    """Return ids (n,) that are equal exactly if rows (n, c) are equal, from 0 on."""
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    as_bytes = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    return np.unique(as_bytes, return_inverse=True)[1].ravel().astype(np.int64)
