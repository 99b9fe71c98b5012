"""Forests on the LLVM backend: leaves near and far, runs of equal masks, results in chunks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

import lgir
from lgir.backends.llvm.options import LOWERING_OPTIONS
from lgir.backends.llvm.steps import forest as forest_steps
from lgir.backends.lowering import channel_groups as groups
from lgir.backends.lowering import chunked_popcount, forest
from lgir.backends.lowering.plan import make_plan
from lgir.backends.lowering.steps import ConeStep, CountStep
from lgir.ir.builder import tree_body
from lgir.ir.truth_tables import OP_TABLES
from lgir.zoo import TWO_INPUT_OPS, logictreenet
from targets import skip_unless_runnable

ONLY_AND = np.array([1])


def head(
    kernels: int,
    classes: int | None,
    *,
    ops: npt.NDArray[np.integer] = TWO_INPUT_OPS,
    leaves: int = 8,
    seed: int = 0,
) -> lgir.Graph:
    """Return a graph of trees of random gates over 300 bits, summed if there are classes."""
    rng = np.random.default_rng(seed)
    b = lgir.GraphBuilder("head")
    x = b.input("x", "bit", (300,))
    taps = np.zeros((kernels, leaves, 2), np.int64)
    taps[..., 1] = rng.integers(300, size=(kernels, leaves))
    body = tree_body(taps, OP_TABLES[rng.choice(ops, size=(kernels, leaves - 1))])
    y = b.logic([x], body)
    return b.build(b.group_sum(y, classes, 1.0) if classes else y)


def assert_same(graph: lgir.Graph, exe: lgir.Executable) -> None:
    samples = np.random.default_rng(1).random((600, 300)) < 0.5
    want = lgir.compile(graph, "reference")(samples)
    np.testing.assert_array_equal(exe(samples), want)


@pytest.mark.parametrize("target", ["avx512", "avx2", "generic"])
@pytest.mark.parametrize("reach", ["near", "new", "far"])
@pytest.mark.parametrize("leaves", [4, 8])
def test_trees_of_every_reach(
    target: str, reach: str, leaves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_unless_runnable(target)
    if reach != "near":
        monkeypatch.setattr(forest_steps, {"new": "_L2_PLANES", "far": "_U16_PLANES"}[reach], 100)
    graph = head(700, None, leaves=leaves, seed=leaves)
    exe = lgir.compile(graph, target=target, latency=False)
    assert f'@"{reach} tree' in exe.asm["llvm"]
    assert_same(graph, exe)


@pytest.mark.parametrize("ops", [TWO_INPUT_OPS, ONLY_AND])
@pytest.mark.parametrize("kernels", [90, 640, 1290])
def test_counted_chunks(
    ops: npt.NDArray[np.integer], kernels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_popcount, "CHUNK", 64)
    graph = head(kernels, 10, ops=ops)
    exe = lgir.compile(graph, latency=False)
    assert any(isinstance(step, CountStep) for step in exe.plan.steps)
    assert_same(graph, exe)


@pytest.mark.parametrize("most", [1, 5])
def test_trees_of_rare_shapes_are_cut_into_gates(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forest, "MAX_TEMPLATES", most)
    monkeypatch.setattr(forest, "MIN_INNER", 0.1)
    graph = head(2000, None)
    exe = lgir.compile(graph, latency=False)
    cones = [s for s in exe.plan.steps if isinstance(s, ConeStep)]
    kinds = {str(s.expr) for s in cones}
    assert kinds >= {"&(t,t)", "^(t,t)"}
    assert len(kinds) == most + 2
    assert sum(len(s.out) for s in cones if len(s.expr.leaves()) == 8) < 2000
    assert_same(graph, exe)


def test_rare_shapes_make_no_forest_if_they_are_the_majority() -> None:
    graph = head(2000, None)
    body = graph.nodes[0].op.body
    assert len({g.expr for g in forest.find_forest(body)}) > 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forest, "MAX_TEMPLATES", 1)
        assert not forest.find_forest(body)


def test_every_class_is_in_every_chunk_also_of_equal_trees() -> None:
    graph = head(5 * chunked_popcount.CHUNK, 10, ops=ONLY_AND)
    counts = [s for s in make_plan(graph, LOWERING_OPTIONS).steps if isinstance(s, CountStep)]
    assert len(counts) == 5
    for step in counts:
        assert step.planes.shape[1] <= chunked_popcount.CHUNK / 10 + 1


def test_equal_masks_are_together_over_chunks() -> None:
    steps = make_plan(head(40_000, 10), LOWERING_OPTIONS).steps
    cones = [s for s in steps if isinstance(s, ConeStep)]
    runs = sum(len(forest_steps.mask_runs(s.masks)) for s in cones)
    kinds = {(str(s.expr), row.tobytes()) for s in cones for row in s.masks}
    assert runs <= len(kinds) + len(cones)


def test_runs_of_masks() -> None:
    masks = np.array([[1, 0], [1, 0], [0, 0], [1, 0]], bool)
    runs = forest_steps.mask_runs(masks)
    assert runs[:, :4].copy().view("<u4").ravel().tolist() == [2, 1, 1]
    assert runs[:, 4:].tolist() == [[255, 0], [0, 0], [255, 0]]


def test_rows_count_from_the_lowest_leaf() -> None:
    read = np.zeros(200_000, bool)
    rows, first, reach = forest_steps.leaf_rows(
        np.array([[70_000, 70_003], [135_535, 70_001]]), read
    )
    assert (rows[:2].tolist(), first, reach) == ([[0, 3], [65_535, 1]], 70_000, "new")
    assert rows.dtype == np.uint16
    rows, first, reach = forest_steps.leaf_rows(
        np.array([[70_000, 70_003], [135_535, 70_001]]), read
    )
    assert (rows.tolist(), first, reach) == ([[0, 3], [65_535, 1]], 70_000, "near")
    rows, first, reach = forest_steps.leaf_rows(
        np.array([[70_000, 70_003], [135_536, 70_001]]), read
    )
    assert (rows[:2].tolist(), first, reach) == ([[0, 3], [65_536, 1]], 70_000, "far")
    assert rows.dtype == np.uint32
    assert not rows[2:].any()


def test_leaves_from_channel_groups_are_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "BUNDLE_PLANES", 200)
    graph, _ = lgir.optimize(logictreenet(32), verify=None)
    plan = make_plan(graph, LOWERING_OPTIONS)
    heads = [s for s in plan.steps if isinstance(s, ConeStep) and s.space == (1, 1, 1)]
    leaves = np.concatenate([s.leaves.ravel() for s in heads])
    read = np.unique(leaves[leaves < min(s.out.min() for s in heads)])
    assert len(read) > 3000
    assert read[-1] - read[0] < 32 * 32 * 4


def test_results_that_do_not_follow_one_another() -> None:
    # A convolution at one position: its channels are computed in the order of their templates.
    rng = np.random.default_rng(3)
    b = lgir.GraphBuilder("one-position")
    x = b.input("x", "bit", (300, 1, 1))
    taps = np.zeros((40, 4, 4), np.int64)
    taps[..., 1] = rng.integers(300, size=(40, 4))
    body = tree_body(taps, OP_TABLES[rng.choice(TWO_INPUT_OPS, size=(40, 3))])
    graph = b.build(b.flatten(b.logic([x], body, (1, 1))))
    samples = rng.random((600, 300, 1, 1)) < 0.5
    want = lgir.compile(graph, "reference")(samples)
    np.testing.assert_array_equal(lgir.compile(graph, latency=False)(samples), want)
