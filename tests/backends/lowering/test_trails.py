"""Trails: every gate once, each sharing an operand with the gate before; and places of results."""

from __future__ import annotations

import numpy as np
import pytest

from lgir.backends.lowering.trails import find_trails, latest_places


@pytest.mark.parametrize("seed", range(20))
def test_trails_visit_every_gate_once_and_share_operands(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, nets = int(rng.integers(1, 200)), int(rng.integers(1, 120))
    pairs = rng.integers(nets, size=(n, 2))
    trails = find_trails(pairs)
    assert sorted(trails.gates) == list(range(n))
    assert trails.count == trails.starts.sum()
    entered, left = trails.operands(pairs)
    np.testing.assert_array_equal(
        np.sort(np.stack([entered, left], axis=1), axis=1), np.sort(pairs[trails.gates], axis=1)
    )
    inside = ~trails.starts
    np.testing.assert_array_equal(entered[1:][inside[1:]], left[:-1][inside[1:]])


def test_even_fan_out_makes_closed_trails_only() -> None:
    ring = np.stack([np.arange(50), (np.arange(50) + 1) % 50], axis=1)
    assert find_trails(ring).count == 1


def test_no_gates_make_no_trails() -> None:
    trails = find_trails(np.zeros((0, 2), np.int64))
    assert (len(trails.gates), trails.count) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_results_take_the_place_freed_last(seed: int) -> None:
    rng = np.random.default_rng(seed)
    freed = np.sort(rng.integers(40, size=int(rng.integers(0, 50))))
    needed = np.flatnonzero(rng.random(40) < rng.random())
    stack, expected = [], []
    for row in range(40):
        stack += np.flatnonzero(freed == row).tolist()
        if row in needed:
            expected.append(stack.pop() if stack else None)
    has_place, place = latest_places(freed, needed)
    places = iter(place.tolist())
    assert [next(places) if has else None for has in has_place] == expected
