"""merge: which chains join, in what order, and which stay apart."""

from __future__ import annotations

import numpy as np

from bodies import last_body, optimized, same_outputs, two_convs
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.truth_tables import AND, OR, XOR
from lgir.zoo import build_net
from random_graphs import random_inputs


def test_merge_joins_a_chain_of_dense_nodes_in_order():
    after = optimized(build_net("dense-4x400"), "merge")
    assert [n.op_type for n in after.nodes] == ["Logic", "GroupSum"]
    body = last_body(after)
    assert body.num_gates == 1600
    assert (np.diff(body.levels()[body.first_gate :]) >= 0).all()


def test_merge_keeps_a_value_that_others_read():
    b = GraphBuilder("shared")
    x = b.input("x", "bit", (4,))
    y = b.dense(x, [0, 1], [2, 3], [6, 6])
    z = b.dense(y, [0, 1], [1, 0], [1, 7])
    assert len(optimized(b.build(z, y), "merge").nodes) == 2
    assert len(optimized(b.build(z), "merge").nodes) == 1


def test_merge_joins_a_pointwise_reader_at_the_producers_stride():
    b = GraphBuilder("pointwise")
    x = b.input("x", "bit", (2, 8, 8))
    taps = [[0, 0, 0, 0], [0, 1, 1, 1]]
    y = b.logic([x], Body.build(taps, [[2, 3], [2, 3]], [AND, XOR], [4, 5]), (4, 4), (2, 2))
    z = b.logic([y], Body.build([[0, 0, 0, 0], [0, 1, 0, 0]], [[2, 3]], [OR], [4]), (4, 4))
    graph = b.build(z)
    after = optimized(graph, "merge")
    assert len(after.nodes) == 1
    assert after.nodes[0].op.stride == (2, 2)
    assert same_outputs(graph, after, random_inputs(graph, 130))


def test_merge_leaves_a_reader_of_neighbors_alone():
    shift = Body.build([[0, 0, 0, 1]], [[2]], [0b01], [3])
    assert len(optimized(two_convs(shift, shift), "merge").nodes) == 2
