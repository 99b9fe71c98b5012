"""Splitting convolutions into channel groups that never meet."""

from __future__ import annotations

import numpy as np
import pytest

import lgir
from lgir.backends.lowering import channel_groups as groups
from lgir.backends.lowering.channel_groups import split_groups
from lgir.ir.builder import GraphBuilder, tree_body
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.ir.truth_tables import XOR
from lgir.zoo import logictreenet, random_tree_body
from random_graphs import random_graph, random_inputs


def grouped_net(groups_of_channels: int, seed: int = 0) -> Graph:
    rng = np.random.default_rng(seed)
    b = GraphBuilder("grouped")
    x = b.threshold(b.input("image", "u8", (1, 8, 8)), [50, 100, 200])
    x = b.logic([x], random_tree_body(3, 8, rng=rng), (8, 8))
    x = b.or_pool(x, (2, 2))
    y = b.logic([x], random_tree_body(8, 16, groups=groups_of_channels, rng=rng), (4, 4))
    flat = b.flatten(y)
    z = b.dense(flat, *rng.integers(flat.size, size=(2, 40)), rng.integers(1, 15, size=40))
    return b.build(b.group_sum(z, 10))


def same(a: Graph, b: Graph, samples: list[np.ndarray]) -> bool:
    one, other = (lgir.compile(g, "reference")(*samples) for g in (a, b))
    pairs = zip(one, other, strict=True) if isinstance(one, tuple) else [(one, other)]
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.fixture
def tiny_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "BUNDLE_PLANES", 1)


@pytest.mark.usefixtures("tiny_bundles")
@pytest.mark.parametrize("seed", range(5))
def test_groups_become_nodes_with_the_same_outputs(seed: int) -> None:
    graph = grouped_net(4, seed)
    split = split_groups(graph)
    assert sum(isinstance(n.op, Logic) and bool(n.op.space) for n in split.nodes) >= 3 * 4
    x = np.random.default_rng(seed).integers(0, 256, (100, 1, 8, 8), dtype=np.uint8)
    assert same(graph, split, [x])


@pytest.mark.usefixtures("tiny_bundles")
def test_one_group_is_left_alone() -> None:
    b = GraphBuilder("all")
    x = b.input("x", "bit", (4, 4, 4))
    rng = np.random.default_rng(0)
    y = b.logic([x], random_tree_body(4, 4, rng=rng), (4, 4))
    everywhere = np.array([[[0, c, 0, 0] for c in range(4)]] * 8)  # each kernel reads all channels
    z = b.logic([y], tree_body(everywhere, np.full((8, 3), XOR)), (4, 4))
    graph = b.build(b.group_sum(b.flatten(z), 8))
    assert split_groups(graph) is graph


@pytest.mark.usefixtures("tiny_bundles")
@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_keep_their_outputs(seed: int) -> None:
    graph = random_graph(seed, rank=2)
    assert same(graph, split_groups(graph), random_inputs(graph, 70, seed))


def test_small_groups_are_bundled() -> None:
    graph = grouped_net(4)
    assert split_groups(graph) is graph


def test_values_that_are_read_as_outputs_are_left_alone() -> None:
    rng = np.random.default_rng(1)
    b = GraphBuilder("out")
    x = b.input("x", "bit", (3, 4, 4))
    graph = b.build(b.logic([x], random_tree_body(3, 8, rng=rng), (4, 4)))
    assert split_groups(graph) is graph


def test_a_network_in_groups_compiles_to_the_same_scores() -> None:
    graph, _ = lgir.optimize(logictreenet(16, seed=4), verify=None)
    assert len(split_groups(graph).nodes) > len(graph.nodes)
    x = np.random.default_rng(0).integers(0, 256, (600, 3, 32, 32), dtype=np.uint8)
    exe = lgir.compile(graph, "llvm")
    np.testing.assert_array_equal(exe(x), lgir.compile(graph, "reference")(x))
    np.testing.assert_array_equal(exe(x[:513]), exe(x)[:513])
