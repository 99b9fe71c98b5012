"""Cuts into cones: every template, with its masks and shifts, computes what the gates compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from lgir.backends.lowering.cone_cutter import ConeCutter, reachable
from lgir.backends.lowering.cones import ConeExpr, ConeGroup, and_masks
from lgir.backends.lowering.legalize import legalize
from lgir.backends.lowering.pools import MAX_LEAVES
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.ir.truth_tables import AND, OR, XOR
from lgir.ir.types import FIRST_TAP
from lgir.passes.fuse_pool import fuse_pool
from lgir.zoo import random_tree_body
from random_graphs import random_graph

Words = npt.NDArray[np.uint64]
ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


class Samples:
    """Random words of 64 samples for whatever a tap reads."""

    def __init__(self, body: Body, seed: int) -> None:
        self._taps = body.taps.astype(np.int64)
        self._rng = np.random.default_rng(seed)
        self._words: dict[tuple[int, ...], np.uint64] = {}

    def word(self, tap: int, shift: npt.NDArray[np.int64]) -> np.uint64:
        source, channel, *offset = self._taps[tap].tolist()
        key = (source, channel, *(np.array(offset) + shift).tolist())
        if key not in self._words:
            self._words[key] = self._rng.integers(1 << 64, dtype=np.uint64)
        return self._words[key]


def evaluate_body(body: Body, samples: Samples) -> Words:
    """The words of all nets at position 0."""
    nets = np.zeros(body.num_nets, np.uint64)
    nets[1] = ALL
    no_shift = np.zeros(body.rank, np.int64)
    for tap in range(body.num_taps):
        nets[FIRST_TAP + tap] = samples.word(tap, no_shift)
    for gate in range(body.num_gates):
        nets[body.first_gate + gate] = lookup(
            [int(body.table[gate]) >> i & 1 for i in range(1 << body.k)],
            [nets[net] for net in body.fanin[gate]],
        )
    return nets


def lookup(bits: list[int], inputs: list[np.uint64]) -> np.uint64:
    """A table of the inputs, the first being the most significant."""
    result = np.uint64(0)
    for index, bit in enumerate(bits):
        if bit:
            term = ALL
            for position, word in enumerate(reversed(inputs)):
                term &= word if index >> position & 1 else ~word
            result |= term
    return result


def evaluate_cone(
    expr: ConeExpr, leaves: Iterator[int], masks: Iterator[bool], read: Callable[[int], np.uint64]
) -> np.uint64:
    """The value of a template by the formulas that `ConeExpr` documents."""
    if not expr.args:
        return read(next(leaves))
    operands = [evaluate_cone(arg, leaves, masks, read) for arg in expr.args]
    words = [ALL if next(masks) else np.uint64(0) for _ in range(expr.masks)]
    if expr.kind == "and":
        a, b = operands
        return (a & (b ^ words[0])) ^ (b & words[1])
    if expr.kind == "xor":
        return operands[0] ^ operands[1]
    return lookup([int(word != 0) for word in words], operands)


def evaluate_group(
    group: ConeGroup, body: Body, samples: Samples, computed: dict[int, np.uint64]
) -> dict[int, np.uint64]:
    """The values of the roots of a group, of which cut leaves are `computed` already."""
    results = {}
    for row, root in enumerate(group.roots.tolist()):
        pool = np.uint64(0)
        for shift in group.shifts:

            def read(net: int, shift: npt.NDArray[np.int64] = shift) -> np.uint64:
                is_tap = net < body.first_gate
                return samples.word(net - FIRST_TAP, shift) if is_tap else computed[net]

            *masks, inverted = group.masks[row].tolist()
            value = evaluate_cone(group.expr, iter(group.leaves[row].tolist()), iter(masks), read)
            pool |= value ^ (ALL if inverted else np.uint64(0))
        results[root] = pool
    return results


def check(body: Body, groups: list[ConeGroup], seed: int) -> None:
    """Every root has the value that the body gives it, and every output is a root."""
    samples = Samples(body, seed)
    expected = evaluate_body(body, samples)
    computed: dict[int, np.uint64] = {}
    for group in sorted(groups, key=lambda g: g.level):
        assert group.masks.shape == (len(group.roots), group.expr.num_masks() + 1)
        computed |= evaluate_group(group, body, samples, computed)
    gates = set(body.outputs[body.outputs >= body.first_gate].tolist())
    assert gates <= computed.keys()
    for root, value in computed.items():
        assert value == expected[root]


def bodies(graph: Graph) -> list[Body]:
    return [op.body for _, op in legalize(graph, dense_bodies=True).of_type(Logic)]


def pooled_graph(seed: int) -> Graph:
    """A tree convolution whose OR pool is part of the body."""
    b = GraphBuilder("pooled")
    x = b.input("x", "bit", (3, 8, 8))
    trees = random_tree_body(3, 6, rng=np.random.default_rng(seed))
    return fuse_pool(b.build(b.or_pool(b.logic([x], trees, (8, 8)), (2, 2))))


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_cones_of_random_bodies_compute_their_roots(seed: int, once: bool) -> None:
    for rank in (0, 2):
        for body in bodies(random_graph(seed, rank=rank)):
            check(body, ConeCutter(body, once=once).groups(), seed)


@pytest.mark.parametrize("seed", range(5))
def test_pools_are_one_cone_at_four_shifts(seed: int) -> None:
    (body,) = bodies(pooled_graph(seed))
    groups = ConeCutter(body).groups()
    assert sum(len(g.roots) for g in groups if len(g.shifts) == 4) == 6
    check(body, groups, seed)


@pytest.mark.parametrize("seed", range(10))
def test_extra_roots_are_cones_of_their_own(seed: int) -> None:
    (body, *_) = bodies(random_graph(seed, rank=0, max_gates=60))
    cutter = ConeCutter(body, once=True)
    extra = np.zeros(body.num_nets, bool)
    extra[body.first_gate :] = np.random.default_rng(seed).random(body.num_gates) < 0.3
    extra &= reachable(body, cutter.by_level, body.outputs)
    cut = cutter.cut(extra)
    groups = [cut.extract(cones) for cones in cut.cones]
    roots = np.concatenate([g.roots for g in groups]) if groups else np.zeros(0, np.int64)
    assert set(np.flatnonzero(extra)) <= set(roots.tolist())
    check(body, groups, seed)


def test_a_later_cut_leaves_an_earlier_one_as_it_was() -> None:
    (body, *_) = bodies(random_graph(3, rank=0, max_gates=60))
    cutter = ConeCutter(body, once=True)
    first = cutter.cut()
    before = [first.extract(cones) for cones in first.cones]
    cutter.cut(np.ones(body.num_nets, bool))
    for cones, group in zip(first.cones, before, strict=True):
        later = first.extract(cones)
        np.testing.assert_array_equal(later.leaves, group.leaves)
        np.testing.assert_array_equal(later.masks, group.masks)


def test_trees_of_one_shape_share_a_template_whatever_their_operations() -> None:
    taps = [[0, i] for i in range(8)]
    tables = [t for t in range(16) if bin(t).count("1") in (1, 3)]
    fanin = [[2, 3]] * len(tables)
    body = Body.build(taps, fanin, tables, list(range(10, 10 + len(tables))))
    (group,) = ConeCutter(body).groups()
    assert str(group.expr) == "&(t,t)"
    assert len(group.roots) == len(tables)


def test_no_tree_has_more_leaves_than_a_template_may() -> None:
    taps = [[0, i] for i in range(200)]
    fanin = [[2, 3], *([201 + i + 1, 4 + i] for i in range(190))]
    body = Body.build(taps, fanin, [XOR] * 191, [202 + 190])
    groups = ConeCutter(body).groups()
    assert max(len(g.expr.leaves()) for g in groups) <= MAX_LEAVES
    check(body, groups, 0)


def test_masks_make_every_and_like_gate() -> None:
    a, b = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    for i in (False, True):
        for j in (False, True):
            m1, m2, inverted = and_masks(np.array(i), np.array(j))
            computed = (a & (b ^ m1)) ^ (b & m2) ^ inverted
            np.testing.assert_array_equal(computed, (a ^ i) & (b ^ j))


def test_gates_below_a_stop_are_not_reached() -> None:
    body = Body.build([[0, 0], [0, 1]], [[2, 3], [4, 3], [5, 2]], [AND, OR, AND], [6])
    levels = body.gates_by_level()
    stop = np.zeros(body.num_nets, bool)
    assert reachable(body, levels, np.array([6]), stop)[2:].all()
    stop[5] = True
    assert reachable(body, levels, np.array([6]), stop)[2:].tolist() == [
        True,
        False,
        False,
        False,
        True,
    ]
