"""Verdicts on pairs of graphs: equal, different with a sample that shows it, or not comparable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import lgir
from lgir.equivalence.sampling import default_samples, draw_samples
from lgir.equivalence.simulation import Simulation
from lgir.equivalence.verification import verify_graphs
from lgir.errors import GraphError, UnknownNameError
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.zoo import build_net
from random_graphs import random_graph


def two_gates(op: int, dtype: str = "bit", levels: float = 5.0) -> Graph:
    b = GraphBuilder("two")
    x = b.input("x", dtype, (3,))
    bits = x if dtype == "bit" else b.threshold(x, [levels])
    y = b.dense(bits, [0, 1], [1, 2], [6, op])
    return b.build(b.group_sum(y, 2, name="score"), y)


def test_equal_graphs_are_equal_on_all_samples():
    for seed in range(10):
        graph = random_graph(seed)
        verdict = lgir.verify(graph, graph)
        assert verdict.equivalent is True
        assert str(verdict) == f"equal on {verdict.samples:,} simulated samples (not a proof)"


def test_a_counterexample_is_a_sample_that_shows_the_difference():
    a, b = two_gates(1), two_gates(7)
    verdict = lgir.verify(a, b)
    assert verdict.equivalent is False
    example = verdict.counterexample
    assert example.output == "score"
    (x,) = example.inputs
    assert x.shape == (3,)
    assert x.dtype == bool
    scores = [lgir.compile(g, "reference")(x[None])[0][0] for g in (a, b)]
    assert scores[0][example.index] == example.left
    assert scores[1][example.index] == example.right
    assert example.left != example.right
    assert str(verdict).startswith("different: %score[1] is ")
    assert "on the sample [" in str(verdict)


def test_a_threshold_that_is_off_by_one_is_found():
    for dtype, off in [("u8", 6.0), ("f32", float(np.nextafter(np.float32(5), np.float32(6))))]:
        verdict = lgir.verify(two_gates(1, dtype), two_gates(1, dtype, off))
        assert verdict.equivalent is False, dtype


def test_padding_is_told_apart_from_zeros():
    def conv(offset: int) -> Graph:
        b = GraphBuilder("edge")
        x = b.input("x", "bit", (1, 8, 8))
        body = Body.build([[0, 0, 0, 0], [0, 0, offset, 0]], [[2, 3]], [0b1110], [4])
        return b.build(b.logic([x], body, (8, 8)))

    assert lgir.verify(conv(1), conv(-1)).equivalent is False


def test_raw_bits_are_compared_and_named():
    graph = two_gates(1)
    b = replace(graph, outputs=("logic1",))
    verdict = lgir.verify(b, replace(two_gates(7), outputs=("logic1",)))
    assert verdict.counterexample.output == "logic1"
    assert {verdict.counterexample.left, verdict.counterexample.right} == {False, True}


def test_scores_are_compared_bit_by_bit():
    def net(tau: float) -> Graph:
        b = GraphBuilder("scores")
        x = b.input("x", "bit", (4,))
        return b.build(b.group_sum(x, 2, tau))

    tau = float(np.nextafter(np.float32(10), np.float32(11)))
    assert lgir.verify(net(10.0), net(tau)).equivalent is False
    # 0 / -1 is -0.0, which equals 0.0 and is not the same bits
    assert lgir.verify(net(1.0), net(-1.0), samples=1).equivalent is False


def test_graphs_with_other_signatures_are_not_compared():
    a = two_gates(1)
    with pytest.raises(GraphError, match="differ in inputs: %x : bit"):
        lgir.verify(a, two_gates(1, "u8"))
    with pytest.raises(GraphError, match="differ in outputs"):
        lgir.verify(a, replace(a, outputs=("score",)))


def test_unknown_method():
    with pytest.raises(UnknownNameError, match="unknown verification method 'smi'"):
        verify_graphs(two_gates(1), two_gates(1), method="smi")
    with pytest.raises(GraphError, match="samples=0"):
        verify_graphs(two_gates(1), two_gates(1), samples=0)


def test_work_is_capped_by_size():
    assert default_samples(two_gates(1)) == 1024
    big = default_samples(build_net("logictreenet-64"))
    assert 64 <= big < 1024
    assert big % 64 == 0


def test_samples_are_seeded_and_of_the_inputs_types():
    for dtype, expected in [("bit", bool), ("u8", np.uint8), ("f32", np.float32)]:
        graph = two_gates(1, dtype)
        (a,), (b,), (c,) = (draw_samples(graph, 65, seed) for seed in (1, 1, 2))
        assert a.dtype == expected
        assert a.shape == (65, 3)
        assert np.array_equal(a, b)
        assert not np.array_equal(a, c)


def test_a_simulation_is_reused():
    simulation = Simulation(two_gates(1), samples=64)
    assert simulation.compare(two_gates(1)).equivalent is True
    assert simulation.compare(two_gates(7)).equivalent is False


def test_one_flipped_gate_in_a_large_net_is_found():
    graph = build_net("dense-3x400")
    (*_, (node, op)) = graph.of_type(Logic)
    table = op.body.table.copy()
    table[17] ^= 0b1000
    body = Body.build(op.body.taps, op.body.fanin, table, op.body.outputs)
    other = graph.with_nodes(
        replace(n, op=replace(op, body=body)) if n is node else n for n in graph.nodes
    )
    assert lgir.verify(graph, other).equivalent is False
