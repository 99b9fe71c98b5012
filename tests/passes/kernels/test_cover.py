"""Covers: tables of at most k inputs that compute the body, none of them without a reader."""

from __future__ import annotations

import numpy as np
import pytest

from bodies import evaluate_nets
from lgir.ir.body import Body
from lgir.ir.truth_tables import AND, OR, XOR
from lgir.passes.dce import live_nets
from lgir.passes.kernels.cover import CoverParams, CutCovers, LutCover
from lgir.passes.kernels.elimination import eliminate
from lgir.passes.kernels.normalize import normalize
from random_graphs import random_body


def normal_body(seed: int, k: int) -> Body:
    rng = np.random.default_rng(seed)
    body = random_body([6], 0, rng, gates=50, k=k, outputs=6, depth_bias=0.4)
    body = normalize(body, 2 * np.arange(2, body.first_gate, dtype=np.int32), True).body
    live = live_nets(body, np.ones(len(body.outputs), bool))
    live[: body.first_gate] = True
    return body.restricted(live).widened(k)


def output_values(body: Body) -> np.ndarray:
    return evaluate_nets(body)[body.outputs]


@pytest.mark.parametrize("k", [3, 4, 6])
def test_a_cover_computes_the_body_and_has_no_table_without_a_reader(k):
    for seed in range(8):
        body = normal_body(seed, k)
        gates = LutCover.of_gates(body)
        for cover in (
            CutCovers(body, k).best(),
            CutCovers(body, k).improved(gates),
            eliminate(body, gates),
        ):
            new = cover.body(body)
            assert len(cover) == new.num_gates <= body.num_gates
            assert np.array_equal(output_values(new), output_values(body)), seed
            is_read = np.zeros(body.num_nets, bool)
            is_read[body.outputs] = True
            is_read[cover.fanin[cover.alive]] = True
            assert is_read[body.first_gate :][cover.alive].all()


def test_the_gates_of_a_body_are_a_cover_of_it():
    body = normal_body(1, 4)
    assert LutCover.of_gates(body).body(body) == body
    assert len(LutCover.of_gates(body)) == body.num_gates


def test_an_adder_bit_is_two_tables_of_three_inputs():
    taps = [[0, c] for c in range(3)]
    fanin = [[2, 3], [4, 5], [2, 3], [4, 5], [7, 8]]
    body = Body.build(taps, fanin, [XOR, XOR, AND, AND, OR], [6, 9]).widened(3)
    cover = CutCovers(body, 3).best()
    assert len(cover) == 2
    assert cover.fanin[cover.alive].tolist() == [[2, 3, 4], [2, 3, 4]]
    assert cover.table[cover.alive].tolist() == [0b10010110, 0b11101000]


def test_improving_never_adds_tables():
    for seed in range(8):
        body = normal_body(seed, 3)
        covers = CutCovers(body, 3, CoverParams(cuts=6, flow_rounds=2, area_rounds=2))
        gates = LutCover.of_gates(body)
        assert len(covers.improved(gates)) <= len(gates)
        reduced = eliminate(body, gates)
        assert len(covers.improved(reduced)) <= len(reduced)


def test_a_table_that_both_readers_absorb_is_eliminated():
    taps = [[0, c] for c in range(4)]
    body = Body.build(taps, [[2, 3], [4, 6], [5, 6]], [AND, XOR, OR], [7, 8]).widened(3)
    cover = eliminate(body, LutCover.of_gates(body))
    assert cover.alive.tolist() == [False, True, True]
    kept = Body.build(taps, [[2, 3], [4, 6], [5, 6]], [AND, XOR, OR], [6, 7, 8]).widened(3)
    assert len(eliminate(kept, LutCover.of_gates(kept))) == 3
