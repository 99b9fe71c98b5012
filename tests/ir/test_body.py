"""Bodies: their arrays, levels and equality, and what the constructor refuses."""

from __future__ import annotations

import numpy as np
import pytest

import lgir
from lgir.errors import GraphError
from lgir.ir.body import Body
from lgir.ir.truth_tables import AND, OR, XOR
from random_graphs import random_graph


def naive_levels(body: Body) -> list[int]:
    level = [0] * body.first_gate
    for operands in body.fanin.tolist():
        level.append(1 + max(level[x] for x in operands))
    return level


@pytest.mark.parametrize("seed", range(60))
def test_levels_of_random_bodies(seed: int) -> None:
    for _, op in random_graph(seed, max_gates=80).of_type(lgir.Logic):
        assert op.body.levels().tolist() == naive_levels(op.body)
        assert op.body.levels().dtype == np.int32


@pytest.mark.parametrize("reach", [1, 3, 50, 5000, 100_000])
def test_levels_of_long_bodies(reach: int) -> None:
    """Several chunks of gates, from one chain to shallow; both ways of settling a chunk."""
    n, rng = 20_000, np.random.default_rng(reach)
    gates = np.arange(4, n + 4)[:, None]
    fanin = np.maximum(0, gates - rng.integers(1, reach + 1, size=(n, 2)))
    body = Body.build([[0, 0], [0, 1]], fanin, np.full(n, XOR), [n + 3])
    assert body.levels().tolist() == naive_levels(body)


def test_build_drops_trailing_columns_that_nothing_uses() -> None:
    body = Body.build([[0, 0]], [[2, 0, 0], [3, 2, 0]], [0b00001111, 0b11000000], [4])
    assert body.k == 2
    assert body.table.tolist() == [0b0011, 0b1000]
    assert body.arity().tolist() == [1, 2]


def test_build_keeps_a_column_that_is_wired_or_matters() -> None:
    wired = Body.build([[0, 0]], [[1, 2]], [0b1100], [3])
    matters = Body.build([[0, 0]], [[2, 0]], [0b1000], [3])
    assert (wired.k, matters.k) == (2, 2)
    assert (wired.arity().tolist(), matters.arity().tolist()) == ([2], [2])


def test_arrays_are_read_only() -> None:
    body = Body.build([[0, 0]], [[2, 2]], [AND], [3])
    for array in (body.taps, body.fanin, body.table, body.outputs):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_build_does_not_freeze_the_callers_arrays() -> None:
    fanin, outputs = np.array([[2, 2]], np.int32), np.array([3], np.int32)
    body = Body.build([[0, 0]], fanin, [AND], outputs)
    fanin[0, 0] = outputs[0] = 0
    assert (body.fanin.tolist(), body.outputs.tolist()) == ([[2, 2]], [3])


def test_bodies_compare_by_content() -> None:
    body = Body.build([[0, 0]], [[2, 2]], [AND], [3])
    assert body == Body.build([[0, 0]], [[2, 2]], [AND], [3])
    assert body != Body.build([[0, 0]], [[2, 2]], [OR], [3])
    assert body != Body.build([[0, 0]], [[2, 2]], [AND], [2])
    assert body != Body.build([[0, 0, 0]], [[2, 2]], [AND], [3])
    assert body != 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(body)


def test_bodies_without_gates_or_taps() -> None:
    body = Body.build([], [], [], [0, 1], rank=2)
    assert (body.rank, body.num_taps, body.num_gates, body.k) == (2, 0, 0, 1)
    assert body.levels().tolist() == [0, 0]
    assert repr(body) == "Body(0 taps, 0 gates, k=1, 2 outputs)"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([0, 0], [[2, 2]], [8], [3]), r"body arrays must be taps \(T, 2\+rank\).*got \(2,\)"),
        (([[0, 0]], [2, 2], [8], [3]), r"fanin \(G, K\).*got \(1, 2\), \(2,\), \(1,\)"),
        (([[0, 0]], [[2, 2]], [8], [[3]]), r"outputs \(C,\)"),
        (([[0, 0]], [[2, 2]], [8, 8], [3]), r"table has shape \(2,\), expected \(1,\)"),
        (([[0, 0]], [[2] * 7], [8], [3]), "a gate has 1 to 6 inputs; fanin has 7 columns"),
        (([[0, 0]], [[2, 2]], [16], [3]), r"a table of 2 inputs has 4 bits; 16\.\.16 given"),
        (([[0, 0]], [[2, 2]], [-1], [3]), r"a table of 2 inputs has 4 bits; -1\.\.-1 given"),
        (([[0, 0]], [[2] * 6], [-1], [3]), r"a table of 6 inputs has 64 bits; -1\.\.-1 given"),
        (([[0, 0]], [[2] * 6], [2**64], [3]), r"table holds integers outside 0\.\.2\*\*64-1"),
        (([[0, 0]], [[2, 2]], [8.5], [3]), "body array table must hold integers, not float64"),
        (([[0, 0]], [[2, 2]], [True], [3]), "body array table must hold integers, not bool"),
        (([[0, 0]], [[2, 2.5]], [8], [3]), "body array fanin must hold integers, not float64"),
        (([[0, 0]], [[2, 2**32 + 2]], [8], [3]), r"fanin holds 2\.\.4294967298, not 32-bit ids"),
        (([[0, 2**31]], [[2, 2]], [8], [3]), r"taps holds 0\.\.2147483648, not 32-bit ids"),
        (([[0, 0]], [[2, 2]], [8], ["x"]), "body array outputs must hold integers"),
        (([[0, 0], [0]], [[2, 2]], [8], [3]), "body array taps"),
    ],
)  # fmt: skip
def test_build_refuses(arrays: tuple[list, list, list, list], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Body.build(*arrays)


def test_build_keeps_64_bit_tables_exact_in_a_list_of_small_and_large_ones() -> None:
    tables = [2**64 - 1, 1, 2**63 + 1]
    assert Body.build([[0, 0]], [[2] * 6] * 3, tables, [3]).table.tolist() == tables
