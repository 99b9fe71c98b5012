"""Where one sample's bits lie: ranges of bytes, and maps for the values that convolutions read.

Rows, and channels, of a map share the cells between them: what is beyond one's end is before the
next one's start, and stays False.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.ir.types import Shape

LINE: Final = 64
SLACK: Final = 4 * LINE
"""Bytes behind each range that belong to nobody: a kernel may read or clear some."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """Channel c at a position lies at `c * channel + position @ pitch`, from the first cell on;
    convolutions read `before` bytes before that, and the map takes `size` bytes.
    """

    shape: Shape
    channel: int
    pitch: tuple[int, ...]
    before: int
    size: int

    def cells(self) -> Ints:
        """(C, *space) where each element lies, from the first cell."""
        index = np.indices(self.shape).reshape(len(self.shape), -1)
        at: Ints = np.array([self.channel, *self.pitch], np.int64) @ index
        return at.reshape(self.shape)


def layouts(graph: Graph) -> dict[str, Layout]:
    """Of every value with axes of space, with room for what convolutions read past its edges.

    Inputs of one node get the same pitches: its trees read them all with one offset.
    """
    low = {n: np.zeros(len(v.shape) - 1, np.int64) for n, v in graph.values.items()}
    room = {n: a.copy() for n, a in low.items()}
    nodes = [(n, op) for n, op in graph.of_type(Logic) if op.positions > 1]
    for node, op in nodes:
        last = (np.array(op.space) - 1) * np.array(op.stride)
        for i, name in enumerate(node.inputs):
            offsets = op.body.taps[op.body.taps[:, 0] == i, 2:].astype(np.int64)
            beyond = offsets + last - np.array(graph.values[name].shape[1:]) + 1
            low[name] = np.maximum(low[name], (-offsets).max(axis=0, initial=0))
            high = beyond.max(axis=0, initial=0)
            room[name] = np.maximum(room[name], np.maximum(low[name], high))
    changed = True
    while changed:
        changed = False
        for node, _ in nodes:
            extent = {n: np.array(graph.values[n].shape[1:]) + room[n] for n in node.inputs}
            widest = np.max(list(extent.values()), axis=0)
            for name, own in extent.items():
                missing = widest - own
                missing[0] = 0  # the slowest axis has no part in the pitches
                if missing.any():
                    room[name] = room[name] + missing
                    changed = True
    return {
        name: _layout(value.shape, low[name], room[name])
        for name, value in graph.values.items()
        if len(value.shape) > 1
    }


def _layout(shape: Shape, low: Ints, room: Ints) -> Layout:
    extent = [int(s + r) for s, r in zip(shape[1:], room, strict=True)]
    channel, *pitch = (math.prod(extent[i:]) for i in range(len(extent) + 1))
    before, after = int(low @ np.array(pitch)), int(room @ np.array(pitch))
    return Layout(shape, channel, tuple(pitch), before, before + shape[0] * channel + after)


class Bytes:
    """Ranges of a workspace. What is borrowed is free for others after `settle`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: list[tuple[int, int]] = []
        self._lent: list[tuple[int, int]] = []

    def take(self, size: int) -> int:
        """The start of a range of its own."""
        start = self.size
        self.size += -(-(size + SLACK) // LINE) * LINE
        return start

    def borrow(self, size: int) -> int:
        """The start of a range that may hold anything."""
        for i, (start, length) in enumerate(self._free):
            if length >= size:
                del self._free[i]
                self._lent.append((start, length))
                return start
        self._lent.append((self.take(size), size))
        return self._lent[-1][0]

    def settle(self) -> None:
        self._free = sorted([*self._free, *self._lent], key=lambda x: x[1])
        self._lent = []
