"""cancel: fewer gates before a GroupSum, and the same scores bit for bit."""

from __future__ import annotations

import lgir
from bodies import same_outputs
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.ir.truth_tables import AND, NAND, XNOR, XOR
from random_graphs import random_graph, random_inputs


def classes(fanin, table, outputs, groups: int, width: int = 4) -> Graph:
    b = GraphBuilder("classes")
    x = b.input("x", "bit", (width,))
    body = Body.build([[0, c] for c in range(width)], fanin, table, outputs)
    return b.build(b.group_sum(b.logic([x], body), groups, 3.0, 0.5))


def after(graph: Graph) -> Body:
    new, _ = lgir.optimize(graph, "fix(cancel,fold,cse,dce)", verify="exhaustive")
    return [op.body for _, op in new.of_type(Logic)][-1]


def test_a_bit_and_its_complement_become_one_and_zero():
    body = after(classes([[2, 3], [2, 3]], [AND, NAND], [6, 7, 4, 5], 2))
    assert body.num_gates == 0
    assert sorted(body.outputs[:2].tolist()) == [0, 1]


def test_an_input_and_its_inverter_cancel_too():
    body = after(classes([[2, 2]], [NAND], [6, 2], 1))
    assert body.num_gates == 0


def test_complements_in_different_classes_stay():
    body = after(classes([[2, 3], [2, 3]], [AND, NAND], [6, 4, 7, 5], 2))
    assert body.num_gates == 2


def test_as_many_cancel_as_there_are_of_both():
    # three times x, twice not x
    body = after(classes([[2, 3], [2, 3]], [XOR, XNOR], [6, 7, 6, 7, 6], 1))
    assert body.num_gates == 1
    assert sorted(body.outputs.tolist())[:4] == [0, 0, 1, 1]


def test_bits_that_another_node_reads_are_left_alone():
    b = GraphBuilder("twice")
    x = b.input("x", "bit", (4,))
    y = b.logic([x], Body.build([[0, 0], [0, 1]], [[2, 3], [2, 3]], [AND, NAND], [4, 5]))
    graph, _ = lgir.optimize(b.build(b.group_sum(y, 1), y), "cse")
    assert lgir.optimize(graph, "cancel")[0] is graph


def test_channels_of_a_convolution_cancel_inside_one_class_only():
    b = GraphBuilder("conv")
    x = b.input("x", "bit", (1, 2, 2))
    body = Body.build([[0, 0, 0, 0], [0, 0, 0, 1]], [[2, 3], [2, 3]], [AND, NAND], [4, 5])
    y = b.flatten(b.logic([x], body, (2, 2)))
    whole = b.build(b.group_sum(y, 1))
    small, _ = lgir.optimize(whole, "cse,cancel,dce", verify="exhaustive")
    assert sum(op.body.num_gates for _, op in small.of_type(Logic)) == 0
    apart = b.build(b.group_sum(y, 2))
    split = b.build(b.group_sum(y, 8))
    for graph in (apart, split):
        shared, _ = lgir.optimize(graph, "cse")
        assert lgir.optimize(shared, "cancel")[0] is shared


def test_scores_stay_equal_on_random_graphs():
    for seed in range(150):
        graph = random_graph(seed)
        new, _ = lgir.optimize(graph, "fix(cancel,fold,cse,dce)", verify=None)
        assert same_outputs(graph, new, random_inputs(graph, 130)), seed
        assert lgir.optimize(new, "cancel", verify=None)[0] is new
