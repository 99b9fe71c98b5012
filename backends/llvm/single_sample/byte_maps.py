"""Lay out the values with axes of space as maps of bytes that convolutions read.

A map holds one byte per element, row by row. Successive rows, and successive channels, share the
halo between them: the cells past the end of one row are also the cells before the start of the
next. These cells stay False, which is the zero padding of a convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering.halos import Halo, find_halos, no_halo
from lgir.ir.graph import Graph
from lgir.ir.types import Shape

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MapLayout:
    """The layout of one value's map; offsets and sizes are in bytes.

    Channel `c` at `position` lies at `c * channel_pitch + position @ pitch` from the first cell.

    Attributes:
        shape: (C, *space), the value's shape.
        channel_pitch: the distance between the same cells of two successive channels.
        pitch: the distance between two successive cells, per axis of space.
        before: the bytes before the first cell that convolutions read.
        size: the bytes of the map, with the halo before its first and behind its last cell.
    """

    shape: Shape
    channel_pitch: int
    pitch: tuple[int, ...]
    before: int
    size: int

    def offsets(self) -> Ints:
        """Return the offset of each element from the first cell, (C, *space)."""
        index = np.indices(self.shape).reshape(len(self.shape), -1)
        offsets: Ints = np.array([self.channel_pitch, *self.pitch], np.int64) @ index
        return offsets.reshape(self.shape)


def map_layouts(graph: Graph) -> dict[str, MapLayout]:
    """Return the layout of every value with axes of space, by name.

    Each layout has a halo as wide as the widest read past the value's edges. All inputs of one
    node get the same pitches, so that one tap reads all of them at one offset.
    """
    halos = find_halos(graph)
    return {
        name: _layout(value.shape, halos.get(name, no_halo(len(value.shape) - 1)))
        for name, value in graph.values.items()
        if len(value.shape) > 1
    }


def _layout(shape: Shape, halo: Halo) -> MapLayout:
    """Return the layout of a value with that halo around it and between its rows."""
    extent = [size + cells for size, cells in zip(shape[1:], halo.between, strict=True)]
    channel_pitch, *pitch = (math.prod(extent[i:]) for i in range(len(extent) + 1))
    bytes_before = int(np.array(halo.before) @ np.array(pitch))
    bytes_after = int(np.array(halo.between) @ np.array(pitch))
    size = bytes_before + shape[0] * channel_pitch + bytes_after
    return MapLayout(shape, channel_pitch, tuple(pitch), bytes_before, size)
