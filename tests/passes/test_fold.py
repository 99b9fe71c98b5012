"""fold: what constants, buffers and inverters become, inside nodes and across them."""

from __future__ import annotations

import numpy as np
import pytest

from bodies import flat, last_body, optimized, same_outputs, two_convs
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.nodes import Threshold
from lgir.ir.truth_tables import AND, NAND, OR, XNOR, XOR
from random_graphs import random_inputs

NOT_A, A, LT = 0b0011, 0b1100, 0b0010


@pytest.mark.parametrize(
    ("fanin", "table", "literal"),
    [
        ([2, 1], AND, 2),  # x and 1
        ([2, 0], OR, 2),
        ([2, 0], AND, 0),
        ([1, 2], OR, 1),
        ([2, 2], AND, 2),
        ([2, 2], XOR, 0),
        ([2, 2], XNOR, 1),
        ([2, 3], A, 2),
        ([2, 3], 0b1111, 1),
        ([0, 1], LT, 1),
    ],
)
def test_fold_replaces_a_gate_by_what_it_equals(fanin, table, literal):
    body = last_body(optimized(flat([fanin], [table], [6]), "fold"))
    assert body.num_gates == 0
    assert body.outputs.tolist() == [literal]


def test_fold_moves_an_inverter_into_its_readers():
    graph = flat([[2, 3], [4, 6]], [NOT_A, AND], [7])
    body = last_body(optimized(graph, "fold"))
    assert body.fanin.tolist() == [[2, 4]]
    assert body.table.tolist() == [LT]  # not x0 and x2


def test_fold_keeps_the_inverter_of_an_output():
    body = last_body(optimized(flat([[2, 2]], [NAND], [6]), "fold"))
    assert body.fanin.tolist() == [[2]]
    assert body.table.tolist() == [0b01]


def test_fold_complements_a_gate_that_outputs_read_as_its_complement_only():
    # outputs: not g, and not g xor x2, for g = x0 and x1
    graph = flat([[2, 3], [6, 0], [7, 4]], [AND, NOT_A, XOR], [7, 8])
    after = optimized(graph, "fold")
    body = last_body(after)
    assert body.fanin.tolist() == [[2, 3], [4, 6]]
    assert body.table.tolist() == [NAND, XOR]
    assert same_outputs(graph, after, random_inputs(graph, 130))
    both = flat([[2, 3], [6, 0]], [AND, NOT_A], [6, 7])
    assert optimized(both, "fold") is both


def test_fold_cancels_two_inverters():
    body = last_body(optimized(flat([[2, 3], [6, 6]], [NOT_A, NAND], [7]), "fold"))
    assert body.num_gates == 0
    assert body.outputs.tolist() == [2]


def test_fold_narrows_a_gate_of_six_inputs_to_what_matters():
    # mux of nets 4 and 5 by net 2, written over six inputs of which three are noise
    mux = 0
    for i in range(64):
        x = [i >> (5 - j) & 1 for j in range(6)]
        mux |= (x[4] if x[0] else x[2]) << i
    graph = flat([[2, 3, 4, 0, 5, 2]], [mux], [6])
    body = last_body(optimized(graph, "fold"))
    assert body.fanin.tolist() == [[2, 4, 5]]
    assert body.table.tolist() == [0b10101100]


ONE_AND_COPY = Body.build([[0, 0, 0, 0]], np.zeros((0, 1)), [], [1, 2])


def test_a_channel_of_ones_is_not_folded_where_a_tap_leaves_it():
    edge = Body.build([[0, 0, -1, 0], [0, 1, 0, 0]], [[2, 3]], [AND], [4])
    graph = two_convs(ONE_AND_COPY, edge)
    after = optimized(graph, "fold")
    assert last_body(after).num_gates == 1
    assert same_outputs(graph, after, random_inputs(graph, 130))


def test_a_channel_of_ones_is_folded_where_no_tap_leaves_it():
    inside = Body.build([[0, 0, 1, 0], [0, 1, 0, 0]], [[2, 3]], [AND], [4])
    graph = two_convs(ONE_AND_COPY, inside, space=(3, 4))
    body = last_body(optimized(graph, "fold"))
    assert body.num_gates == 0
    assert body.outputs.tolist() == [3]


def test_a_channel_of_zeros_is_folded_at_the_edge_too():
    zero = Body.build([[0, 0, 0, 0]], np.zeros((0, 1)), [], [0, 2])
    edge = Body.build([[0, 0, -1, 0], [0, 1, 0, 0]], [[2, 3]], [OR], [4])
    assert last_body(optimized(two_convs(zero, edge), "fold")).num_gates == 0


def test_a_tap_that_is_always_outside_reads_false():
    far = Body.build([[0, 0, 0, 0], [0, 0, 9, 0]], [[2, 3]], [OR], [4])
    b = GraphBuilder("far")
    graph = b.build(b.logic([b.input("x", "bit", (1, 4, 4))], far, (4, 3)))
    assert last_body(optimized(graph, "fold")).num_gates == 0


def test_constants_cross_thresholds_and_reshapes():
    b = GraphBuilder("levels")
    x = b.input("x", "u8", (1, 2, 2))
    bits = b.threshold(x, [-1.0, 100.0, 255.0])  # always, sometimes, never
    flat_bits = b.reshape(bits, (12,))
    graph = b.build(b.dense(flat_bits, [0, 4, 8], [5, 9, 6], [1, 7, 7]))
    body = last_body(optimized(graph, "fold"))
    assert body.num_gates == 0
    assert body.outputs.tolist() == [2 + 5, 2 + 4, 2 + 6]


def test_fold_bypasses_a_node_that_copies_its_input():
    b = GraphBuilder("copy")
    x = b.input("x", "bit", (2, 3, 3))
    copy = Body.build([[0, 0, 0, 0], [0, 1, 0, 0]], np.zeros((0, 1)), [], [2, 3])
    y = b.logic([x], copy, (3, 3))
    z = b.reshape(b.reshape(y, (6, 3)), (18,))
    graph = b.build(b.group_sum(z, 2))
    after = optimized(graph, "fix(fold,dce)")
    assert [n.op_type for n in after.nodes] == ["Reshape", "GroupSum"]
    assert after.nodes[0].inputs == ("x",)


def test_thresholds_are_left_as_they_are_by_fold():
    b = GraphBuilder("kept")
    bits = b.threshold(b.input("x", "f32", (4,)), [0.5])
    graph = b.build(b.group_sum(bits, 2))
    assert optimized(graph, "default") is graph
    assert isinstance(graph.nodes[0].op, Threshold)
