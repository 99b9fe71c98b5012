"""Normalizing: the normal form, what gates turn out to equal, and sharing across levels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodies import evaluate_nets
from lgir.ir.body import Body
from lgir.ir.truth_tables import AND, NAND, OR, XNOR, XOR, full_mask, variable_table
from lgir.passes.kernels.normalize import normalize, sort_operands
from random_graphs import random_body

A, LT = 0b1100, 0b0010


def tap_literals(body: Body) -> np.ndarray:
    """The literals by which every tap stands for itself."""
    return 2 * np.arange(2, body.first_gate, dtype=np.int32)


@settings(deadline=None)
@given(st.integers(0, 1 << 32), st.booleans())
def test_normalized_bodies_are_in_normal_form(seed, share):
    rng = np.random.default_rng(seed)
    body = random_body([5], 0, rng, gates=int(rng.integers(1, 60)), k=6, outputs=4)
    taps = 2 * np.arange(2, body.first_gate, dtype=np.int32)
    new = normalize(body, taps, share).body
    assert normalize(new, taps, False).body is new
    for g in range(new.num_gates):
        operands = [net for net in new.fanin[g].tolist() if net]
        assert operands == sorted(set(operands))
        assert 1 not in operands
        assert len(operands) > 1 or int(new.table[g]) & full_mask(new.k) == full_mask(
            new.k
        ) ^ variable_table(new.k, 0)


@settings(deadline=None)
@given(st.integers(0, 1 << 32), st.booleans())
def test_outputs_equal_the_literals_that_are_told_of_them(seed, share):
    rng = np.random.default_rng(seed)
    body = random_body([5], 0, rng, gates=int(rng.integers(1, 60)), k=6, outputs=4)
    result = normalize(body, tap_literals(body), share)
    before, after = evaluate_nets(body), evaluate_nets(result.body)
    assert np.array_equal(before[body.outputs], after[result.body.outputs])
    outputs = after[result.outputs >> 1] ^ (result.outputs & 1).astype(bool)[:, None]
    assert np.array_equal(outputs, before[body.outputs])


@pytest.mark.parametrize(("table", "literal"), [(AND, 0), (OR, 6), (XOR, 6), (XNOR, 7), (LT, 6)])
def test_constant_taps_are_folded(table, literal):
    body = Body.build([[0, 0], [0, 1]], [[2, 3]], [table], [4])
    result = normalize(body, np.array([0, 6], np.int32), False)  # tap 0 is False
    assert result.outputs.tolist() == [literal]


def test_without_sharing_equal_gates_stay():
    body = Body.build([[0, 0], [0, 1]], [[2, 3], [3, 2]], [AND, NAND], [4, 5])
    assert normalize(body, tap_literals(body), False).body.num_gates == 2
    shared = normalize(body, tap_literals(body), True)
    assert shared.outputs.tolist() == [8, 9]
    assert shared.body.table.tolist() == [AND, 0b0011]  # the second is an inverter of the first


def test_a_gate_that_moves_to_a_lower_level_unsettles_the_body():
    # gate 6 reads a buffer, so it belongs in the level of gate 4, which it equals
    body = Body.build([[0, 0], [0, 1]], [[2, 3], [2, 3], [5, 3]], [AND, A, AND], [4, 6])
    first = normalize(body, tap_literals(body), True)
    assert not first.settled
    second = normalize(first.body, tap_literals(first.body), True)
    assert second.settled
    assert second.outputs.tolist() == [8, 8]


def test_operands_are_sorted_with_constants_last():
    nets = [np.array([0, 5], np.int32), np.array([7, 4], np.int32), np.array([3, 0], np.int32)]
    first = np.array([variable_table(3, 1), variable_table(3, 0)], np.uint8)  # of nets 7 and 5
    tables = sort_operands(nets, first, 3)
    assert np.stack(nets, axis=1).tolist() == [[3, 7, 0], [4, 5, 0]]
    assert tables.tolist() == [variable_table(3, 1)] * 2
