"""Trails: two-input gates in an order in which neighbors share an operand, and where results go.

Gates are taken as edges between the nets that they read. Pairing the edges that meet at a net, as
in Hierholzer's algorithm (1873), decomposes them into trails, along which each gate needs one
operand more than the gate before has left. Results take the places of operands that nothing reads
again, the latest first, since those are still in the nearest cache.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_UNPAIRED: Final = -1


@dataclass(frozen=True)
class Trails:
    """Gates in an order in which each but the first of a trail shares an operand with the last.

    Attributes:
        gates: (n,) the indices of the gates.
        reverse: (n,) whether the gate is entered by its second operand.
        starts: (n,) whether the gate begins a trail.
        count: the number of trails.
    """

    gates: Ints
    reverse: Bools
    starts: Bools
    count: int

    @property
    def rows(self) -> int:
        """The number of operands read: one before the first gate of a trail, then one per gate."""
        return len(self.gates) + self.count

    def operands(self, fanin: npt.NDArray[np.integer]) -> tuple[Ints, Ints]:
        """Return the nets by which gates are entered and left, (n,) each.

        `fanin` (num_gates, 2 or more) are the operands of all gates of the body.
        """
        pairs = fanin[self.gates, :2].astype(np.int64)
        entered = np.where(self.reverse, pairs[:, 1], pairs[:, 0])
        left = np.where(self.reverse, pairs[:, 0], pairs[:, 1])
        return entered, left


def find_trails(pairs: Ints) -> Trails:
    """Decompose gates, seen as edges `pairs` (n, 2) between the nets they read, into trails.

    At every net, the ends of edges that meet there are paired two by two, without joining the
    circuits that result. Following the pairs gives trails, which begin and end at nets of odd
    degree, and closed ones.
    """
    n = len(pairs)
    net = pairs.ravel()  # End i of an edge belongs to gate i // 2.
    order = np.argsort(net, kind="stable")
    nets = net[order]
    is_first = np.concatenate([[True], nets[1:] != nets[:-1]]) if n else np.zeros(0, bool)
    start = np.maximum.accumulate(np.where(is_first, np.arange(2 * n), 0))
    is_even = (np.arange(2 * n) - start) % 2 == 0
    left = np.flatnonzero(is_even[:-1] & ~is_first[1:]) if n else np.zeros(0, np.int64)
    partner = np.full(2 * n, _UNPAIRED, np.int64)
    partner[order[left]], partner[order[left + 1]] = order[left + 1], order[left]
    next_end = partner.tolist()
    visited = bytearray(n)
    path: list[int] = []
    starts: list[int] = []
    unpaired = np.flatnonzero(partner == _UNPAIRED).tolist()
    for entry in itertools.chain(unpaired, range(0, 2 * n, 2)):
        if visited[entry >> 1]:
            continue
        starts.append(len(path))
        end = entry
        while end != _UNPAIRED and not visited[end >> 1]:
            visited[end >> 1] = 1
            path.append(end)
            end = next_end[end ^ 1]
    entered = np.array(path, np.int64)
    begins = np.zeros(n, bool)
    begins[starts] = True
    return Trails(entered >> 1, (entered & 1).astype(bool), begins, len(starts))


def latest_places(freed: Ints, needed: Ints) -> tuple[Bools, Ints]:
    """Match rows that need a place with the places that were freed last.

    Args:
        freed: (p,) the row at which each place becomes free, ascending; it is free for that row
            already.
        needed: (w,) the rows that need a place, ascending.

    Returns:
        Which rows get a place, (w,) bool, and for these the index of their place in `freed`.

    Free places form a stack, so that freeing and taking pair up as parentheses do: those that are
    neighbors among all that cross one depth.
    """
    order = np.argsort(np.concatenate([freed, needed]), kind="stable")
    frees = order < len(freed)
    depth = np.cumsum(np.where(frees, 1, -1))
    crossed = np.where(frees, depth, depth + 1)
    by_depth = np.argsort(crossed, kind="stable")
    frees, crossed, order = frees[by_depth], crossed[by_depth], order[by_depth]
    pairs = np.flatnonzero(frees[:-1] & ~frees[1:] & (crossed[:-1] == crossed[1:]))
    has_place = np.zeros(len(needed), bool)
    place = np.zeros(len(needed), np.int64)
    rows = order[pairs + 1] - len(freed)
    has_place[rows], place[rows] = True, order[pairs]
    return has_place, place[has_place]
