"""Find pools in a convolution body: ORs of shifted copies of one cone.

Nets of one translation-invariant class are copies of each other at an offset, so an OR pool that
was pulled into its convolution is recognised exactly, whatever its tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.truth_tables import OR, narrow_table
from lgir.ir.types import FIRST_TAP

MAX_LEAVES: Final = 32
MAX_POOL: Final = 16

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pools:
    """Pooled `roots` (p,), the first operand of each (p,), and `members` (p, MAX_POOL + 1, rank):
    shifts of the copies relative to it, how many in [:, MAX_POOL, 0].
    """

    roots: Ints
    operands: Ints
    members: Ints

    def by_shift(self) -> list[tuple[Ints, Ints]]:
        """Pools grouped by their shifts: (shifts (m, rank), indices of the pools)."""
        members = self.members
        if not len(members):
            return []
        ids = _dense_ids(members.reshape(len(members), -1))
        groups = []
        for i in range(int(ids.max()) + 1):
            indices = np.flatnonzero(ids == i)
            sample = members[indices[0]]
            groups.append((sample[: int(sample[MAX_POOL, 0])], indices))
        return groups


def no_pools(rank: int) -> Pools:
    none = np.zeros(0, np.int64)
    return Pools(none, none, np.zeros((0, MAX_POOL + 1, rank), np.int64))


def find_pools(body: Body, by_level: list[Ints], leaves: Ints, roots: Ints) -> Pools:
    """Those of `roots` that are an OR of shifted copies of one cone of at most MAX_LEAVES.

    The body has two inputs a gate or more, `by_level` are its `gates_by_level()`, `leaves` its
    `tree_leaves`.
    """
    arity = body.arity().astype(np.int64)
    rank = body.rank
    is_or = np.zeros(body.num_nets, bool)
    is_or[body.first_gate :] = (narrow_table(body.table, body.k, 2) == OR) & (arity == 2)
    candidates = roots[is_or[roots]]
    if not len(candidates):
        return no_pools(rank)
    cls, anchor = translation_classes(body, by_level)
    pool_cls = cls.copy()
    size = np.ones(body.num_nets, np.int64)
    for gates in by_level:
        nets = body.first_gate + gates
        nets = nets[is_or[nets]]
        left, right = body.fanin[nets - body.first_gate, 0], body.fanin[nets - body.first_gate, 1]
        same = pool_cls[left] == pool_cls[right]
        same &= size[left] + size[right] <= MAX_POOL
        nets, left, right = nets[same], left[same], right[same]
        pool_cls[nets] = pool_cls[left]
        size[nets] = size[left] + size[right]
    pooled = candidates[size[candidates] > 1]
    if not len(pooled):
        return no_pools(rank)
    # Expand each root to its operands, left to right, by repeated replacement.
    members = np.full((len(pooled), MAX_POOL), -1, np.int64)
    members[:, 0] = pooled
    filled = np.ones(len(pooled), np.int64)
    column = 0
    while column < MAX_POOL:
        net = members[:, column]
        split = np.flatnonzero((net >= 0) & (size[net] > 1))
        if not len(split):
            column += 1
            continue
        gate = net[split] - body.first_gate
        members[split, column + 2 :] = members[split, column + 1 : -1]
        members[split, column] = body.fanin[gate, 0]
        members[split, column + 1] = body.fanin[gate, 1]
        filled[split] += 1
    shifts = np.zeros((len(pooled), MAX_POOL + 1, rank), np.int64)
    first = members[:, 0]
    shifts[:, :MAX_POOL] = np.where(
        (members >= 0)[..., None], anchor[np.maximum(members, 0)] - anchor[first][:, None], 0
    )
    shifts[:, MAX_POOL, 0] = filled
    small = leaves[first] <= MAX_LEAVES
    return Pools(pooled[small], first[small], shifts[small])


def translation_classes(body: Body, by_level: list[Ints]) -> tuple[Ints, Ints]:
    """(class, anchor) of every net: nets of one class are copies of each other, shifted by the
    difference of their anchors (num_nets, rank).

    A tap's class is what it reads apart from its offset; a gate's is its table, its operands'
    classes and the offsets between their anchors. Exact: classes come from sorted keys.
    """
    rank = body.rank
    taps = body.taps.astype(np.int64)
    cls = np.zeros(body.num_nets, np.int64)
    anchor = np.zeros((body.num_nets, rank), np.int64)
    cls[1] = 1
    if len(taps):
        cls[FIRST_TAP : body.first_gate] = 2 + _dense_ids(taps[:, :2])
        anchor[FIRST_TAP : body.first_gate] = taps[:, 2:]
    count = int(cls.max()) + 1
    for gates in by_level:
        fanin = body.fanin[gates].astype(np.int64)
        base = anchor[fanin[:, 0]]
        columns = [body.table[gates].astype(np.uint64).view(np.int64)[:, None], cls[fanin]]
        # Unused trailing operands are net 0, whose anchor means nothing.
        columns += [
            (anchor[fanin[:, c]] - base) * (fanin[:, c] >= FIRST_TAP)[:, None]
            for c in range(1, body.k)
        ]
        nets = body.first_gate + gates
        cls[nets] = count + _dense_ids(np.concatenate(columns, axis=1))
        anchor[nets] = base
        count = int(cls[nets].max()) + 1
    return cls, anchor


def tree_leaves(body: Body, by_level: list[Ints]) -> Ints:
    """Leaves of the full tree expansion of each net (num_nets,), saturating. A gate of one input
    counts as a leaf: chains of these would else be trees of any depth.
    """
    arity = body.arity()
    count = np.ones(body.num_nets, np.int64)
    for gates in by_level:
        total = (arity[gates] == 1).astype(np.int64)
        for column in range(body.k):
            total += count[body.fanin[gates, column]] * (arity[gates] > column)
        count[body.first_gate + gates] = np.minimum(total, 1 << 40)
    return count


def _dense_ids(rows: Ints) -> Ints:
    """(n,) ids, equal exactly where rows (n, c) are equal."""
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    view = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    return np.unique(view, return_inverse=True)[1].ravel().astype(np.int64)
