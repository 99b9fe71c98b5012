"""Every pass after every other: no order of two changes what a graph computes."""

from __future__ import annotations

import numpy as np
import pytest
from random_graphs import all_inputs, random_graph

import lgir
from lgir.passes.pipeline import Pipeline

PASSES = (
    "cse",
    "dce",
    "fold",
    "fuse-pool",
    "lut-map{k=3}",
    "lut-map{k=5}",
    "merge",
    "reassociate",
    "rewrite",
    "thermometer",
    "unroll",
)


def outputs(graph):
    found = lgir.compile(graph, "reference")(*all_inputs(graph))
    return found if isinstance(found, tuple) else (found,)


def check(seed: int) -> None:
    graph = random_graph(seed, max_input_bits=8, max_gates=25)
    expected = outputs(graph)
    for first in PASSES:
        once, _ = Pipeline.parse(first).run(graph, verify=None)
        for second in PASSES:
            twice, _ = Pipeline.parse(second).run(once, verify=None)
            if twice is once and first != second:
                continue
            for left, right in zip(expected, outputs(twice), strict=True):
                assert np.array_equal(left, right), (seed, first, second)


@pytest.mark.parametrize("seed", range(12))
def test_every_order_of_two_passes(seed):
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 1000, 50))
def test_every_order_of_two_passes_on_a_thousand_graphs(start):
    for seed in range(start, start + 50):
        check(seed)
