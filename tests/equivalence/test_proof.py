"""Proofs: every case tried, or SAT sweeping; and the unrolled netlists under both."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

import lgir
from lgir.equivalence.sampling import draw_samples
from lgir.errors import PassError
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.input_space import InputSpace
from lgir.ir.nodes import Logic
from lgir.ir.simulate import evaluate_body, unpack_planes
from lgir.ir.truth_tables import AND, OR, XOR
from lgir.ir.unrolling import unroll_graph
from lgir.registry import PASSES
from lgir.zoo import build_net
from random_graphs import random_graph

pysat = pytest.importorskip("pysat")


def with_table(graph: Graph, node, gate: int, flip: int) -> Graph:
    body = node.op.body
    table = body.table.copy()
    table[gate] ^= table.dtype.type(flip)
    new = replace(
        node, op=replace(node.op, body=Body.build(body.taps, body.fanin, table, body.outputs))
    )
    return graph.with_nodes(new if n is node else n for n in graph.nodes)


def lock(key: list[int], opens: bool) -> Graph:
    """One output that is True for a single key of many bits, or for none."""
    b = GraphBuilder("lock")
    x = b.input("x", "bit", (len(key),))
    fanin, table, last = [], [], 2 if key[0] else None
    first_gate = 2 + len(key)
    if last is None:
        fanin, table, last = [[2, 0]], [0b0011], first_gate
    for i, bit in enumerate(key[1:], start=1):
        fanin.append([last, 2 + i])
        table.append(AND if bit else 0b0100)
        last = first_gate + len(fanin) - 1
    taps = [[0, c] for c in range(len(key))]
    body = Body.build(taps, fanin, table, [last if opens else 0, last if opens else 0])
    return b.build(b.logic([x], body))


def test_sat_agrees_with_trying_every_case(blind):
    answers = set()
    for seed in range(120):
        rng = np.random.default_rng(seed)
        graph = random_graph(seed, max_input_bits=9)
        nodes = [n for n, op in graph.of_type(Logic) if op.body.num_gates]
        if not nodes:
            continue
        node = nodes[rng.integers(len(nodes))]
        flip = 1 << int(rng.integers(1 << node.op.body.k))
        other = with_table(graph, node, int(rng.integers(node.op.body.num_gates)), flip)
        tried = lgir.verify(graph, other, method="exhaustive")
        proved = lgir.verify(graph, other, method="sat", seed=seed)
        assert proved.equivalent is tried.equivalent, seed
        answers.add(proved.equivalent)
        if proved.equivalent is False:
            x = [a[None] for a in proved.counterexample.inputs]
            left, right = (lgir.compile(g, "reference")(*x) for g in (graph, other))
            left, right = (v if isinstance(v, tuple) else (v,) for v in (left, right))
            assert any(not np.array_equal(p, q) for p, q in zip(left, right, strict=True))
    assert answers == {True, False}


def test_every_random_graph_is_proved_equal_to_its_optimized_form():
    for seed in range(60):
        graph = random_graph(seed)
        after, _ = lgir.optimize(graph, verify=None)
        verdict = lgir.verify(graph, after, method="sat")
        assert verdict.equivalent is True, seed
    assert str(verdict) == "equivalent: proved by SAT"


def test_sat_finds_the_one_sample_that_simulation_cannot():
    key = np.random.default_rng(5).integers(2, size=60).tolist()
    a, b = lock(key, True), lock(key, False)
    assert lgir.verify(a, b).equivalent is True
    verdict = lgir.verify(a, b, method="sat")
    assert verdict.equivalent is False
    assert verdict.counterexample.inputs[0].astype(int).tolist() == key
    assert str(lgir.verify(a, b, method="exhaustive")).startswith("unknown: about 10**18 cases")


def test_thresholds_that_imply_each_other_are_known_to_the_proof():
    def net(op: int) -> Graph:
        b = GraphBuilder("thermometer")
        bits = b.threshold(b.input("x", "u8", (2,)), [10.0, 20.0])
        return b.build(b.dense(bits, [0, 2], [1, 3], [op, 6]))

    same_where_possible = net(1), net(5)  # x > 10 and x > 20 equals x > 20
    assert lgir.verify(*same_where_possible, method="sat").equivalent is True
    assert str(lgir.verify(*same_where_possible, method="exhaustive")) == (
        "equivalent: all 9 cases tried"
    )
    verdict = lgir.verify(net(1), net(3), method="sat")
    assert verdict.equivalent is False
    assert 10 < verdict.counterexample.inputs[0][0] <= 20


def test_sums_of_the_same_bits_in_another_order_are_equal():
    b = GraphBuilder("order")
    x = b.input("x", "bit", (4,))
    taps = [[0, c] for c in range(4)]
    gates = [[2, 3], [4, 5], [2, 5]], [AND, XOR, OR]
    one, two = (
        b.build(b.group_sum(b.logic([x], Body.build(taps, *gates, outputs)), 1, name=f"s{i}"))
        for i, outputs in enumerate([[6, 7, 8], [8, 6, 7]])
    )
    assert lgir.verify(one, replace(two, outputs=("s1",)), method="sat").equivalent is True


def test_sums_that_only_counting_shows_equal_are_unknown():
    def net(ops: list[int]) -> Graph:
        b = GraphBuilder("sum")
        y = b.dense(b.input("x", "bit", (2,)), [0, 0], [1, 1], ops)
        return b.build(b.group_sum(y, 1, name="score"))

    # (a and b) + (a or b) counts what a + b counts
    verdict = lgir.verify(net([1, 7]), net([3, 5]), method="sat")
    assert verdict.equivalent is None
    assert str(verdict) == "unknown: bits of output %score differ, sums may not"
    assert lgir.verify(net([1, 7]), net([3, 5]), method="exhaustive").equivalent is True


def test_a_large_net_is_proved_in_moments():
    graph = build_net("dense-6x8000-op16")
    after, _ = lgir.optimize(graph, verify=None)
    assert lgir.verify(graph, after, method="sat").equivalent is True


def test_a_time_limit_gives_an_honest_unknown():
    graph = build_net("dense-6x8000")
    after, _ = lgir.optimize(graph, verify=None)
    verdict = lgir.verify(graph, after, method="sat", seconds=0.0)
    assert verdict.equivalent is None
    assert str(verdict) == "unknown: the time limit of 0 s was reached"


def test_a_pass_that_simulation_trusts_is_caught_by_proof():
    key = np.random.default_rng(5).integers(2, size=60).tolist()
    PASSES.register("forget-the-key")(lambda graph: lock(key, False))
    _, report = lgir.optimize(lock(key, True), "forget-the-key")
    assert report.rows[0].verified == "sim 1024"
    with pytest.raises(PassError, match="pass 'forget-the-key' changed what the graph"):
        lgir.optimize(lock(key, True), "forget-the-key", verify="sat")


def test_pipelines_can_be_proved_pass_by_pass():
    for method in ("sat", "exhaustive"):
        _, report = lgir.optimize(random_graph(3, max_input_bits=8), verify=method)
        kinds = {row.verified.split()[0] for row in report.rows}
        assert kinds == {method, "unchanged"}


def test_without_a_solver_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pysat.solvers", None)
    graph = random_graph(1)
    with pytest.raises(lgir.LgirError, match=r'pip install "lgir\[sat\]"'):
        lgir.verify(graph, graph, method="sat")


def test_the_unrolled_netlist_computes_what_the_graph_does():
    for seed in range(100):
        graph = random_graph(seed)
        space = InputSpace([graph])
        netlist = unroll_graph(graph, space)
        samples = draw_samples(graph, 70, seed)
        planes = space.planes(samples)
        unpacked = space.samples(unpack_planes(planes, 70))
        assert np.array_equal(space.planes(unpacked), planes), seed
        nets = evaluate_body(netlist.body, planes)
        scores = lgir.compile(graph, "reference")(*samples)
        scores = scores if isinstance(scores, tuple) else (scores,)
        for out, expected in zip(netlist.outputs, scores, strict=True):
            bits = unpack_planes(nets[out.nets], 70)
            if out.op is not None:
                count = bits.reshape(70, out.op.groups, -1).sum(-1).astype(np.float32)
                bits = (count + np.float32(out.op.beta)) / np.float32(out.op.tau)
            assert np.array_equal(bits.reshape(expected.shape), expected), seed


def test_thresholds_that_no_byte_tells_apart_are_no_variables():
    b = lgir.GraphBuilder("constant")
    graph = b.build(b.threshold(b.input("x", "u8", (3,)), [-1.0, 255.0]))
    (samples,) = InputSpace([graph]).samples(np.zeros((2, 0), bool))
    assert samples.tolist() == [[0, 0, 0]] * 2
    assert lgir.verify(graph, graph, method="exhaustive").equivalent is True


def test_later_thresholds_of_an_element_imply_earlier_ones():
    graph = random_graph(4, dtype="f32", rank=2)
    space = InputSpace([graph])
    bits = unpack_planes(space.planes(draw_samples(graph, 200)), 200)
    element = space.elements()
    later = np.flatnonzero(element[1:] == element[:-1]) + 1
    assert len(later)
    assert (bits[:, later] <= bits[:, later - 1]).all()
