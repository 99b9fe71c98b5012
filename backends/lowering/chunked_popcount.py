"""Count the results that only a GroupSum reads, a chunk at a time.

Results go to the planes of a chunk. Whenever the chunk is full, it is counted while it is still in
the second-level cache, and its planes are used again for the next results.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering.layouts import PartialCount
from lgir.backends.lowering.plane_allocator import PlanePool
from lgir.backends.lowering.steps import ZERO_PLANE, CountStep, Planes, Step
from lgir.ir.body import IntArray

CHUNK: Final = 4096
"""The results that are counted together: 256 KiB of planes."""

Ints = npt.NDArray[np.int64]


class ChunkedPopcount:
    """Hands out planes of a chunk for results, and counts the chunk.

    Args:
        outputs: (n,) the nets of the body's outputs; one net may be several outputs.
        groups: (n,) the group in which each output is counted.
        plane: (num_nets,) the plane of each net; those of results are filled in.
        pool: where the planes of the chunk and of the counts come from.

    Attributes:
        free_planes: the number of planes that the chunk has left for results.
    """

    def __init__(self, outputs: IntArray, groups: Ints, plane: Planes, pool: PlanePool) -> None:
        self._plane = plane
        self._outputs = outputs
        self._is_counted = np.zeros(len(plane), bool)
        order = np.argsort(outputs, kind="stable")
        self._sorted_outputs = outputs[order].astype(np.int64)
        self._sorted_groups = groups[order]
        sizes = np.bincount(groups)
        width = int(sizes.max()).bit_length()
        self._initial = np.full((len(sizes), width), ZERO_PLANE)
        self._counts = pool.take(len(sizes) * width).reshape(len(sizes), width)
        self._chunk = pool.take(CHUNK)
        self._waiting: list[Ints] = []
        self.free_planes = CHUNK

    def place(self, nets: Ints) -> None:
        """Give planes of the chunk to results, of which there are at most `free_planes`."""
        first = CHUNK - self.free_planes
        self._plane[nets] = self._chunk[first : first + len(nets)]
        self._waiting.append(nets)
        self.free_planes -= len(nets)

    def count_if_full(self) -> list[Step]:
        """Return the step that counts the chunk if it is full, and empty the chunk then."""
        return [] if self.free_planes else self._count()

    def finish(self) -> tuple[list[Step], PartialCount]:
        """Return the step that counts what the chunk still holds, if anything, and all counts."""
        steps = self._count()
        return steps, PartialCount(self._counts, self._is_counted[self._outputs])

    def _count(self) -> list[Step]:
        if self.free_planes == CHUNK:
            return []
        nets = np.concatenate(self._waiting)
        first = np.searchsorted(self._sorted_outputs, nets)
        uses = np.searchsorted(self._sorted_outputs, nets, side="right") - first
        index = np.repeat(first - np.cumsum(uses) + uses, uses) + np.arange(uses.sum())
        planes = np.repeat(self._plane[nets], uses)
        table = planes_by_group(planes, self._sorted_groups[index], len(self._counts))
        step = CountStep(self._initial, table, self._counts)
        self._is_counted[nets] = True
        self._initial, self._waiting, self.free_planes = self._counts, [], CHUNK
        return [step]


def planes_by_group(planes: Planes, groups: Ints, count: int) -> Planes:
    """Return a table with a row of planes per group, (count, size of the largest group).

    Shorter rows are filled up with planes that are False.
    """
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups, minlength=count)
    table = np.full((count, int(sizes.max(initial=0))), ZERO_PLANE)
    column = np.arange(len(planes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    table[groups[order], column] = planes[order]
    return table
