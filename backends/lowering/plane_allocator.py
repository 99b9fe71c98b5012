"""Allocate planes: ranges for values, taken back when nothing reads them, and single planes.

Values that convolutions read are laid out affinely, with a halo of planes that stay False where
they are read past their edge, so that a template walks them without a branch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from lgir.backends.lowering.halos import Halo, find_halos, no_halo
from lgir.backends.lowering.layouts import ValueLayout, Walk
from lgir.backends.lowering.steps import FIRST_FREE_PLANE, Planes
from lgir.errors import BackendError
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Reshape
from lgir.ir.types import Shape, Value

_MAX_PLANES: Final = 1 << 28
"""The planes that one value may take: their numbers alone are 2 GiB."""

PlaneRange = tuple[int, int]
"""The first plane of a range, and how many it has."""


class _RangeSource(Protocol):
    """A supply of planes that nothing has used before."""

    def take(self, count: int) -> int: ...


class _NewPlanes:
    """An endless supply of new planes, in ascending order; `size` are numbered so far."""

    def __init__(self, first: int) -> None:
        self.size = first

    def take(self, count: int) -> int:
        start, self.size = self.size, self.size + count
        return start


class _NewPlanesAfterMargin:
    """A supply of new planes in which every range has `margin` unused planes before it."""

    def __init__(self, source: _RangeSource, margin: int) -> None:
        self._source, self._margin = source, margin

    def take(self, count: int) -> int:
        return self._source.take(self._margin + count) + self._margin


class RangeAllocator:
    """A first-fit allocator of ranges that coalesces free neighbors.

    Ranges that no free one can hold come from `source`.
    """

    def __init__(self, source: _RangeSource) -> None:
        self._source = source
        self._free: list[PlaneRange] = []

    def take(self, count: int) -> int:
        """Return the first plane of a range of `count` planes."""
        for i, (start, length) in enumerate(self._free):
            if length >= count:
                rest = (start + count, length - count)
                self._free[i : i + 1] = [rest] if rest[1] else []
                return start
        return self._source.take(count)

    def give(self, start: int, count: int) -> None:
        """Take back the range of `count` planes that begins at `start`."""
        merged = sorted([*self._free, (start, count)])
        self._free = merged[:1]
        for begin, length in merged[1:]:
            last_begin, last_length = self._free[-1]
            if last_begin + last_length == begin:
                self._free[-1] = (last_begin, last_length + length)
            else:
                self._free.append((begin, length))


class PlanePool:
    """Single planes for the results of one body, the lowest first.

    Attributes:
        ranges: the ranges that the pool has taken from `planes`.
    """

    def __init__(self, planes: RangeAllocator) -> None:
        self._planes = planes
        self._free = np.zeros(0, np.int64)
        self.ranges: list[PlaneRange] = []

    def take(self, count: int) -> Planes:
        """Return `count` planes, (count,)."""
        missing = count - len(self._free)
        if missing > 0:
            base = self._planes.take(missing)
            self.ranges.append((base, missing))
            self._free = np.concatenate([self._free, np.arange(base, base + missing)])
        allocated, self._free = self._free[:count], self._free[count:]
        return allocated

    def give(self, planes: Planes) -> None:
        """Take back planes of the pool, (n,)."""
        self._free = np.sort(np.concatenate([self._free, planes]))


class PlaneAllocator:
    """Allocates the planes of a graph's values while its nodes are lowered in order.

    Attributes:
        layouts: the layout of each value that has planes, by name.
        halos: the halo of each value that a convolution reads, by name.
        plain: ranges without a halo, for values and for intermediate results.
    """

    def __init__(self, graph: Graph) -> None:
        self.layouts: dict[str, ValueLayout] = {}
        self.halos = find_halos(graph)
        self._new = _NewPlanes(FIRST_FREE_PLANE)
        self.plain = RangeAllocator(self._new)
        self._haloed: dict[tuple[Shape, Halo], RangeAllocator] = {}
        self._root = _reshape_roots(graph)
        self._readers = _count_readers(graph, self._root)
        self._held: dict[str, list[tuple[RangeAllocator, PlaneRange]]] = {}
        self._allocate_side_by_side(graph)

    @property
    def num_planes(self) -> int:
        """The number of planes that were ever used, the constants included."""
        return self._new.size

    def allocate(self, value: Value) -> ValueLayout:
        """Allocate planes for `value`, with its halo, and return their layout.

        A line along an axis ends in cells that stay False and that also serve as the cells before
        the next line: reading past either edge finds them. A range with such a halo is only ever
        used again by values of the same geometry, which write the same cells.

        Raises BackendError if the value takes too many planes.
        """
        channels, *space = value.shape
        halo = self.halos.get(value.name) or no_halo(len(space))
        extents = [size + cells for size, cells in zip(space, halo.between, strict=True)]
        strides = tuple(math.prod(extents[i + 1 :]) for i in range(len(extents)))
        count = channels * math.prod(extents)
        if count > _MAX_PLANES:
            raise BackendError(
                f"%{value.name} takes {count:,} planes with all cells that convolutions read past "
                f"its edges, more than {_MAX_PLANES:,}; passes 'fold,dce' remove reads that are "
                "always outside"
            )
        ranges = self.plain if halo.is_empty else self._ranges_with(tuple(space), halo, strides)
        base = ranges.take(count)
        grid = np.arange(base, base + count, dtype=np.int64).reshape(channels, *extents)
        layout = ValueLayout(grid[(slice(None), *map(slice, space))], Walk(strides, halo))
        self.layouts[value.name] = layout
        self._held[value.name] = [(ranges, (base, count))]
        return layout

    def bind(self, name: str, layout: ValueLayout, ranges: Sequence[PlaneRange] = ()) -> None:
        """Let the value `name` have a layout, and hold `ranges` of `plain` for it until it dies."""
        self.layouts[name] = layout
        self._held[name] = [(self.plain, taken) for taken in ranges]

    def release(self, node: Node) -> None:
        """Free the planes of every value that nothing reads after `node`."""
        if not isinstance(node.op, Reshape):
            for root in {self._root[name] for name in node.inputs}:
                self._readers[root] -= 1
                self._free_if_dead(root)
        self._free_if_dead(self._root[node.output])

    def _allocate_side_by_side(self, graph: Graph) -> None:
        """Allocate neighboring planes for convolutions that one dense body reads together.

        A target may tell planes that lie near each other apart by fewer bytes.
        """
        for reader, op in graph.of_type(Logic):
            if op.positions > 1 or len(reader.inputs) == 1:
                continue
            for name in reader.inputs:
                source = graph.producer(self._root[name])
                if source is None or source.output in self.layouts:
                    continue
                if isinstance(source.op, Logic) and source.op.positions > 1:
                    self.allocate(graph.values[source.output])

    def _ranges_with(self, space: Shape, halo: Halo, strides: tuple[int, ...]) -> RangeAllocator:
        """Return the allocator of the ranges of one geometry, which keep their halo."""
        if (space, halo) not in self._haloed:
            margin = sum(cells * step for cells, step in zip(halo.before, strides, strict=True))
            source = _NewPlanesAfterMargin(self._new, margin)
            self._haloed[space, halo] = RangeAllocator(source)
        return self._haloed[space, halo]

    def _free_if_dead(self, root: str) -> None:
        if self._readers[root]:
            return
        for name in self._held:
            if self._root[name] == root:
                for ranges, (start, count) in self._held[name]:
                    ranges.give(start, count)
                self._held[name] = []


def _reshape_roots(graph: Graph) -> dict[str, str]:
    """Return, for each value, the value whose planes it shares through reshapes."""
    root = {value.name: value.name for value in graph.inputs}
    for node in graph.nodes:
        shares = isinstance(node.op, Reshape)
        root[node.output] = root[node.inputs[0]] if shares else node.output
    return root


def _count_readers(graph: Graph, root: dict[str, str]) -> dict[str, int]:
    """Return how many nodes read each root; what graph outputs read stays until the end."""
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
