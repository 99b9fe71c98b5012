"""Netlists built of copies of bodies compute what the bodies compute."""

from __future__ import annotations

import numpy as np

from lgir.ir.body import Body
from lgir.ir.netlist_builder import NetlistBuilder
from lgir.ir.simulate import evaluate_body, pack_planes, unpack_planes
from lgir.ir.truth_tables import AND, XOR
from lgir.ir.types import FALSE, FIRST_TAP, TRUE

HALF_ADDER = Body.build([[0, 0], [0, 1]], [[2, 3], [2, 3]], [XOR, AND], [4, 5])


def outputs(body: Body, taps: np.ndarray) -> np.ndarray:
    """Return the outputs (n, outputs) of samples (n, taps)."""
    return unpack_planes(evaluate_body(body, pack_planes(taps))[body.outputs], len(taps))


def test_copies_read_the_nets_that_they_are_given() -> None:
    builder = NetlistBuilder(num_taps=3, k=2)
    a, b, c = builder.tap_nets(0, (3,))
    first = builder.add_copies(HALF_ADDER, np.array([[a], [b]]))[HALF_ADDER.outputs, 0]
    second = builder.add_copies(HALF_ADDER, np.array([[first[0]], [c]]))[HALF_ADDER.outputs, 0]
    body = builder.build(np.array([second[0], first[1], second[1]]))
    x = (np.arange(8)[:, None] >> np.arange(3) & 1).astype(bool)
    total, carry_1, carry_2 = outputs(body, x).T
    assert (2 * (carry_1 | carry_2).astype(int) + total == x.sum(axis=1)).all()


def test_copies_of_a_gate_lie_beside_each_other() -> None:
    builder = NetlistBuilder(num_taps=2, k=3)
    taps = np.array([[FIRST_TAP, FIRST_TAP + 1, TRUE], [FALSE, TRUE, FIRST_TAP]])
    nets = builder.add_copies(HALF_ADDER, taps)
    assert nets[:2].tolist() == [[FALSE] * 3, [TRUE] * 3]
    assert (nets[2:4] == taps).all()
    assert nets[4:].tolist() == [[4, 5, 6], [7, 8, 9]]
    assert builder.num_nets == 10


def test_a_netlist_without_gates_hands_on_its_taps() -> None:
    body = NetlistBuilder(num_taps=2, k=1).build(np.array([3, 2, 1]))
    assert (body.num_gates, body.outputs.tolist()) == (0, [3, 2, 1])
