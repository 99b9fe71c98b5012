"""Single-sample plans, interpreted in numpy without LLVM, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from single_sample_interpreter import interpret

import lgir
from lgir.backends.llvm.single_sample.plan import (
    MAX_LOOKUP_SPAN,
    SingleSampleOptions,
    plan_single_sample,
    split_runs,
)
from lgir.backends.llvm.single_sample.steps import (
    CountRanges,
    DenseTrees,
    GatherBytes,
    LoadSample,
    MapTrees,
    MoveMaps,
)
from lgir.errors import BackendError
from lgir.ir.graph import Graph
from lgir.zoo import dense_net, logictreenet
from random_graphs import random_graph, random_inputs


def assert_same(graph: Graph, samples: list[np.ndarray], options: SingleSampleOptions) -> None:
    """The interpreted plan has the reference's outputs for each sample."""
    plan = plan_single_sample(graph, options)
    outputs = lgir.compile(graph, "reference")(*samples)
    expected = outputs if isinstance(outputs, tuple) else (outputs,)
    for i in range(len(samples[0])):
        results = interpret(plan, [sample[i] for sample in samples])
        for result, output in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, output[i])


@pytest.mark.parametrize("seed", range(40))
def test_plans_of_random_graphs_compute_the_reference(seed: int) -> None:
    graph = random_graph(seed)
    options = SingleSampleOptions((0, 8, 16)[seed % 3])
    assert_same(graph, random_inputs(graph, 2, seed), options)


@pytest.mark.parametrize("optimize", [False, True])
def test_a_plan_of_a_convolutional_net_computes_the_reference(optimize: bool) -> None:
    graph = logictreenet(8, seed=2)
    if optimize:
        graph, _ = lgir.optimize(graph, verify=None)
    assert_same(graph, random_inputs(graph, 1), SingleSampleOptions(8))


def test_copies_under_a_fused_pool_are_one_tree() -> None:
    """The pool is an OR of one map, read at four shifts, while it is moved."""
    b = lgir.GraphBuilder("pooled")
    x = b.input("x", "bit", (3, 8, 8))
    body = lgir.Body.build([(0, 0, 0, 0), (0, 1, 0, 1)], [(2, 3)], [0b1000], [4], rank=2)
    pooled = b.or_pool(b.logic([x], body, (8, 8), (1, 1)), (2, 2), (2, 2), (0, 0))
    graph, _ = lgir.optimize(b.build(pooled), passes="fuse-pool", verify=None)
    plan = plan_single_sample(graph)
    (trees,) = (step for step in plan.steps if isinstance(step, MapTrees))
    (move,) = (step for step in plan.steps if isinstance(step, MoveMaps))
    assert len(trees.out) == 1
    assert move.sources.shape == (1, 4)
    assert move.stride == 2
    assert move.space == (1, 4, 4)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_copies_may_lie_before_and_behind_the_one_that_is_evaluated(order: tuple[int, int]) -> None:
    b = lgir.GraphBuilder("pooled")
    x = b.input("x", "bit", (2, 6, 9))
    taps = [(0, channel, row, row) for row in order for channel in (0, 1)]
    body = lgir.Body.build(taps, [(2, 3), (4, 5), (6, 7)], [0b1000, 0b1000, 0b1110], [8], rank=2)
    graph = b.build(b.logic([x], body, (6, 9), (1, 1)))
    (move,) = (step for step in plan_single_sample(graph).steps if isinstance(step, MoveMaps))
    assert move.sources.shape == (1, 2)
    assert_same(graph, random_inputs(graph, 3), SingleSampleOptions())


def test_an_input_is_loaded_once_however_many_values_read_it() -> None:
    b = lgir.GraphBuilder("levels")
    x = b.input("x", "f32", (9,))
    graph = b.build(b.threshold(x, [0.0]), b.threshold(x, [0.5, 1.0]))
    plan = plan_single_sample(graph)
    assert sum(isinstance(step, LoadSample) for step in plan.steps) == 1


def test_neighboring_bits_are_counted_where_they_are() -> None:
    b = lgir.GraphBuilder("sums")
    x = b.input("x", "bit", (640,))
    plan = plan_single_sample(b.build(b.group_sum(x, 10, tau=1.0)))
    (count,) = (step for step in plan.steps if isinstance(step, CountRanges))
    assert not any(isinstance(step, GatherBytes) for step in plan.steps)
    assert count.ranges[..., 1].tolist() == [[64]] * 10


def test_runs_and_other_offsets_hold_every_offset_once() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 31, 32, 200):
        repeated = rng.integers(100, 100 + size, 20)
        scattered = rng.choice(np.arange(400, 500, 2), 50)
        offsets = np.concatenate([np.arange(100, 100 + size), repeated, scattered])
        runs, others = split_runs(offsets)
        counted = np.concatenate([*(np.arange(s, s + n) for s, n in runs), others])
        assert sorted(counted.tolist()) == sorted(offsets.tolist())
        assert all(n >= 32 for _, n in runs)
        assert bool(runs) == (size >= 32)


@pytest.mark.parametrize("lane_bits", [0, 8, 16])
def test_gathers_use_permutations_only_of_targets_that_have_them(lane_bits: int) -> None:
    plan = plan_single_sample(dense_net(2, 2000, seed=1), SingleSampleOptions(lane_bits))
    gathers = [step for step in plan.steps if isinstance(step, GatherBytes)]
    assert any(step.lookup is not None for step in gathers) == bool(lane_bits)


def test_gathers_from_far_apart_copy_bytes_one_by_one() -> None:
    graph = dense_net(2, 40_000, seed=1)
    plan = plan_single_sample(graph, SingleSampleOptions(8))
    spans = [
        (int(np.ptp(step.sources)), step.lookup)
        for step in plan.steps
        if isinstance(step, GatherBytes)
    ]
    assert max(span for span, _ in spans) >= MAX_LOOKUP_SPAN
    assert all(lookup is None for span, lookup in spans if span >= MAX_LOOKUP_SPAN)


def test_scratch_of_one_layer_serves_the_next() -> None:
    """The leaves of all layers are gathered to the same bytes."""
    plan = plan_single_sample(dense_net(6, 1000, seed=1))
    leaves = [step.leaves for step in plan.steps if isinstance(step, DenseTrees)]
    assert len(leaves) > len(set(leaves))


def test_maps_of_one_convolution_are_overwritten_by_the_next() -> None:
    """Only what is moved to where it is read stays."""
    b = lgir.GraphBuilder("convolutions")
    y = b.input("x", "bit", (4, 8, 8))
    taps = [(0, channel, 0, 0) for channel in range(4)]
    for _ in range(2):
        gates = [(2, 3), (3, 4), (4, 5), (5, 2)]
        body = lgir.Body.build(taps, gates, [0b1000] * 4, [6, 7, 8, 9], rank=2)
        y = b.logic([y], body, (8, 8), (1, 1))
    plan = plan_single_sample(b.build(y))
    first, second = (step for step in plan.steps if isinstance(step, MapTrees))
    assert first.out.tolist() == second.out.tolist()


def test_a_workspace_beyond_32_bit_offsets_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lgir.backends.llvm.single_sample.plan._MAX_WORKSPACE", 1000)
    with pytest.raises(BackendError, match=r"one sample takes [\d,]+ bytes; at most 4 GiB"):
        plan_single_sample(dense_net(2, 400, seed=1))
