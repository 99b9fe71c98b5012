"""dce: what no output depends on goes, and what a node or a sum needs stays."""

from __future__ import annotations

import numpy as np

from bodies import optimized
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.nodes import GroupSum, Reshape
from lgir.ir.truth_tables import AND, OR, XOR
from lgir.zoo import build_net


def test_dce_removes_gates_taps_channels_levels_inputs_and_nodes():
    b = GraphBuilder("dead")
    x = b.input("x", "u8", (2, 2, 2))
    z = b.input("z", "bit", (3, 2, 2))
    bits = b.threshold(x, [10.0, 20.0, 30.0])
    b.threshold(x, [5.0])  # nobody reads it
    taps = [[0, c, 0, 0] for c in (0, 2, 3)] + [[1, 1, 0, 0]]
    body = Body.build(taps, [[2, 3], [3, 4], [4, 5]], [AND, OR, XOR], [6, 7, 8])
    y = b.flatten(b.logic([bits, z], body, (2, 2)))
    graph = b.build(b.dense(y, [4, 5], [6, 7], [1, 7]))  # channel 1 of 3 alone
    after = optimized(graph, "dce")
    threshold, conv, reshape, dense = after.nodes
    assert threshold.op.levels.tolist() == [10.0, 30.0]
    assert conv.inputs == (threshold.output,)
    assert conv.op.body.taps[:, 1].tolist() == [1, 2]
    assert conv.op.body.num_gates == 1
    assert reshape.op == Reshape((4,))
    assert dense.op.body.taps[:, 1].tolist() == [0, 1, 2, 3]
    assert after.inputs == graph.inputs


def test_dce_keeps_one_input_of_a_constant_node():
    b = GraphBuilder("constant")
    x = b.input("x", "bit", (4,))
    y = b.dense(x, [0, 1], [2, 3], [6, 6])
    body = Body.build([[0, 0]], np.zeros((0, 1)), [], [1, 0])
    after = optimized(b.build(b.group_sum(b.logic([y, x], body), 2)), "dce")
    assert [n.op_type for n in after.nodes] == ["Logic", "GroupSum"]
    assert after.nodes[0].inputs == ("x",)


def test_dce_keeps_what_a_sum_counts():
    graph = build_net("dense-2x400")
    after = optimized(graph, "dce")
    assert after.values[after.nodes[-2].output].shape == (400,)
    assert isinstance(after.nodes[-1].op, GroupSum)
