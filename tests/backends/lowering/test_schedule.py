"""Scheduling of bodies that are evaluated once: chains, tables, cones, and planes used again."""

from __future__ import annotations

import numpy as np
import pytest

import lgir
from lgir.backends.llvm.options import LOWERING_OPTIONS
from lgir.backends.lowering.fused_levels import THREE_ONES
from lgir.backends.lowering.options import LoweringOptions
from lgir.backends.lowering.plan import make_plan
from lgir.backends.lowering.steps import (
    DUMP_PLANE,
    ChainStep,
    ConeStep,
    FusedStep,
    GateStep,
    PackStep,
    SumStep,
)
from lgir.backends.lowering.table_keys import table_keys
from lgir.ir.body import Body
from lgir.zoo import TWO_INPUT_OPS, dense_net, logictreenet
from random_graphs import random_graph


def test_canonical_keys_are_shared_by_reordered_gates() -> None:
    # a & ~b and ~a & b are one table once operands are reordered; so are all orders of (a & b) | c
    two = Body.build([[0, 0], [0, 1]], [[2, 3], [2, 3]], [0b0100, 0b0010], [4, 5])
    assert len(set(table_keys(two).key.tolist())) == 1
    taps = [[0, 0], [0, 1], [0, 2]]
    three = Body.build(taps, [[2, 3, 4], [4, 2, 3], [3, 4, 2]], [0xEA, 0xF8, 0xEC], [5, 6, 7])
    assert len(set(table_keys(three).key.tolist())) == 1


def test_dense_layers_are_fused_and_reuse_planes() -> None:
    graph, _ = lgir.optimize(dense_net(6, 2000), verify=None)
    plan = make_plan(graph, LOWERING_OPTIONS)
    fused = [s for s in plan.steps if isinstance(s, FusedStep)]
    assert all(isinstance(s, PackStep | FusedStep | SumStep) for s in plan.steps)
    assert plan.num_planes < 784 + 2000 * 1.3  # not two layers
    starts = sum(int((s.rows[:, 2] == DUMP_PLANE).sum()) for s in fused)
    assert starts < 0.05 * 6_000


def test_a_layer_without_another_to_fuse_becomes_a_chain() -> None:
    graph, _ = lgir.optimize(dense_net(3, 2000), verify=None)
    steps = [
        s for s in make_plan(graph, LOWERING_OPTIONS).steps if not isinstance(s, PackStep | SumStep)
    ]
    assert sorted(type(s).__name__ for s in steps) == ["ChainStep", "FusedStep"]
    (chain,) = (s for s in steps if isinstance(s, ChainStep))
    assert len(chain.rows) - int((chain.rows[:, 1] == DUMP_PLANE).sum()) == 2000


def test_chains_are_off_unless_asked_for() -> None:
    plan = make_plan(dense_net(2, 400), LoweringOptions())
    assert not any(isinstance(s, ChainStep | FusedStep) for s in plan.steps)


def test_fan_out_one_is_not_chained() -> None:
    b = lgir.GraphBuilder("tree")
    x = b.input("x", "bit", (64,))
    wires = np.random.default_rng(0).permutation(64).reshape(32, 2)
    y = b.dense(x, wires[:, 0], wires[:, 1], np.full(32, 6))
    plan = make_plan(b.build(y), LOWERING_OPTIONS)
    assert any(isinstance(s, GateStep) and s.table == 0b0110 for s in plan.steps)
    assert not any(isinstance(s, ChainStep) for s in plan.steps)


@pytest.mark.parametrize("seed", range(30))
def test_no_step_reads_a_plane_before_it_is_written(seed: int) -> None:
    plan = make_plan(
        dense_net(3, 400, seed=seed, inputs=100),
        LOWERING_OPTIONS if seed % 2 else LoweringOptions(),
    )
    written = {0, 1}
    for step in plan.steps:
        if isinstance(step, GateStep):
            assert set(step.rows[:, :-1].ravel().tolist()) <= written
            written |= set(step.rows[:, -1].tolist())
        elif isinstance(step, ChainStep):
            for current, out in step.rows.tolist():
                assert current in written
                written.add(out)
        elif isinstance(step, FusedStep):
            for *operands, out in step.rows.tolist():
                assert set(operands) <= written
                written.add(out)
        elif isinstance(step, SumStep):
            assert set(step.planes.ravel().tolist()) <= written
        else:
            written |= set(step.planes.ravel().tolist())


@pytest.mark.parametrize("seed", range(200, 212))
def test_random_bodies_of_many_levels_run_in_few_planes(seed: int) -> None:
    graph = random_graph(seed, rank=0, dtype="bit", max_gates=120)
    x = np.random.default_rng(seed).random((200, *graph.inputs[0].shape)) < 0.5
    samples = [x] + [
        np.zeros((200, *v.shape), bool if v.dtype == "bit" else np.float32)
        for v in graph.inputs[1:]
    ]
    expected = lgir.compile(graph, "reference")(*samples)
    scores = lgir.compile(graph, "llvm")(*samples)
    several = isinstance(expected, tuple)
    for result, want in zip(
        scores if several else (scores,), expected if several else (expected,), strict=True
    ):
        np.testing.assert_array_equal(result, want)


def test_a_head_of_halving_layers_becomes_cones() -> None:
    graph, _ = lgir.optimize(logictreenet(8, seed=1), verify=None)
    plan = make_plan(graph, LOWERING_OPTIONS)
    heads = [s for s in plan.steps if isinstance(s, ConeStep) and s.space == (1, 1, 1)]
    assert sum(len(s.out) for s in heads) >= 320 * 8
    assert not any(isinstance(s, ChainStep) for s in plan.steps)


def test_pools_are_not_sought_where_taps_are_not_strided() -> None:
    b = lgir.GraphBuilder("pool")
    x = b.input("x", "bit", (3, 2, 2))
    graph = b.build(b.or_pool(x, (2, 2)))
    samples = np.random.default_rng(0).random((100, 3, 2, 2)) < 0.3
    result = lgir.compile(graph, "llvm")(samples)
    np.testing.assert_array_equal(result[:, :, 0, 0], samples.any(axis=(2, 3)))


def test_inner_layers_are_kept_without_constant_terms() -> None:
    graph, _ = lgir.optimize(dense_net(4, 2000, seed=5), verify=None)
    fused = [s for s in make_plan(graph, LOWERING_OPTIONS).steps if isinstance(s, FusedStep)]
    three_ones = [bool(THREE_ONES[s.tables[:, 1]].any()) for s in fused]
    assert three_ones == [False, True]


def test_chains_between_chains_have_no_constant_terms() -> None:
    """Layers that double are not fused: gates have four readers and would be evaluated twice."""
    rng = np.random.default_rng(6)
    b = lgir.GraphBuilder("doubling")
    x = b.input("x", "bit", (200,))
    for width in (400, 800, 1600):
        wires = [rng.permutation(np.arange(width) % x.size) for _ in range(2)]
        x = b.dense(x, *wires, rng.choice(TWO_INPUT_OPS, width))
    graph, _ = lgir.optimize(b.build(x), "merge", verify=None)
    chains = [s for s in make_plan(graph, LOWERING_OPTIONS).steps if isinstance(s, ChainStep)]
    assert [bool((s.tables & 1).any()) for s in chains] == [False, False, True]
