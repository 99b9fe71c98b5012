"""Fused levels: gates evaluated in registers along the trails of the gates that read them."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

import lgir
from lgir.backends.llvm.options import LOWERING_OPTIONS
from lgir.backends.llvm.steps.fused import fused_rows
from lgir.backends.lowering.fused_levels import find_fused_levels
from lgir.backends.lowering.plan import make_plan
from lgir.backends.lowering.steps import FusedStep
from lgir.backends.lowering.table_keys import table_keys
from lgir.zoo import dense_net
from random_graphs import PROPER, layered_graph

TARGETS = ("native", "avx512", "avx2", "generic")


def same_as_reference(graph: lgir.Graph, target: str, seed: int) -> None:
    x = np.random.default_rng(seed).random((700, *graph.inputs[0].shape)) < 0.5
    expected = lgir.compile(graph, "reference")(x)
    np.testing.assert_array_equal(lgir.compile(graph, "llvm", target=target)(x), expected)


@pytest.mark.parametrize("seed", range(60))
def test_layered_bodies_are_evaluated_as_the_reference_does(seed: int) -> None:
    graph = layered_graph(seed)
    same_as_reference(graph, TARGETS[seed % len(TARGETS)], seed)


def test_most_of_those_bodies_are_fused() -> None:
    plans = [make_plan(layered_graph(seed), LOWERING_OPTIONS) for seed in range(60)]
    assert sum(any(isinstance(s, FusedStep) for s in plan.steps) for plan in plans) > 30


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layers", [2, 5])
def test_dense_layers_on_every_target(target: str, layers: int) -> None:
    graph, _ = lgir.optimize(dense_net(layers, 400, inputs=60, seed=layers), verify=None)
    assert any(isinstance(s, FusedStep) for s in make_plan(graph, LOWERING_OPTIONS).steps)
    same_as_reference(graph, target, layers)


def test_words_say_what_every_pair_of_tables_does() -> None:
    """Rows evaluated by the kernel's formula, along trails of any two-input gates."""
    rng = np.random.default_rng(3)
    pairs = list(itertools.product(PROPER, PROPER)) * 8
    inner, outer = np.array(pairs)[rng.permutation(len(pairs))].T
    outer[0] = 0b1000
    planes = rng.integers(1 << 16, size=(64, 64))
    positions = rng.integers(64, size=(len(pairs), 3))
    words, masks, constant = fused_rows((64 * positions).astype(np.uint32), inner, outer)
    assert constant
    assert masks.shape == (64, 32)
    assert masks.ctypes.data % 64 == 0
    np.testing.assert_array_equal(masks[:, :16], np.tile(masks[:, :4], 4))
    before = wanted_before = np.zeros(64, np.int64)
    for word, i, o, (first, second, _) in zip(words, inner, outer, positions, strict=True):
        entry = masks[word[0] & 63].view(np.int32).astype(np.int64)
        (m1, m2, m3, m4), (m5, m6) = entry[:4], entry[16:18]
        a, b = planes[word[0] >> 6], planes[word[1] >> 6]
        x = (~(a & (b ^ m1)) & (b | m2)) ^ a ^ m3
        computed = (before & (x | m4)) ^ (x & m5) ^ m6
        expected = apply(i, planes[first], planes[second])
        np.testing.assert_array_equal(computed & 0xFFFF, apply(o, wanted_before, expected))
        before, wanted_before = x, expected


def apply(table: int, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """16 samples of a two-input gate."""
    terms = [~a & ~b, ~a & b, a & ~b, a & b]
    computed = np.zeros_like(a)
    for i, term in enumerate(terms):
        if table >> i & 1:
            computed |= term
    return computed & 0xFFFF


def test_results_that_may_be_inverted_need_no_constant() -> None:
    rng = np.random.default_rng(4)
    inner = rng.choice(PROPER, 1000)
    outer = rng.choice((1, 2, 4, 6, 8, 9), 1000)
    outer[0] = 0b1000
    _, masks, constant = fused_rows(np.zeros((1000, 3), np.uint32), inner, outer)
    assert not constant
    assert len(masks) == 32


def test_inner_gates_have_no_other_readers_and_do_not_read_one_another() -> None:
    for seed in range(20):
        body = layered_graph(seed).nodes[0].op.body
        levels = body.gates_by_level()
        fused = find_fused_levels(body, levels, table_keys(body).pair_tables)
        inner = body.first_gate + np.concatenate([f.inner for f in fused])
        assert len(np.unique(inner)) == len(inner)
        assert not np.isin(body.outputs, inner).any()
        reading = np.isin(body.fanin, inner).any(axis=1)
        assert not reading[inner - body.first_gate].any()
        for level, gates in zip(fused, levels, strict=True):
            assert np.isin(level.outer, gates).all()
            readers = np.isin(body.fanin, body.first_gate + level.inner).any(axis=1)
            assert np.flatnonzero(readers).tolist() == level.outer.tolist()
