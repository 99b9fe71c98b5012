"""The contract of passes, held by every registered one: see `lgir.passes`."""

from __future__ import annotations

import pytest

import lgir
from lgir.equivalence.simulation import check_signature
from lgir.passes.pipeline import list_passes
from lgir.registry import PASSES
from lgir.zoo import build_net
from random_graphs import random_graph

NAMES = PASSES.names()
SEEDS = range(40)


def run(name: str, graph: lgir.Graph) -> lgir.Graph:
    if name in ("sweep", "fraig"):
        pytest.importorskip("pysat")
    return PASSES.get(name)(graph)


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_settles_and_then_returns_the_same_object(name):
    for seed in SEEDS:
        graph = random_graph(seed)
        for _ in range(4):
            before, graph = graph, run(name, graph)
        assert graph is before, seed


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_that_changes_nothing_returns_no_copy(name):
    for seed in SEEDS:
        graph = random_graph(seed)
        after = run(name, graph)
        assert after is graph or after != graph, seed


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_keeps_the_signature_and_leaves_its_input_alone(name):
    for seed in SEEDS:
        graph = random_graph(seed)
        text = lgir.dumps(graph, full=True)
        after = run(name, graph)
        check_signature(graph, after)
        assert (after.name, after.outputs, after.inputs) == (
            graph.name,
            graph.outputs,
            graph.inputs,
        ), seed
        assert lgir.dumps(graph, full=True) == text, seed


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_is_deterministic(name):
    graph = build_net("dense-2x400-op16")
    assert run(name, graph) == run(name, graph)


def test_every_pass_says_what_it_does_in_one_line():
    infos = {info.name: info for info in list_passes()}
    assert infos.keys() == set(NAMES)
    assert all(info.doc.endswith(".") and len(info.doc) < 120 for info in infos.values())
