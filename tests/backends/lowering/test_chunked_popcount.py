"""Results of trails that are counted by chunks, while they are in the cache."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lgir
from c_library import Library, assert_matches, needs_cc
from lgir.backends.llvm.options import LOWERING_OPTIONS
from lgir.backends.lowering import chunked_popcount, level_schedule
from lgir.backends.lowering.options import LoweringOptions
from lgir.backends.lowering.plan import make_plan
from lgir.backends.lowering.steps import ChainStep, CountStep, FusedStep, Plan, SumStep
from lgir.ir.types import FIRST_TAP
from lgir.zoo import dense_net
from random_graphs import layered_graph
from targets import skip_unless_runnable

TARGETS = ("native", "avx512", "avx2", "generic")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def use(size: int) -> None:
        monkeypatch.setattr(chunked_popcount, "CHUNK", size)
        monkeypatch.setattr(level_schedule, "MIN_CHUNKS", 1)

    return use


def scored_graph(seed: int) -> lgir.Graph:
    """Layers as in `layered_graph`, summed: outputs are results of the last layer in any order and
    of others, repeated ones, taps and constants. Sometimes there are two such networks, or the bits
    are summed twice or are an output, and then not only counted.
    """
    rng = np.random.default_rng(seed)
    b = lgir.GraphBuilder(f"scored-{seed}")
    outputs = []
    for part in range(int(rng.integers(1, 3))):
        body = layered_graph(2 * seed + part).nodes[0].op.body
        groups = int(rng.choice([1, 2, 3, 7, 10, 13]))
        nets = rng.permutation(body.outputs)[: len(body.outputs) // groups * groups]
        other = rng.random(len(nets)) < rng.choice([0.0, 0.1, 0.4])
        nets[other] = rng.choice([0, 1, *range(FIRST_TAP, body.num_nets)], int(other.sum()))
        x = b.input(f"x{part}", "bit", (body.num_taps,))
        y = b.logic([x], replace(body, outputs=nets), ())
        outputs.append(b.group_sum(y, groups, float(rng.choice([1.0, 3.0])), 0.5))
        if rng.random() < 0.15:
            outputs.append(b.group_sum(y, 1, 1.0))
        if rng.random() < 0.1:
            outputs.append(y)
    return b.build(*outputs)


def samples(graph: lgir.Graph, n: int = 700) -> list[np.ndarray]:
    rng = np.random.default_rng(n)
    return [rng.random((n, *x.shape)) < 0.5 for x in graph.inputs]


def is_counted(plan: Plan) -> bool:
    return any(isinstance(step, CountStep) for step in plan.steps)


@pytest.mark.parametrize("size", [1, 7, 32, 100])
@pytest.mark.parametrize("seed", range(25))
def test_scores_labels_and_counts_are_the_reference_s(
    seed: int, size: int, small_chunks: Callable[[int], None]
) -> None:
    small_chunks(size)
    graph = scored_graph(seed)
    target = TARGETS[(seed + size) % len(TARGETS)]
    skip_unless_runnable(target)
    exe, reference = lgir.compile(graph, target=target), lgir.compile(graph, "reference")
    x = samples(graph)
    one = len(graph.outputs) == 1
    for result, want in zip(*([y] if one else y for y in (exe(*x), reference(*x))), strict=True):
        np.testing.assert_array_equal(result, want)
    np.testing.assert_array_equal(exe.predict(*x), reference.predict(*x))
    np.testing.assert_array_equal(exe.counts(*x), reference.counts(*x))


def test_most_of_those_graphs_are_counted_in_chunks_of_fused_levels_and_of_chains(
    small_chunks: Callable[[int], None],
) -> None:
    small_chunks(7)
    plans = [make_plan(scored_graph(seed), LOWERING_OPTIONS) for seed in range(25)]
    assert sum(map(is_counted, plans)) > 15
    before = {
        type(a)
        for plan in plans
        for a, b in itertools.pairwise(plan.steps)
        if isinstance(b, CountStep)
    }
    assert before >= {ChainStep, FusedStep}


@pytest.mark.parametrize("layers", [2, 3])
def test_every_chunk_but_the_last_is_full_and_is_all_that_results_take(
    layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_popcount, "CHUNK", 128)
    graph, _ = lgir.optimize(dense_net(layers, 1000, inputs=100), verify=None)
    plan = make_plan(graph, LOWERING_OPTIONS)
    counts = [step for step in plan.steps if isinstance(step, CountStep)]
    sizes = [int((step.planes > 2).sum()) for step in counts]
    assert sizes == [128] * 7 + [1000 - 7 * 128]
    assert len(np.unique(np.concatenate([step.planes.ravel() for step in counts]))) <= 129
    (total,) = (step for step in plan.steps if isinstance(step, SumStep))
    assert total.planes.size == 0
    assert total.initial is not None


def test_few_results_are_not_counted_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = lgir.optimize(dense_net(3, 1000, inputs=100), verify=None)
    monkeypatch.setattr(chunked_popcount, "CHUNK", 1000 // level_schedule.MIN_CHUNKS + 1)
    assert not is_counted(make_plan(graph, LOWERING_OPTIONS))
    monkeypatch.setattr(chunked_popcount, "CHUNK", 1000 // level_schedule.MIN_CHUNKS)
    assert is_counted(make_plan(graph, LOWERING_OPTIONS))


def test_nothing_is_counted_for_targets_without_chains(
    small_chunks: Callable[[int], None],
) -> None:
    small_chunks(7)
    assert not is_counted(make_plan(dense_net(3, 200), LoweringOptions()))


@needs_cc
@pytest.mark.parametrize("seed", range(4))
def test_libraries_count_in_chunks(
    seed: int, small_chunks: Callable[[int], None], tmp_path: Path
) -> None:
    small_chunks(32)
    graph = scored_graph(seed)
    path = tmp_path / "counted.so"
    lgir.export(graph, path)
    assert_matches(Library(graph, path), samples(graph, 513))
