"""cse: equal gates, taps, channels and nodes are shared, and copies are read past."""

from __future__ import annotations

import numpy as np
import pytest

from bodies import flat, last_body, optimized, same_outputs, two_convs
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import AND, NAND, OR, XOR
from random_graphs import random_inputs

NOT_A, A, GT, LT = 0b0011, 0b1100, 0b0100, 0b0010


def test_cse_merges_equal_gates_whatever_the_order_of_operands():
    graph = flat([[2, 3], [3, 2], [6, 7]], [GT, LT, OR], [8, 6])
    body = last_body(optimized(graph, "cse"))
    assert body.num_gates == 1
    assert body.outputs.tolist() == [6, 6]


def test_cse_merges_permuted_gates_of_three_inputs():
    mux, swapped = 0b11001010, 0b10101100  # first operand selects; last two exchanged
    graph = flat([[2, 3, 4], [2, 4, 3], [6, 7, 0]], [mux, swapped, 0b00111100], [8])
    body = last_body(optimized(graph, "cse"))
    assert body.outputs.tolist() == [0]  # x xor x


def test_cse_shares_a_gate_with_its_complement():
    graph = flat([[2, 3], [2, 3], [6, 7]], [AND, NAND, OR], [8])
    assert last_body(optimized(graph, "cse")).outputs.tolist() == [1]
    body = last_body(optimized(flat([[2, 3], [2, 3]], [AND, NAND], [6, 7]), "cse"))
    assert body.fanin.tolist() == [[2, 3], [6, 0]]
    assert body.table.tolist() == [AND, NOT_A]


def test_cse_finds_gates_that_only_folding_brings_to_one_level():
    # gate 7 equals gate 6 once the buffer in front of it is gone
    graph = flat([[2, 3], [2, 4], [7, 3]], [AND, A, AND], [6, 8])
    body = last_body(optimized(graph, "cse"))
    assert body.num_gates == 1


def test_cse_merges_taps_and_equal_channels():
    first = Body.build([[0, 0, 0, 0], [0, 0, 0, 1]], [[2, 3]], [XOR], [4, 2, 4])
    second = Body.build([[0, 2, 0, -1], [0, 0, 0, -1]], [[2, 3]], [XOR], [4])
    after = optimized(two_convs(first, second), "cse")
    assert last_body(after).outputs.tolist() == [0]


def test_a_complemented_channel_is_shared_only_inside_its_value():
    pair = Body.build([[0, 0, 0, 0]], [[2]], [0b01], [2, 3])
    edge = Body.build([[0, 0, 0, -1], [0, 1, 0, -1]], [[2, 3]], [XOR], [4])
    graph = two_convs(pair, edge)
    after = optimized(graph, "cse")
    assert last_body(after).num_gates == 1
    assert same_outputs(graph, after, random_inputs(graph, 130))
    inside = Body.build([[0, 0, 0, 1], [0, 1, 0, 1]], [[2, 3]], [XOR], [4])
    assert last_body(optimized(two_convs(pair, inside, space=(4, 3)), "cse")).outputs.tolist() == [
        1
    ]


def skipping(first: Body, second: Body, *, space=(4, 4), also_read: bool = True) -> Graph:
    """A convolution of x, and one that reads its channels as input 0 and x as input 1."""
    b = GraphBuilder("skip")
    x = b.input("x", "bit", (2, 4, 4))
    y = b.logic([x], first, (4, 4))
    return b.build(b.logic([y, x] if also_read else [y], second, space))


COPY_AND_GATE = Body.build([[0, 1, 0, 0], [0, 0, 0, 1]], [[2, 3]], [XOR], [2, 4])


def test_cse_reads_past_a_channel_that_hands_on_another():
    edge = Body.build([[0, 0, -1, 0], [1, 1, -1, 0]], [[2, 3]], [XOR], [4])
    graph = skipping(COPY_AND_GATE, edge)
    after = optimized(graph, "fix(cse,dce)")
    assert last_body(after).outputs.tolist() == [0]
    assert same_outputs(graph, after, random_inputs(graph, 130))


def test_cse_reads_past_nodes_that_only_hand_on():
    swap = Body.build([[0, 0, 0, 0], [0, 1, 0, 0]], [[2]], [0b01], [3, 4])
    edge = Body.build([[0, 0, -1, 0], [0, 0, 0, 1]], [[2, 3]], [XOR], [4])
    graph = skipping(swap, edge, also_read=False)
    after = optimized(graph, "fix(cse,dce)")
    assert [n.inputs for n in after.nodes] == [("x",)]
    assert last_body(after).taps[:, 1].tolist() == [1, 1]
    assert same_outputs(graph, after, random_inputs(graph, 130))
    both = Body.build([[0, 0, 0, 0], [0, 1, 0, 0]], [[2, 3]], [XOR], [4])
    assert len(optimized(skipping(COPY_AND_GATE, both, also_read=False), "fix(cse,dce)").nodes) == 2


def test_a_complement_is_read_past_only_inside_its_value():
    pair = Body.build([[0, 0, 0, 0], [0, 0, 0, 1]], [[2], [3]], [0b01, 0b01], [4, 5])
    inside = Body.build([[0, 0, 1, 0], [1, 0, 1, 0]], [[2, 3]], [XOR], [4])
    assert last_body(optimized(skipping(pair, inside, space=(3, 4)), "cse")).outputs.tolist() == [1]
    edge = Body.build([[0, 0, -1, 0], [1, 0, -1, 0]], [[2, 3]], [XOR], [4])
    graph = skipping(pair, edge)
    after = optimized(graph, "cse")
    assert last_body(after).num_gates == 1
    assert same_outputs(graph, after, random_inputs(graph, 130))


@pytest.mark.parametrize(("offset", "stride", "space"), [(1, 1, 4), (0, 2, 2), (0, 1, 3)])
def test_a_channel_that_moves_or_drops_positions_is_no_copy(offset, stride, space):
    b = GraphBuilder("moved")
    x = b.input("x", "bit", (2, 4, 4))
    first = Body.build([[0, 1, 0, offset]], np.zeros((0, 1)), [], [2])
    y = b.logic([x], first, (4, space), (1, stride))
    second = Body.build([[0, 0, 0, 0], [1, 1, 0, 0]], [[2, 3]], [XOR], [4])
    graph = b.build(b.logic([y, x], second, (4, 4)))
    after = optimized(graph, "fix(cse,dce)")
    assert last_body(after).num_gates == 1
    assert same_outputs(graph, after, random_inputs(graph, 130))


def test_cse_merges_equal_nodes():
    b = GraphBuilder("twins")
    x = b.input("x", "bit", (4,))
    y, z = (b.dense(x, [0, 1], [2, 3], [1, 6]) for _ in range(2))
    taps = [[0, 0], [1, 0]]
    graph = b.build(b.logic([y, z], Body.build(taps, [[2, 3]], [AND], [4])))
    after = optimized(graph, "fix(cse,dce)")
    assert len(after.nodes) == 2
    assert last_body(after).outputs.tolist() == [2]


def test_equal_thresholds_of_a_byte_are_shared():
    b = GraphBuilder("levels")
    bits = b.threshold(b.input("x", "u8", (1,)), [63.0, 63.5, 64.0])
    graph = b.build(b.dense(bits, [0, 1], [1, 2], [6, 6]))
    body = last_body(optimized(graph, "cse"))
    assert body.outputs[0] == 0
    assert body.num_gates == 1
