"""Every pass after every other: no order of two changes what a graph computes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import lgir
from lgir.passes.pipeline import Pipeline
from random_graphs import all_inputs, random_graph

PASSES = (
    "cancel",
    "cse",
    "dce",
    "fold",
    "fuse-pool",
    "lut-map{k=3}",
    "lut-map{k=5}",
    "merge",
    "reassociate",
    "rewrite",
    "sweep",
    "thermometer",
    "unroll",
)


def outputs(graph):
    results = lgir.compile(graph, "reference")(*all_inputs(graph))
    return results if isinstance(results, tuple) else (results,)


ORDERS = list(product(PASSES, repeat=2))


def check(seed: int, orders) -> None:
    graph = random_graph(seed, max_input_bits=8, max_gates=25)
    expected = outputs(graph)
    for order in orders:
        after, _ = Pipeline.parse(",".join(order)).run(graph, verify=None)
        for left, right in zip(expected, outputs(after), strict=True):
            assert np.array_equal(left, right), (seed, order)


@pytest.mark.parametrize("seed", range(6))
def test_every_order_of_two_passes(seed):
    check(seed, ORDERS)


@pytest.mark.slow
def test_every_order_of_two_passes_on_a_thousand_graphs():
    for seed in range(1000):
        # Five orders a graph, so that each order meets some forty graphs.
        check(seed, [ORDERS[(5 * seed + i) % len(ORDERS)] for i in range(5)])
