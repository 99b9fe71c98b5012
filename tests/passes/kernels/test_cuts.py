"""Cuts: leaves separate a net from the inputs, and tables are functions of the leaves."""

from __future__ import annotations

import numpy as np
import pytest

from bodies import evaluate_nets
from lgir.ir.body import Body
from lgir.ir.truth_tables import AND, XOR, reverse_inputs
from lgir.passes.kernels.cuts import NEVER, priority_cuts, recover_area, small_cuts
from random_graphs import PROPER

WIDTH = 5


def random_pairs(seed: int, gates: int = 40) -> Body:
    """A body of two-input gates with distinct, ascending operands, over WIDTH taps."""
    rng = np.random.default_rng(seed)
    net = 2 + WIDTH + np.arange(gates)
    a = rng.integers(2, net - 1)
    b = rng.integers(a + 1, net)
    taps = [[0, c] for c in range(WIDTH)]
    return Body.build(taps, np.stack([a, b], axis=1), rng.choice(PROPER, gates), [net[-1], net[-3]])


def by_net(body: Body) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, 2) operands, (N,) tables and (N,) which nets are gates."""
    fanin, table = np.zeros((body.num_nets, 2), np.int32), np.zeros(body.num_nets, np.uint8)
    fanin[body.first_gate :], table[body.first_gate :] = body.fanin, body.table
    return fanin, table, np.arange(body.num_nets) >= body.first_gate


def wide_tables(table: np.ndarray) -> np.ndarray:
    """Two-input tables as tables of cuts: the first leaf least significant, repeated to 64 bits."""
    wide = reverse_inputs(table, 2)
    for i in range(2, 6):
        wide |= wide << np.uint64(1 << i)
    return wide


def run_priority_cuts(body: Body, k: int, most: int = 8):
    fanin, table, gate = by_net(body)
    arity = np.where(gate, 2, 0).astype(np.int8)
    fixed = np.bincount(body.outputs, minlength=body.num_nets).astype(np.int32)
    cuts = priority_cuts(fanin, arity, wide_tables(table), fixed, most, k, 2)
    return cuts, fanin, arity, fixed


def check_tables(body: Body, leaves, sizes, tables, counts) -> int:
    """Every table gives the net's value at the leaves' values; returns the cuts checked."""
    values = evaluate_nets(body).astype(np.int64)
    checked = 0
    for net in range(body.first_gate, body.num_nets):
        for cut in range(counts[net]):
            size = sizes[net, cut]
            leaf = leaves[net, cut, :size]
            assert (np.diff(leaf) > 0).all()
            assert (leaf < net).all()
            index = sum(values[x] << j for j, x in enumerate(leaf.tolist()))
            assert (int(tables[net, cut]) >> index.astype(object) & 1 == values[net]).all()
            checked += 1
    return checked


@pytest.mark.parametrize("seed", range(5))
def test_tables_of_small_cuts_are_the_nets_functions_of_the_leaves(seed):
    body = random_pairs(seed)
    cuts = small_cuts(*by_net(body), body.num_nets, 8)
    assert check_tables(body, *cuts) > 2 * body.num_gates
    assert cuts[1].max() <= 4


@pytest.mark.parametrize("k", [3, 4, 6])
def test_tables_of_priority_cuts_are_the_nets_functions_of_the_leaves(k):
    body = random_pairs(k)
    cuts, _, _, _ = run_priority_cuts(body, k)
    assert check_tables(body, *cuts) > body.num_gates
    assert cuts[1].max() <= k


def test_a_gates_own_operands_are_among_its_cuts():
    taps = [[0, c] for c in range(3)]
    body = Body.build(taps, [[2, 3], [4, 5]], [AND, XOR], [6])
    leaves, sizes, _, counts = small_cuts(*by_net(body), body.num_nets, 8)
    cuts = {tuple(leaves[6, i, : sizes[6, i]].tolist()) for i in range(counts[6])}
    assert cuts == {(4, 5), (2, 3, 4)}


def test_the_cuts_of_most_gates_for_their_leaves_are_kept():
    # (a and b) xor a: the cut of both bits spans two gates, that of its own operands one
    body = Body.build([[0, 0], [0, 1]], [[2, 3], [2, 4]], [AND, XOR], [5])
    leaves, sizes, _, counts = small_cuts(*by_net(body), body.num_nets, 1)
    assert counts[5] == 1
    assert leaves[5, 0, : sizes[5, 0]].tolist() == [2, 3]


def test_recovered_readers_count_the_cuts_and_outputs_that_read_each_net():
    for seed in range(5):
        body = random_pairs(seed)
        cuts, fanin, arity, fixed = run_priority_cuts(body, 4)
        nothing = np.zeros((body.num_nets, 4), np.int32)
        size = np.full(body.num_nets, -1, np.int8)
        tables = np.zeros(body.num_nets, np.uint64)
        start = np.zeros(body.num_nets, np.int32)
        best, readers = recover_area(
            *cuts, nothing, size, tables, fanin, arity, fixed, start, NEVER, 3
        )
        leaves, sizes, _, _ = cuts
        expected = fixed.copy()
        for net in range(body.num_nets - 1, body.first_gate - 1, -1):
            if expected[net]:
                for leaf in leaves[net, best[net], : sizes[net, best[net]]].tolist():
                    expected[leaf] += 1
        assert np.array_equal(readers, expected)
