"""The sweeping engine: what it claims equal is equal, and on small bodies it misses nothing."""

from __future__ import annotations

import numpy as np
import pytest

from lgir.equivalence.effort import Effort, TimeUp
from lgir.equivalence.implications import Implications, draw_planes
from lgir.equivalence.pair_solver import gate_clauses
from lgir.equivalence.sweeping import Sweep, sort_by_level
from lgir.equivalence.windows import WindowTables
from lgir.ir.body import Body
from lgir.ir.simulate import evaluate_body, pack_planes, unpack_planes
from lgir.ir.truth_tables import AND, XOR, full_mask
from lgir.ir.types import FIRST_TAP
from random_graphs import random_body

pytest.importorskip("pysat")


def body_and_implications(seed: int) -> tuple[Body, Implications]:
    rng = np.random.default_rng(seed)
    gates = int(rng.integers(10, 60))
    body = random_body([12], 0, rng, gates=gates, k=int(rng.integers(2, 5)), outputs=3)
    group = rng.integers(max(1, body.num_taps), size=body.num_taps)
    if rng.random() < 0.5:
        return sort_by_level(body), Implications.none(body.num_taps)
    return sort_by_level(body), Implications.build(group, np.arange(body.num_taps))


def all_samples(implications: Implications) -> np.ndarray:
    """(n, T) every assignment in which taps have what they imply."""
    count = len(implications.group)
    x = (np.arange(1 << count)[:, None] >> np.arange(count) & 1).astype(bool)
    for i in range(count):
        for j in range(count):
            if (
                implications.group[i] == implications.group[j]
                and implications.rank[i] > implications.rank[j]
            ):
                x = x[x[:, i] <= x[:, j]]
    return x


def values(body: Body, x: np.ndarray) -> np.ndarray:
    """(n, nets)"""
    return unpack_planes(evaluate_body(body, pack_planes(x)), len(x))


def of_literals(nets: np.ndarray, literal: np.ndarray) -> np.ndarray:
    return nets[:, literal >> 1] ^ (literal & 1).astype(bool)


def test_a_sweep_finds_exactly_the_nets_that_are_equal():
    merged = 0
    for seed in range(150):
        body, implications = body_and_implications(seed)
        sweep = Sweep(body, implications, Effort(words=1, seed=seed))
        sweep.run()
        nets = values(body, all_samples(implications))
        assert np.array_equal(of_literals(nets, sweep.literal), nets), seed
        distinct = np.unique(sweep.literal >> 1)
        up_to_complement = nets[:, distinct] ^ nets[:1, distinct]
        assert len(np.unique(up_to_complement, axis=1).T) == len(distinct), seed
        merged += body.num_nets - len(distinct)
    assert merged > 1000


def test_windows_prove_and_refute_only_what_is_so():
    proved = refuted = 0
    for seed in range(100):
        body, implications = body_and_implications(seed)
        nets = values(body, all_samples(implications))
        literal = 2 * np.arange(body.num_nets, dtype=np.int32)
        literal[1] = 1
        x, y = np.random.default_rng(seed).choice(literal, (2, 200))
        y ^= np.arange(200, dtype=np.int32) & 1
        equal, differences = WindowTables(body, literal, implications).compare(x, y)
        same = (of_literals(nets, x) == of_literals(nets, y)).all(axis=0)
        assert not (equal & ~same).any(), seed
        proved += int((equal & (x != y)).sum())
        for pair, leaves, assignment in differences:
            assert not same[pair]
            assert (leaves < body.first_gate).all()
            chosen = (nets[:, leaves] == assignment).all(axis=1)
            assert chosen.any()
            truth = of_literals(nets[chosen], np.array([x[pair], y[pair]]))
            assert (truth[:, 0] != truth[:, 1]).any(), seed
            refuted += 1
    assert proved > 100
    assert refuted > 1000


def test_samples_keep_to_what_taps_imply():
    implications = Implications.build(np.array([0, 1, 0, 2, 0, 1]), np.array([2, 0, 1, 0, 0, 1]))
    bits = unpack_planes(draw_planes(implications, 8, 0), 512)
    assert not bits[0].any()
    assert bits[1].all()
    assert (bits[:, 0] <= bits[:, 2]).all()
    assert (bits[:, 2] <= bits[:, 4]).all()
    assert (bits[:, 5] <= bits[:, 1]).all()
    passed = np.bincount(bits[:, [0, 2, 4]].sum(axis=1), minlength=4)
    assert passed.min() > 90


def test_clauses_describe_the_table():
    rng = np.random.default_rng(0)
    for k in range(1, 5):
        for table in rng.integers(full_mask(k) + 1, size=20).tolist():
            clauses = gate_clauses(table, k)
            for row in range(1 << k):
                bits = [row >> (k - 1 - j) & 1 for j in range(k)]
                for out in (0, 1):
                    holds = all(any((*bits, out)[j] == plus for j, plus in c) for c in clauses)
                    assert holds == (table >> row & 1 == out)
    assert len(gate_clauses(AND, 2)) == 3


def test_what_is_too_hard_or_too_late_is_left_alone():
    n, fanin, last = 60, [], []
    for order in (np.arange(n), np.random.default_rng(0).permutation(n)):
        taps = (FIRST_TAP + order).tolist()
        previous = taps[0]
        for tap in taps[1:]:
            fanin.append([previous, tap])
            previous = FIRST_TAP + n + len(fanin) - 1
        last.append(previous)
    body = sort_by_level(Body.build([[0, i] for i in range(n)], fanin, [XOR] * len(fanin), last))
    implications = Implications.none(n)
    one, two = evaluate_body(body, draw_planes(implications, 4, 1))[body.outputs]
    assert np.array_equal(one, two)
    sweep = Sweep(body, implications, Effort(conflicts=10))
    sweep.run()
    one, two = sweep.literal[body.outputs]
    assert one != two
    with pytest.raises(TimeUp):
        Sweep(body, implications, Effort(deadline=0.0)).run()
