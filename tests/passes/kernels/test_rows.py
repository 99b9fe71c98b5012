"""Equal rows: the first of each kind, distinct rows, and runs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lgir.passes.kernels.rows import first_equal, runs, unique_rows

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(PAIRS)
def test_first_equal_finds_the_first_of_equal_rows(pairs):
    columns = [np.array(column) for column in zip(*pairs, strict=True)]
    assert first_equal(columns).tolist() == [pairs.index(pair) for pair in pairs]


def test_first_equal_survives_rows_that_share_a_hash(monkeypatch):
    columns = [np.random.default_rng(0).integers(9, size=200)]
    expected = first_equal(columns)
    for value in (0, (1 << 64) - 1):
        monkeypatch.setattr(
            "lgir.passes.kernels.rows.row_hash",
            lambda c, v=value: np.full(len(c[0]), v, np.uint64),
        )
        assert np.array_equal(first_equal(columns), expected)


@given(PAIRS)
def test_distinct_rows_are_sorted_and_found_again(pairs):
    distinct, position = unique_rows(np.array(pairs, np.int32))
    assert [tuple(row) for row in distinct.tolist()] == sorted(set(pairs))
    assert [tuple(row) for row in distinct[position].tolist()] == pairs


@given(PAIRS)
def test_runs_number_equal_rows_and_positions_in_them(pairs):
    pairs.sort()
    run, position = runs(*(np.array(column) for column in zip(*pairs, strict=True)))
    kinds = sorted(set(pairs))
    assert run.tolist() == [kinds.index(pair) for pair in pairs]
    assert position.tolist() == [i - pairs.index(pair) for i, pair in enumerate(pairs)]
