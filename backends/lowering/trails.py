"""Trails: two-input gates in an order where neighbours share an operand, and where results go.

Gates are taken as edges between the nets they read; pairing the ends that meet at a net, as in
Hierholzer's algorithm (1873), decomposes them into trails, along which each gate needs one operand
more than the gate before has left. Results take the places of operands that nobody reads again, the
latest first, since those are still in the nearest cache.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Trails:
    """Gates in an order where each but the first of a trail shares an operand with the one before.

    `gates` (n,) indices, `reverse` (n,) whether the gate is entered by its second operand, `starts`
    (n,) whether it begins a trail, `count` the number of trails.
    """

    gates: Ints
    reverse: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.bool_]
    count: int

    @property
    def rows(self) -> int:
        """Operands in order: a trail reads one before its first gate, and each gate one more."""
        return len(self.gates) + self.count


def find_trails(ends: Ints) -> Trails:
    """Decompose gates, seen as edges (n, 2) between the nets they read, into trails.

    At every net the ends that meet there are paired two by two, without joining the circuits that
    result; following the pairs gives trails, which begin and end at nets of odd degree, and closed
    ones.
    """
    n = len(ends)
    flat = ends.ravel()
    order = np.argsort(flat, kind="stable")
    nets = flat[order]
    first = np.concatenate([[True], nets[1:] != nets[:-1]]) if n else np.zeros(0, bool)
    start = np.maximum.accumulate(np.where(first, np.arange(2 * n), 0))
    even = (np.arange(2 * n) - start) % 2 == 0
    left = np.flatnonzero(even[:-1] & ~first[1:]) if n else np.zeros(0, np.int64)
    partner = np.full(2 * n, -1, np.int64)
    partner[order[left]], partner[order[left + 1]] = order[left + 1], order[left]
    follow = partner.tolist()
    seen = bytearray(n)
    path: list[int] = []
    starts: list[int] = []
    for entry in itertools.chain(np.flatnonzero(partner < 0).tolist(), range(0, 2 * n, 2)):
        if seen[entry >> 1]:
            continue
        starts.append(len(path))
        end = entry
        while end >= 0 and not seen[end >> 1]:
            seen[end >> 1] = 1
            path.append(end)
            end = follow[end ^ 1]
    entered = np.array(path, np.int64)
    begins = np.zeros(n, bool)
    begins[starts] = True
    return Trails(entered >> 1, (entered & 1).astype(bool), begins, len(starts))


def latest_place(freed: Ints, wanted: Ints) -> Ints:
    """(w,) for each row of `wanted`, ascending, the index in `freed` of the place it takes: of
    those free by then, the one freed last; -1 where none is left.

    `freed` (p,), ascending, are the rows at which places become free, for that row already. It is a
    stack, so that freeing and taking pair up as parentheses do: neighbours among those that cross
    one depth.
    """
    order = np.argsort(np.concatenate([freed, wanted]), kind="stable")
    frees = order < len(freed)
    depth = np.cumsum(np.where(frees, 1, -1))
    crossed = np.where(frees, depth, depth + 1)
    by_depth = np.argsort(crossed, kind="stable")
    frees, crossed, order = frees[by_depth], crossed[by_depth], order[by_depth]
    pairs = np.flatnonzero(frees[:-1] & ~frees[1:] & (crossed[:-1] == crossed[1:]))
    found = np.full(len(wanted), -1, np.int64)
    found[order[pairs + 1] - len(freed)] = order[pairs]
    return found
