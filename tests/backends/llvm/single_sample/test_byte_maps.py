"""The layout of maps, and the allocation of bytes."""

from __future__ import annotations

import numpy as np
import pytest

import lgir
from lgir.backends.llvm.single_sample.byte_allocator import LINE, SLACK, ByteAllocator
from lgir.backends.llvm.single_sample.byte_maps import map_layouts
from random_graphs import random_body, random_graph


def test_a_read_past_an_edge_meets_no_element() -> None:
    b = lgir.GraphBuilder("padded")
    x = b.input("x", "bit", (2, 5, 7))
    taps = [(0, 1, dy, dx) for dy in (-2, 0, 1) for dx in (-1, 0, 3)]
    table, fanin = [0b1110] * 8, [(2, 3), *((10 + i, 3 + i) for i in range(1, 8))]
    body = lgir.Body.build(taps, fanin, table, [2 + len(taps)], rank=2)
    graph = b.build(b.logic([x], body, (5, 7), (1, 1)))
    layout = map_layouts(graph)["x"]
    offsets = layout.offsets()
    elements = set(offsets.ravel().tolist())
    assert len(elements) == offsets.size
    assert int(offsets.max()) + layout.before < layout.size
    for _, channel, dy, dx in taps:
        for y, column in np.ndindex(5, 7):
            row, cell = y + dy, column + dx
            read = channel * layout.channel_pitch + int(np.dot((row, cell), layout.pitch))
            assert -layout.before <= read < layout.size - layout.before
            inside = 0 <= row < 5 and 0 <= cell < 7
            assert (read in elements) == inside
            if inside:
                assert read == offsets[channel, row, cell]


@pytest.mark.parametrize("seed", range(30))
def test_inputs_of_one_node_have_the_same_pitches(seed: int) -> None:
    graph = random_graph(seed)
    layouts = map_layouts(graph)
    for node in graph.nodes:
        if getattr(node.op, "positions", 1) > 1:
            assert len({layouts[name].pitch for name in node.inputs}) == 1


def test_values_without_axes_of_space_have_no_map() -> None:
    b = lgir.GraphBuilder("dense")
    x = b.input("x", "bit", (40,))
    body = random_body([40], 0, np.random.default_rng(0), gates=10, k=2, outputs=4)
    assert map_layouts(b.build(b.logic([x], body))) == {}


def test_allocated_ranges_are_disjoint_aligned_and_have_slack() -> None:
    allocator = ByteAllocator(3 * LINE)
    sizes = [1, 64, 65, 1000]
    starts = [allocator.allocate(size) for size in sizes]
    for start, size, end in zip(starts, sizes, [*starts[1:], allocator.size], strict=True):
        assert start % LINE == 0
        assert start >= 3 * LINE
        assert start + size + SLACK <= end


def test_borrowed_ranges_serve_again_after_their_release_only() -> None:
    allocator = ByteAllocator(0)
    large, small = allocator.borrow(1000), allocator.borrow(100)
    assert allocator.borrow(100) not in (large, small)
    allocator.release()
    size = allocator.size
    assert allocator.borrow(100) == small
    assert allocator.borrow(500) == large
    assert allocator.size == size
