"""Truth tables: the algebra on whole arrays agrees with arrays of bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lgir.ir import truth_tables
from lgir.ir.truth_tables import full_mask, table_dtype


@st.composite
def table_and_inputs(draw, least: int = 1):
    k = draw(st.integers(least, 6))
    return k, draw(st.integers(0, full_mask(k))), draw(st.integers(0, k - 1))


def rows(table: int, k: int) -> np.ndarray:
    """(2,) * k array of a table's bits, first input first."""
    return np.array([table >> i & 1 for i in range(1 << k)]).reshape((2,) * k)


def bits_of(array: np.ndarray, k: int) -> np.ndarray:
    assert array.dtype == table_dtype(k)
    return rows(int(array[0]), k)


@given(table_and_inputs())
def test_table_algebra_matches_arrays_of_bits(case):
    k, table, j = case
    t, bits = np.array([table], table_dtype(k)), rows(table, k)
    assert (bits_of(truth_tables.complement_input(t, k, j), k) == np.flip(bits, j)).all()
    for value in (False, True):
        fixed = np.repeat(bits.take([int(value)], axis=j), 2, axis=j)
        assert (bits_of(truth_tables.cofactor(t, k, j, value), k) == fixed).all()


@given(table_and_inputs(least=2))
def test_swapping_and_merging_neighbours_match_arrays_of_bits(case):
    k, table, j = case
    j = min(j, k - 2)
    t, bits = np.array([table], table_dtype(k)), rows(table, k)
    assert (bits_of(truth_tables.swap_adjacent_inputs(t, k, j), k) == bits.swapaxes(j, j + 1)).all()
    merged = np.stack([bits.take(v, axis=j).take(v, axis=j) for v in (0, 1)], axis=j)
    expected = np.stack([merged, merged], axis=j + 1)
    assert (bits_of(truth_tables.merge_adjacent_inputs(t, k, j), k) == expected).all()


@given(table_and_inputs())
def test_reversed_inputs_match_a_transposed_array_of_bits(case):
    k, table, _ = case
    reversed_table = truth_tables.reverse_inputs(np.array([table], np.uint64), k)
    assert (rows(int(reversed_table[0]), k) == rows(table, k).transpose()).all()


@given(table_and_inputs(least=2))
def test_a_dropped_first_input_moves_the_others_up(case):
    k, table, _ = case
    ignoring = truth_tables.cofactor(np.array([table], table_dtype(k)), k, 0, True)
    moved = bits_of(truth_tables.drop_first_input(ignoring, k), k)
    assert (moved == np.stack([rows(table, k)[1]] * 2, axis=-1)).all()


@pytest.mark.parametrize("k", range(3, 7))
def test_tables_of_inverters_and_multiplexers(k):
    first, second, third = np.indices((2,) * k)[:3]
    assert (rows(truth_tables.mux_table(k), k) == np.where(first, third, second)).all()
    assert (rows(truth_tables.not_table(k), k) == 1 - first).all()
