"""Allocation of planes: ranges, single planes, and layouts with halos."""

from __future__ import annotations

import numpy as np
import pytest

from lgir.backends.lowering.halos import Halo
from lgir.backends.lowering.layouts import ValueLayout
from lgir.backends.lowering.plane_allocator import PlaneAllocator, PlanePool, RangeAllocator
from lgir.backends.lowering.steps import FIRST_FREE_PLANE
from lgir.errors import BackendError
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import AND


class Counter:
    """A supply of planes that are counted from 0."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, count: int) -> int:
        start, self.size = self.size, self.size + count
        return start


def test_freed_ranges_are_taken_first_fit_and_joined() -> None:
    source = Counter()
    ranges = RangeAllocator(source)
    a, b, c = ranges.take(4), ranges.take(4), ranges.take(4)
    ranges.give(a, 4)
    ranges.give(c, 4)
    assert ranges.take(2) == a
    ranges.give(b, 4)
    assert ranges.take(10) == a + 2
    assert source.size == 12


@pytest.mark.parametrize("seed", range(10))
def test_ranges_in_use_never_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ranges, used = RangeAllocator(Counter()), {}
    for _ in range(200):
        if used and rng.random() < 0.5:
            start = int(rng.choice(list(used)))
            ranges.give(start, used.pop(start))
        else:
            count = int(rng.integers(1, 20))
            used[ranges.take(count)] = count
        planes = [p for start, count in used.items() for p in range(start, start + count)]
        assert len(planes) == len(set(planes))


def test_a_pool_hands_out_its_lowest_planes_and_remembers_its_ranges() -> None:
    pool = PlanePool(RangeAllocator(Counter()))
    assert pool.take(3).tolist() == [0, 1, 2]
    pool.give(np.array([2, 0]))
    assert pool.take(4).tolist() == [0, 2, 3, 4]
    assert pool.ranges == [(0, 3), (3, 2)]


def pair(before: int, after: int) -> Body:
    return Body.build([[0, 0, 0, -before], [0, 0, 0, after]], [[2, 3]], [AND], [4])


def graph_with_halo(before: int, after: int) -> Graph:
    b = GraphBuilder("halo")
    x = b.input("x", "bit", (2, 3, 4))
    return b.build(b.logic([x], pair(before, after), (3, 4)))


def test_lines_share_the_cells_between_them() -> None:
    graph = graph_with_halo(2, 1)
    layout = PlaneAllocator(graph).allocate(graph.values["x"])
    assert layout.walk is not None
    assert layout.walk.halo == Halo((0, 2), (0, 1))
    assert layout.walk.strides == (6, 1)
    assert (np.diff(layout.planes, axis=1) == 6).all()
    assert (np.diff(layout.planes, axis=0) == 18).all()
    assert layout.first_cells().tolist() == [layout.planes[0, 0, 0], layout.planes[1, 0, 0]]
    # The cells before the first line are planes of their own.
    assert layout.planes.min() - 2 >= FIRST_FREE_PLANE


def test_halos_are_never_written_by_other_values() -> None:
    graph = graph_with_halo(1, 1)
    planes = PlaneAllocator(graph)
    layout = planes.allocate(graph.values["x"])
    grid = layout.planes
    cells = set(range(int(grid.min()) - 1, int(grid.max()) + 2)) - set(grid.ravel().tolist())
    out = planes.allocate(graph.values[graph.outputs[0]])
    planes.release(graph.nodes[0])
    later = planes.plain.take(1000)
    assert not cells & set(out.planes.ravel().tolist())
    assert not cells & set(range(later, later + 1000))


def test_planes_are_free_after_the_last_reader_and_outputs_stay() -> None:
    b = GraphBuilder("two")
    x = b.input("x", "bit", (8,))
    y = b.dense(x, np.arange(4), np.arange(4, 8), np.full(4, 1))
    z = b.dense(y, np.arange(2), np.arange(2, 4), np.full(2, 1))
    graph = b.build(z)
    planes = PlaneAllocator(graph)
    first = planes.allocate(graph.values["x"]).planes.min()
    start = planes.plain.take(4)
    planes.bind(graph.nodes[0].output, ValueLayout(np.arange(start, start + 4)), [(start, 4)])
    planes.release(graph.nodes[0])
    assert planes.plain.take(8) == first
    last = planes.plain.take(2)
    planes.bind(graph.nodes[1].output, ValueLayout(np.arange(last, last + 2)), [(last, 2)])
    planes.release(graph.nodes[1])
    assert planes.plain.take(4) == start
    assert planes.plain.take(2) > last


def test_values_of_too_many_planes_are_refused() -> None:
    b = GraphBuilder("far")
    x = b.input("x", "bit", (1, 4, 4))
    body = Body.build([[0, 0, 0, 0], [0, 0, 20_000, 20_000]], [[2, 3]], [AND], [4])
    graph = b.build(b.logic([x], body, (4, 4)))
    with pytest.raises(BackendError, match=r"%x takes 4\d\d,\d{3},\d{3} planes"):
        PlaneAllocator(graph).allocate(graph.values["x"])
