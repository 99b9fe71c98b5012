"""thermometer: thresholds of one number imply each other."""

from __future__ import annotations

import numpy as np
import pytest

import lgir
from bodies import same_outputs
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.ir.truth_tables import AND, OR, XOR, full_mask, variable_table
from lgir.ir.types import FIRST_TAP
from lgir.passes.thermometer import fill_dont_cares
from random_graphs import random_graph, random_inputs


def dense(levels, a, b, ops) -> Graph:
    builder = GraphBuilder("levels")
    bits = builder.threshold(builder.input("x", "u8", (2,)), levels)
    return builder.build(builder.dense(bits, a, b, ops))


def optimized(graph: Graph, passes: str = "thermometer") -> Body:
    after, _ = lgir.optimize(graph, passes)
    assert lgir.verify(graph, after, method="exhaustive").equivalent is True
    return next(op.body for _, op in after.of_type(Logic))


@pytest.mark.parametrize(
    ("op", "literal"),
    [
        (1, 3),  # x > 10 and x > 20 is x > 20
        (7, 2),  # or: x > 10
        (4, 0),  # not x > 10 and x > 20 cannot be
        (11, 1),  # x > 10 or not x > 20 always holds
    ],
)
def test_two_thresholds_of_a_number_decide_a_gate(op, literal):
    body = optimized(dense([10.0, 20.0], [0], [1], [op]))
    assert body.num_gates == 0
    assert body.outputs.tolist() == [literal]


def test_the_order_of_operands_does_not_matter():
    body = optimized(dense([10.0, 20.0], [1], [0], [1]))
    assert body.outputs.tolist() == [3]


def test_thresholds_of_different_numbers_are_independent():
    graph = dense([10.0, 20.0], [0, 1], [2, 3], [1, 7])
    assert lgir.optimize(graph, "thermometer")[0] is graph


def test_a_band_between_two_thresholds_stays_a_gate():
    graph = dense([10.0, 20.0], [0], [1], [6])  # x > 10 xor x > 20
    assert lgir.optimize(graph, "thermometer")[0] is graph


def test_infinite_and_the_largest_levels_are_in_order():
    infinite = dense([-np.inf, -np.inf, 10.0, 20.0, np.inf, np.inf], [2], [3], [1])
    assert optimized(infinite).outputs.tolist() == [FIRST_TAP + 3]
    largest = np.finfo(np.float32).max
    assert optimized(dense([-largest, largest], [0], [1], [1])).num_gates == 0


def test_descending_levels_are_left_alone():
    graph = dense([20.0, 10.0], [0], [1], [1])
    assert lgir.optimize(graph, "thermometer")[0] is graph


def test_images_use_it_at_one_offset_and_at_the_edge():
    b = GraphBuilder("image")
    bits = b.threshold(b.input("x", "u8", (1, 1, 3)), [10.0, 20.0])
    taps = [[0, 0, 0, -1], [0, 1, 0, -1], [0, 1, 0, 0]]
    body = Body.build(taps, [[2, 3], [2, 4], [5, 6]], [OR, AND, XOR], [7, 5])
    graph = b.build(b.logic([bits], body, (1, 3)))
    after = optimized(graph)
    assert after.num_gates == 2  # the pair at two offsets is kept
    assert after.outputs.tolist()[1] == 2


def test_flattened_thresholds_keep_their_order():
    b = GraphBuilder("flat")
    bits = b.flatten(b.threshold(b.input("x", "u8", (1, 2)), [10.0, 20.0]))
    graph = b.build(b.dense(bits, [0, 0], [2, 3], [1, 1]))  # [low a, low b, high a, high b]
    body = optimized(graph)
    assert body.num_gates == 1
    assert body.outputs.tolist()[0] == 4


def test_wide_gates_lose_what_implications_make_idle():
    b = GraphBuilder("wide")
    bits = b.threshold(b.input("x", "u8", (2,)), [10.0, 20.0])
    taps = [[0, c] for c in range(4)]
    table = variable_table(3, 0) & variable_table(3, 1) & variable_table(3, 2)
    graph = b.build(b.logic([bits], Body.build(taps, [[2, 3, 4]], [table], [6])))
    body = optimized(graph)
    assert body.fanin.tolist() == [[3, 4]]
    assert body.table.tolist() == [AND]


def test_filled_tables_agree_where_it_matters():
    rng = np.random.default_rng(0)
    for k in (2, 3, 4):
        table, care = rng.integers(full_mask(k) + 1, size=(2, 200)).astype(np.uint16)
        filled = fill_dont_cares(table, care, k)
        assert ((filled ^ table) & care == 0).all()


def test_outputs_stay_equal_and_a_second_run_changes_nothing():
    for seed in range(120):
        graph = random_graph(seed, dtype=("u8", "f32")[seed % 2])
        after, _ = lgir.optimize(graph, "thermometer", verify=None)
        assert same_outputs(graph, after, random_inputs(graph, 130)), seed
        assert lgir.optimize(after, "thermometer", verify=None)[0] is after
