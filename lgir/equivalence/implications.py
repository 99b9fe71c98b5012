"""Which taps of a netlist imply each other, and random samples that respect that.

Taps are bits of samples. Thresholds of one number imply each other, so not every assignment of the
taps belongs to a sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lgir.equivalence.arrays import Index, Mask
from lgir.ir.sets import distinct
from lgir.ir.simulate import Words, pack_planes


@dataclass(frozen=True)
class Implications:
    """Which taps imply each other: in a group, a tap of higher rank implies one of lower rank.

    Attributes:
        group: the group of each tap, (T,).
        rank: the rank of each tap, (T,); ranks in a group differ, as `build` makes sure.
    """

    group: Index
    rank: Index

    @staticmethod
    def none(count: int) -> Implications:
        """Return the implications of `count` independent taps."""
        return Implications(np.arange(count), np.arange(count))

    @staticmethod
    def build(group: Index, rank: Index) -> Implications:
        """Return implications in which ranks (T,) that are equal in a group are put in any order.

        Taps of equal group and rank must be equal.
        """
        place = np.empty(len(group), np.int64)
        place[np.lexsort((rank, group))] = np.arange(len(group))
        return Implications(group, place)

    @property
    def exist(self) -> bool:
        """Return whether any tap implies another."""
        return len(distinct(self.group)) < len(self.group)

    def next_lower(self) -> dict[int, int]:
        """Return, for each tap that implies others, the one of next lower rank."""
        order = np.lexsort((self.rank, self.group))
        same = self.group[order[1:]] == self.group[order[:-1]]
        return dict(zip(order[1:][same].tolist(), order[:-1][same].tolist(), strict=True))


def draw_planes(implications: Implications, words: int, seed: int) -> Words:
    """Return random bit planes of taps, uint64 (T, words), that respect the implications.

    The words are uniform, sparse and dense in turn. The first sample is all False, the second all
    True. A group passes any number of its members equally often.
    """
    rng = np.random.default_rng(seed)
    count = len(implications.group)
    planes = rng.integers(1 << 64, size=(count, words), dtype=np.uint64)
    extra = rng.integers(1 << 64, size=(2, count, words), dtype=np.uint64)
    planes[:, 2::4] &= extra[0, :, 2::4] & extra[1, :, 2::4]
    planes[:, 3::4] |= extra[0, :, 3::4] | extra[1, :, 3::4]
    order = np.lexsort((implications.rank, implications.group))
    group = implications.group[order]
    start = np.concatenate([[True], group[1:] != group[:-1]])[: len(order)]
    number = np.cumsum(start) - 1
    place = np.arange(count) - np.flatnonzero(start)[number]
    size = np.bincount(number)[number] if count else number
    related = np.flatnonzero(size > 1)
    for word in range(words if len(related) else 0):
        passed = rng.random((64, int(number.max()) + 1), np.float32)[:, number[related]]
        bits = np.floor(passed * (size[related] + 1)) > place[related]
        planes[order[related], word] = pack_planes(bits)[:, 0]
    planes[:, :1] &= ~np.uint64(3)
    planes[:, :1] |= np.uint64(2)
    return planes


def draw_planes_near(samples: Mask, implications: Implications, seed: int) -> Words:
    """Return bit planes, uint64 (T, words), of samples and of others that differ a little.

    `samples` are assignments (n, T) of the taps; they come first. What tells two nets apart often
    tells others apart nearby (distance-one simulation, Mishchenko et al. 2005).
    """
    count = 64 * max(2, -(-len(samples) // 64))
    planes = pack_planes(samples[np.arange(count) % len(samples)])
    _, group = np.unique(implications.group, return_inverse=True)
    rng = np.random.default_rng(seed)
    size = (4, int(group.max(initial=-1)) + 1, count // 64)
    redrawn = np.bitwise_and.reduce(rng.integers(1 << 64, size=size, dtype=np.uint64))[group]
    redrawn &= pack_planes((np.arange(count) >= len(samples))[:, None])
    changed: Words = planes ^ (planes ^ draw_planes(implications, count // 64, seed)) & redrawn
    return changed
