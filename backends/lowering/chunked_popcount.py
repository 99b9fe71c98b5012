"""Results that classes only count: kept in the planes of a chunk, which is counted whenever it is
full, while it is in the second-level cache, and then serves again.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

from lgir.backends.lowering.steps import ZERO_PLANE, CountStep, Planes, Step
from lgir.ir.body import IntArray

CHUNK: Final = 4096
"""Results that are counted together, 256 KiB."""


class PlaneSource(Protocol):
    """Hands out single planes."""

    def take(self, count: int) -> Planes: ...


class ChunkedPopcount:
    """Hands out planes for results and counts them.

    Args:
        outputs: (n,) nets, of which one may be several outputs.
        classes: (n,) the group that counts each output.
        plane: (num_nets,) those of nets that wait to be counted are filled in, and -1 afterwards.

    Attributes:
        counts: (groups, width) planes of the count, bit-sliced.
        room: results that the chunk has planes for.
    """

    def __init__(
        self, outputs: IntArray, classes: Planes, plane: Planes, slots: PlaneSource
    ) -> None:
        self._plane = plane
        order = np.argsort(outputs, kind="stable")
        self._outputs = outputs[order].astype(np.int64)
        self._classes = classes[order]
        sizes = np.bincount(classes)
        width = int(sizes.max()).bit_length()
        self._start = np.full((len(sizes), width), ZERO_PLANE)
        self.counts = slots.take(len(sizes) * width).reshape(len(sizes), width)
        self._chunk = slots.take(CHUNK)
        self._nets: list[Planes] = []
        self.room = CHUNK

    def place(self, nets: Planes) -> None:
        """Gives planes to results, no more than there is room for."""
        first = CHUNK - self.room
        self._plane[nets] = self._chunk[first : first + len(nets)]
        self._nets.append(nets)
        self.room -= len(nets)

    def count_full(self) -> list[Step]:
        """Counts the chunk if it is full."""
        return [] if self.room else self.count()

    def count(self) -> list[Step]:
        """Counts the outputs that the chunk holds, if any."""
        if self.room == CHUNK:
            return []
        nets = np.concatenate(self._nets)
        first = np.searchsorted(self._outputs, nets)
        often = np.searchsorted(self._outputs, nets, side="right") - first
        which = np.repeat(first - np.cumsum(often) + often, often) + np.arange(often.sum())
        planes = np.repeat(self._plane[nets], often)
        table = planes_by_group(planes, self._classes[which], len(self.counts))
        step = CountStep(self._start, table, self.counts)
        self._plane[nets] = -1
        self._start, self._nets, self.room = self.counts, [], CHUNK
        return [step]


def planes_by_group(planes: Planes, classes: Planes, count: int) -> Planes:
    """(count, most of one class) planes by class, short rows filled with planes that are False."""
    order = np.argsort(classes, kind="stable")
    sizes = np.bincount(classes, minlength=count)
    table = np.full((count, int(sizes.max(initial=0))), ZERO_PLANE)
    column = np.arange(len(planes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    table[classes[order], column] = planes[order]
    return table
