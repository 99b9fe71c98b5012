"""The simplifying passes on random graphs and networks: equal outputs, fewer gates."""

from __future__ import annotations

import pytest

import lgir
from bodies import optimized, same_outputs
from lgir.passes.pipeline import Pipeline
from lgir.zoo import build_net
from random_graphs import all_inputs, random_graph, random_inputs

PASSES = ["fold", "cse", "dce", "merge", "fuse-pool", "default"]


@pytest.mark.parametrize("start", range(0, 300, 50))
def test_outputs_stay_equal_and_a_second_run_changes_nothing(start):
    for seed in range(start, start + 50):
        graph = random_graph(seed)
        for name in PASSES:
            pipeline = Pipeline.parse(name)
            after, _ = pipeline.run(graph, verify=None)
            assert same_outputs(graph, after, random_inputs(graph, 130)), (seed, name)
            again, _ = pipeline.run(after, verify=None)
            assert again is after, (seed, name)


def test_outputs_stay_equal_on_every_input():
    for seed in range(60):
        graph = random_graph(seed, max_input_bits=10)
        after = optimized(graph, "default")
        assert same_outputs(graph, after, all_inputs(graph)), seed


def test_passes_never_add_gates():
    for seed in range(300, 340):
        graph = random_graph(seed)
        for name in ("fold", "cse", "dce", "merge", "fix(merge,fold,cse,dce)"):
            _, report = Pipeline.parse(name).run(graph, verify=None)
            assert report.after.unrolled <= report.before.unrolled, (seed, name)


@pytest.mark.parametrize(
    ("net", "gates", "unrolled"),
    [
        ("dense-6x8000", 47_977, 47_977),
        ("dense-6x8000-op16", 15_253, 15_253),
        ("logictreenet-8", 30_801, 236_367),
        ("logictreenet-8-op16", 4_099, 56_557),
    ],
)
def test_golden_gate_counts_of_the_default_pipeline(net, gates, unrolled):
    _, report = lgir.optimize(build_net(net))
    assert (report.after.gates, report.after.unrolled) == (gates, unrolled)
