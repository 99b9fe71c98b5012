"""Legalization and options: what a lowering begins with."""

from __future__ import annotations

import numpy as np
import pytest

import lgir
from lgir.backends.lowering.legalize import is_legal, legalize
from lgir.backends.lowering.options import LoweringOptions
from lgir.backends.lowering.plan import make_plan
from lgir.backends.lowering.steps import ChainStep, CountStep, FusedStep
from lgir.errors import BackendError
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.zoo import dense_net
from random_graphs import random_graph, random_inputs

TAPS = [[0, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("fanin", "table", "legal"),
    [
        ([2, 3], 0b1000, True),
        ([2, 1], 0b1000, False),  # a constant operand
        ([2, 3], 0b1100, False),  # an ignored operand
    ],
)
def test_bodies_with_constants_or_ignored_inputs_are_illegal(
    fanin: list[int], table: int, legal: bool
) -> None:
    assert is_legal(Body.build(TAPS, [fanin], [table], [4])) is legal


def test_a_body_without_gates_is_legal() -> None:
    assert is_legal(Body.build(TAPS, np.zeros((0, 2), int), [], [2]))


def test_a_legal_graph_is_returned_itself() -> None:
    graph, _ = lgir.optimize(dense_net(2, 40), verify=None)
    assert legalize(graph, dense_bodies=True) is graph


def illegal_dense_graph() -> Graph:
    b = GraphBuilder("illegal")
    x = b.input("x", "bit", (2,))
    return b.build(b.logic([x], Body.build([[0, 0], [0, 1]], [[2, 3]], [0b1100], [4])))


def test_dense_bodies_are_folded_only_if_asked_for() -> None:
    graph = illegal_dense_graph()
    assert legalize(graph) is graph
    legal = legalize(graph, dense_bodies=True)
    assert all(is_legal(op.body) for _, op in legal.of_type(Logic))


@pytest.mark.parametrize("seed", range(30))
def test_legal_graphs_compute_the_same(seed: int) -> None:
    graph = random_graph(seed, rank=2)
    legal = legalize(graph, dense_bodies=True)
    assert all(is_legal(op.body) for _, op in legal.of_type(Logic))
    samples = random_inputs(graph, 70, seed)
    before, after = (lgir.compile(g, "reference")(*samples) for g in (graph, legal))
    pairs = zip(before, after, strict=True) if isinstance(before, tuple) else [(before, after)]
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)


def test_options_name_what_they_require() -> None:
    with pytest.raises(BackendError, match="fused_levels needs trails"):
        LoweringOptions(fused_levels=True)
    with pytest.raises(BackendError, match="chunked_popcount needs trails or forests"):
        LoweringOptions(chunked_popcount=True)
    assert LoweringOptions(forests=True, chunked_popcount=True).trails is False


def test_each_option_allows_its_own_steps() -> None:
    graph, _ = lgir.optimize(dense_net(3, 20_000, inputs=500), verify=None)

    def kinds(options: LoweringOptions) -> set[type]:
        return {type(step) for step in make_plan(graph, options).steps}

    special = {ChainStep, FusedStep, CountStep}
    assert not kinds(LoweringOptions()) & special
    assert kinds(LoweringOptions(trails=True)) & special == {ChainStep}
    assert FusedStep in kinds(LoweringOptions(trails=True, fused_levels=True))
    counted = LoweringOptions(trails=True, chunked_popcount=True)
    assert kinds(counted) & special == {ChainStep, CountStep}
