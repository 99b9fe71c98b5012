"""Halos: what convolutions read past the edges of a value."""

from __future__ import annotations

import numpy as np
import pytest

from lgir.backends.lowering.halos import Halo, find_halos, no_halo
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.zoo import dense_net
from random_graphs import random_graph


def pair_body(offsets: list[list[int]], inputs: tuple[int, int] = (0, 0)) -> Body:
    """The AND of two taps at channel 0."""
    taps = [[i, 0, *offset] for i, offset in zip(inputs, offsets, strict=True)]
    return Body.build(taps, [[2, 3]], [0b1000], [4])


def convolution(offsets: list[list[int]], space: tuple[int, int], stride: tuple[int, int]) -> Graph:
    b = GraphBuilder("one")
    x = b.input("x", "bit", (1, 4, 6))
    return b.build(b.logic([x], pair_body(offsets), space, stride))


def test_a_window_within_the_edges_needs_no_cells() -> None:
    graph = convolution([[0, 0], [1, 2]], (3, 4), (1, 1))
    assert find_halos(graph) == {"x": no_halo(2)}
    assert find_halos(graph)["x"].is_empty


def test_offsets_past_either_edge_are_counted_per_axis() -> None:
    graph = convolution([[-1, -2], [2, 0]], (4, 6), (1, 1))
    assert find_halos(graph) == {"x": Halo(before=(1, 2), after=(2, 0))}
    assert find_halos(graph)["x"].between == (2, 2)


def test_strides_take_the_last_position_further() -> None:
    graph = convolution([[0, 0], [1, 1]], (2, 4), (2, 2))
    assert find_halos(graph) == {"x": Halo(before=(0, 0), after=(0, 2))}


def test_a_value_has_the_widest_halo_of_its_readers() -> None:
    b = GraphBuilder("two")
    x = b.input("x", "bit", (1, 4, 4))
    left = b.logic([x], pair_body([[0, 0], [0, -2]]), (4, 4))
    right = b.logic([x], pair_body([[0, 0], [3, 0]]), (4, 4))
    assert find_halos(b.build(left, right))["x"] == Halo(before=(0, 2), after=(3, 0))


def test_inputs_of_one_node_get_equal_rows() -> None:
    b = GraphBuilder("joined")
    x, y = b.input("x", "bit", (1, 4, 4)), b.input("y", "bit", (1, 4, 4))
    joined = b.logic([x, y], pair_body([[0, 0], [0, 3]], (0, 1)), (4, 4))
    halos = find_halos(b.build(joined))
    assert halos == {"x": Halo((0, 0), (0, 3)), "y": Halo((0, 0), (0, 3))}


def test_dense_bodies_need_no_halos() -> None:
    assert find_halos(dense_net(2, 40)) == {}


@pytest.mark.parametrize("seed", range(40))
def test_every_read_lies_within_the_halo(seed: int) -> None:
    graph = random_graph(seed, rank=2)
    halos = find_halos(graph)
    for node, op in graph.of_type(Logic):
        if op.positions == 1:
            continue
        last = (np.array(op.space) - 1) * np.array(op.stride)
        for i, name in enumerate(node.inputs):
            shape = np.array(graph.values[name].shape[1:])
            for tap in op.body.taps[op.body.taps[:, 0] == i]:
                assert (tap[2:] >= -np.array(halos[name].before)).all()
                assert (tap[2:] + last < shape + np.array(halos[name].after)).all()
        rows = {
            tuple(np.array(graph.values[name].shape[2:]) + np.array(halos[name].between[1:]))
            for name in node.inputs
        }
        assert len(rows) == 1
