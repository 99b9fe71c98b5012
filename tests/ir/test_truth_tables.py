"""Truth tables against definitions spelled out bit by bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lgir.errors import UnknownNameError
from lgir.ir.truth_tables import (
    AND,
    MAX_FANIN,
    NAND,
    NOR,
    OP_NAMES,
    OP_TABLES,
    OR,
    UNARY_NAMES,
    XNOR,
    XOR,
    canonicalize_order,
    cofactor,
    complement_input,
    complement_inputs,
    complement_table,
    depends_on,
    drop_first_input,
    full_mask,
    merge_adjacent_inputs,
    mux_table,
    narrow_table,
    narrow_tables,
    not_table,
    operation_numbers,
    permute_inputs,
    reverse_inputs,
    swap_inputs,
    table_dtype,
    variable_table,
    widen_table,
)


def lookup(table: int, inputs: tuple[int, ...]) -> int:
    """The definition: bit i of the table, the first input being the most significant of i."""
    index = 0
    for x in inputs:
        index = 2 * index + x
    return table >> index & 1


MEANING = {
    "false": lambda a, b: 0, "and": lambda a, b: a & b, "gt": lambda a, b: a > b,
    "a": lambda a, b: a, "lt": lambda a, b: a < b, "b": lambda a, b: b,
    "xor": lambda a, b: a ^ b, "or": lambda a, b: a | b, "nor": lambda a, b: not (a | b),
    "xnor": lambda a, b: a == b, "not-b": lambda a, b: not b, "ge": lambda a, b: a >= b,
    "not-a": lambda a, b: not a, "le": lambda a, b: a <= b, "nand": lambda a, b: not (a & b),
    "true": lambda a, b: 1,
}  # fmt: skip


@pytest.mark.parametrize("op", range(16))
def test_operations_have_difflogics_numbers(op: int) -> None:
    """difflogic's id is f(00) f(01) f(10) f(11), most significant first."""
    bits = [int(MEANING[OP_NAMES[op]](a, b)) for a, b in itertools.product((0, 1), repeat=2)]
    assert int("".join(map(str, bits)), 2) == op
    assert [lookup(int(OP_TABLES[op]), ab) for ab in itertools.product((0, 1), repeat=2)] == bits


def test_named_tables() -> None:
    named = {"and": AND, "or": OR, "xor": XOR, "nand": NAND, "nor": NOR, "xnor": XNOR}
    assert named == {name: int(OP_TABLES[OP_NAMES.index(name)]) for name in named}
    assert [lookup(t, (x,)) for t in UNARY_NAMES for x in (0, 1)] == [0, 0, 1, 0, 0, 1, 1, 1]


fanins = st.integers(1, MAX_FANIN)


@given(st.data(), fanins)
def test_depends_on_is_what_complementing_the_input_changes(data: st.DataObject, k: int) -> None:
    tables = data.draw(st.lists(st.integers(0, full_mask(k)), min_size=1, max_size=4))
    array = np.array(tables, dtype=table_dtype(k))
    for position in range(k):
        expected = [
            any(
                lookup(t, x) != lookup(t, (*x[:position], 1 - x[position], *x[position + 1 :]))
                for x in itertools.product((0, 1), repeat=k)
            )
            for t in tables
        ]
        assert depends_on(array, k, position).tolist() == expected


@given(st.data(), fanins, fanins)
def test_widened_tables_ignore_the_new_inputs(data: st.DataObject, a: int, b: int) -> None:
    k, to = min(a, b), max(a, b)
    table = data.draw(st.integers(0, full_mask(k)))
    wide = widen_table(np.array([table], table_dtype(k)), k, to)
    assert wide.dtype == table_dtype(to)
    for x in itertools.product((0, 1), repeat=to):
        assert lookup(int(wide[0]), x) == lookup(table, x[:k])
    narrow = narrow_table(wide, to, k)
    assert narrow.dtype == table_dtype(k)
    assert narrow.tolist() == [table]


@pytest.mark.parametrize("k", range(1, MAX_FANIN + 1))
def test_variable_table_is_the_projection(k: int) -> None:
    for position in range(k):
        for x in itertools.product((0, 1), repeat=k):
            assert lookup(variable_table(k, position), x) == x[position]


@pytest.mark.parametrize("k", range(1, MAX_FANIN + 1))
def test_complement_table_is_true_where_the_input_is_false(k: int) -> None:
    assert not_table(k) == complement_table(k, 0)
    for position in range(k):
        assert complement_table(k, position) == variable_table(k, position) ^ full_mask(k)


@pytest.mark.parametrize("k", range(3, MAX_FANIN + 1))
def test_mux_table_selects_by_the_first_input(k: int) -> None:
    for x in itertools.product((0, 1), repeat=k):
        assert lookup(mux_table(k), x) == (x[2] if x[0] else x[1])


@st.composite
def table_and_input(draw: st.DrawFn, least: int = 1) -> tuple[int, int, int]:
    """Draw a fan-in k, a table of k inputs and the number of one input."""
    k = draw(st.integers(least, MAX_FANIN))
    return k, draw(st.integers(0, full_mask(k))), draw(st.integers(0, k - 1))


def cells(table: int, k: int) -> np.ndarray:
    """Return the bits of a table as an array (2,) * k, one axis per input."""
    return np.array([table >> i & 1 for i in range(1 << k)]).reshape((2,) * k)


def result_cells(tables: np.ndarray, k: int) -> np.ndarray:
    assert tables.dtype == table_dtype(k)
    return cells(int(tables[0]), k)


@given(table_and_input())
def test_cofactors_and_complements_match_arrays_of_bits(case: tuple[int, int, int]) -> None:
    k, table, j = case
    tables, bits = np.array([table], table_dtype(k)), cells(table, k)
    assert (result_cells(complement_input(tables, k, j), k) == np.flip(bits, j)).all()
    for value in (False, True):
        fixed = np.repeat(bits.take([int(value)], axis=j), 2, axis=j)
        assert (result_cells(cofactor(tables, k, j, value), k) == fixed).all()


@given(table_and_input(least=2))
def test_swapping_and_merging_neighbors_match_arrays_of_bits(case: tuple[int, int, int]) -> None:
    k, table, j = case
    j = min(j, k - 2)
    tables, bits = np.array([table], table_dtype(k)), cells(table, k)
    for i in range(j + 1):
        swapped = result_cells(swap_inputs(tables, k, i, j + 1), k)
        assert (swapped == bits.swapaxes(i, j + 1)).all()
    merged = np.stack([bits.take(v, axis=j).take(v, axis=j) for v in (0, 1)], axis=j)
    expected = np.stack([merged, merged], axis=j + 1)
    assert (result_cells(merge_adjacent_inputs(tables, k, j), k) == expected).all()


@given(table_and_input(), st.randoms(use_true_random=False))
def test_permuted_tables_match_transposed_arrays(case: tuple[int, int, int], random) -> None:
    k, table, _ = case
    order = list(range(k))
    random.shuffle(order)
    permuted = permute_inputs(np.array([table], table_dtype(k)), order)
    assert (result_cells(permuted, k) == cells(table, k).transpose(order)).all()


@given(table_and_input())
def test_reversed_inputs_match_a_transposed_array(case: tuple[int, int, int]) -> None:
    k, table, _ = case
    reverse = reverse_inputs(np.array([table], table_dtype(k)), k)
    assert reverse.dtype == np.uint64
    assert (cells(int(reverse[0]), k) == cells(table, k).transpose()).all()


@given(table_and_input(least=2))
def test_dropping_the_first_input_moves_the_others_up(case: tuple[int, int, int]) -> None:
    k, table, _ = case
    half = cofactor(np.array([table], table_dtype(k)), k, 0, True)
    rest = cells(table, k)[1]
    assert (result_cells(drop_first_input(half, k), k) == np.stack([rest, rest], axis=-1)).all()


def test_narrow_tables_takes_each_gate_over_its_own_inputs() -> None:
    arity = np.array([0, 1, 2, 3])
    tables = [1, 0b01, XOR, 0b1110_1000]
    wide = [
        widen_table(np.array([t], table_dtype(n)), n, 3)[0]
        for t, n in zip(tables, arity, strict=True)
    ]
    narrow = narrow_tables(np.array(wide), 3, arity)
    assert narrow.dtype == np.uint64
    assert narrow.tolist() == tables


@pytest.mark.parametrize("k", [1, 2, 3])
def test_canonical_tables_are_the_least_of_their_class_and_the_order_gives_them(k: int) -> None:
    tables = np.arange(full_mask(k) + 1, dtype=np.uint64)
    canonical, order = canonicalize_order(tables, k)
    orders = list(itertools.permutations(range(k)))
    variants = np.stack([permute_inputs(tables, o) for o in orders])
    assert (canonical == variants.min(axis=0)).all()
    for table, result, row in zip(tables, canonical, order, strict=True):
        assert permute_inputs(np.array([table]), row)[0] == result


def test_complemented_inputs_of_two_input_tables() -> None:
    for table, a, b in itertools.product(range(16), (False, True), (False, True)):
        result = int(complement_inputs(np.array([table]), np.array([a]), np.array([b]))[0])
        for x, y in itertools.product((0, 1), repeat=2):
            assert lookup(result, (x, y)) == lookup(table, (x ^ a, y ^ b))


def test_operations_are_numbered_by_name():
    names = np.array(OP_NAMES).reshape(4, 4)
    assert (operation_numbers(names) == np.arange(16).reshape(4, 4)).all()
    assert operation_numbers([6, 7]).tolist() == [6, 7]
    with pytest.raises(UnknownNameError, match="did you mean 'xnor'"):
        operation_numbers(["xnr"])
