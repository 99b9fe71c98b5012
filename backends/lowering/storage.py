"""Where values live: planes are handed out by ranges and taken back when nothing reads them.

Values that convolutions read are laid out affinely, with a halo of planes that stay False where
they are read past their edge, so that a template walks them without a branch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from lgir.backends.lowering.halos import find_halos, no_halo
from lgir.backends.lowering.steps import FIRST_FREE_PLANE, Planes
from lgir.errors import BackendError
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Reshape
from lgir.ir.types import Shape, Value

_MOST_PLANES: Final = 1 << 28
"""Of a value: their numbers alone are 2 GiB."""


@dataclass
class Storage:
    """Where a value lives: the plane of each element and, if regular, its affine layout. Elements
    without a plane, -1, are counted in `counts` (groups, width).
    """

    planes: Planes
    strides: tuple[int, ...] | None = None
    low: Shape = ()
    high: Shape = ()
    geometry: tuple[int, ...] = ()
    blocks: list[tuple[int, int]] = field(default_factory=list)
    counts: Planes | None = None


class _Planes:
    """The planes of a plan: every one new."""

    def __init__(self, first: int) -> None:
        self.size = first

    def take(self, count: int) -> int:
        start, self.size = self.size, self.size + count
        return start


class _Margin:
    """Ranges with planes that stay False before them."""

    def __init__(self, source: _Planes, before: int) -> None:
        self._source, self._before = source, before

    def take(self, count: int) -> int:
        return self._source.take(self._before + count) + self._before


class Allocator:
    """First-fit allocation of ranges, with coalescing; planes never used come from `source`."""

    def __init__(self, source: _Planes | _Margin) -> None:
        self._source = source
        self._free: list[tuple[int, int]] = []

    def take(self, count: int) -> int:
        for i, (start, length) in enumerate(self._free):
            if length >= count:
                rest = (start + count, length - count)
                self._free[i : i + 1] = [rest] if rest[1] else []
                return start
        return self._source.take(count)

    def give(self, start: int, count: int) -> None:
        merged = sorted([*self._free, (start, count)])
        self._free = merged[:1]
        for begin, length in merged[1:]:
            last_begin, last_length = self._free[-1]
            if last_begin + last_length == begin:
                self._free[-1] = (last_begin, last_length + length)
            else:
                self._free.append((begin, length))


class Memory:
    """The planes of a graph's values while a plan is made.

    Attributes:
        values: where each value that has planes lives, by name.
        halos: cells read before and after each axis, by name, of what convolutions read.
        free: ranges without a halo, for values and for scratch.
    """

    def __init__(self, graph: Graph) -> None:
        self.values: dict[str, Storage] = {}
        self.halos = find_halos(graph)
        self._all = _Planes(FIRST_FREE_PLANE)
        self.free = Allocator(self._all)
        self._haloed: dict[tuple[int, ...], Allocator] = {}
        self._root = _roots(graph)
        self._readers = _readers(graph, self._root)

    @property
    def num_planes(self) -> int:
        """Planes that were ever used."""
        return self._all.size

    def gather(self, graph: Graph) -> None:
        """Planes, next to each other, for convolutions that one body evaluated once reads: a target
        may tell near planes apart by fewer bytes.
        """
        for reader, op in graph.of_type(Logic):
            if op.positions > 1 or len(reader.inputs) == 1:
                continue
            for name in reader.inputs:
                source = graph.producer(self._root[name])
                if source is None or source.output in self.values:
                    continue
                if isinstance(source.op, Logic) and source.op.positions > 1:
                    self.allocate(graph.values[source.output])

    def allocate(self, value: Value) -> Storage:
        """Planes for `value`.

        A line along an axis ends in cells that stay False and serve before the next line as well:
        reading past either edge finds them. A range with such a halo is only ever used by values of
        its geometry, which write the same cells. Raises BackendError where they are too many.
        """
        halo = self.halos.get(value.name) or no_halo(len(value.shape) - 1)
        low, high = halo.before, halo.after
        channels, *space = value.shape
        padded = [s + max(a, b) for s, a, b in zip(space, low, high, strict=True)]
        strides = _row_major(padded)
        count = channels * math.prod(padded)
        if count > _MOST_PLANES:
            raise BackendError(
                f"%{value.name} takes {count:,} planes with all cells that convolutions read past "
                f"its edges, more than {_MOST_PLANES:,}; passes 'fold,dce' remove reads that are "
                "always outside"
            )
        storage = Storage(np.zeros(0, np.int64), strides, low, high)
        if any(low) or any(high):
            storage.geometry = (*space, *low, *high)
            if storage.geometry not in self._haloed:
                before = sum(a * step for a, step in zip(low, strides, strict=True))
                self._haloed[storage.geometry] = Allocator(_Margin(self._all, before))
            base = self._haloed[storage.geometry].take(count)
        else:
            base = self.free.take(count)
        storage.blocks.append((base, count))
        grid = np.arange(base, base + count, dtype=np.int64).reshape(channels, *padded)
        storage.planes = grid[(slice(None), *map(slice, space))]
        self.values[value.name] = storage
        return storage

    def release(self, node: Node) -> None:
        """Frees the planes of what nothing reads after `node`."""
        if not isinstance(node.op, Reshape):
            for root in {self._root[name] for name in node.inputs}:
                self._readers[root] -= 1
                self._free_if_dead(root)
        self._free_if_dead(self._root[node.output])

    def _free_if_dead(self, root: str) -> None:
        if self._readers[root]:
            return
        for name, storage in self.values.items():
            if self._root[name] == root:
                alloc = self._haloed[storage.geometry] if storage.geometry else self.free
                for start, count in storage.blocks:
                    alloc.give(start, count)
                storage.blocks = []


def _row_major(extent: list[int]) -> tuple[int, ...]:
    """Strides of the axes after the channel axis, in planes."""
    return tuple(math.prod(extent[i + 1 :]) for i in range(len(extent)))


def _roots(graph: Graph) -> dict[str, str]:
    """Value -> the value whose planes it shares, through reshapes."""
    root = {value.name: value.name for value in graph.inputs}
    for node in graph.nodes:
        shares = isinstance(node.op, Reshape)
        root[node.output] = root[node.inputs[0]] if shares else node.output
    return root


def _readers(graph: Graph, root: dict[str, str]) -> dict[str, int]:
    """How many nodes read each root; what graph outputs read is held to the end."""
    readers = dict.fromkeys(graph.values, 0)
    for node in graph.nodes:
        if not isinstance(node.op, Reshape):
            for name in {root[name] for name in node.inputs}:
                readers[name] += 1
    for name in graph.outputs:
        producer = graph.producer(name)
        if producer is not None and isinstance(producer.op, GroupSum):
            name = producer.inputs[0]
        readers[root[name]] += 1
    return readers
