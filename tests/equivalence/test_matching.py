"""Proofs body by body: convolutions are never unrolled where their bodies compute the same.

The quick simulation at the start of a proof is kept blind, so that bugs are left to the proof.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import lgir
from lgir.equivalence import proof
from lgir.equivalence.verdict import Verdict
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import AND, NAND, OR, XOR
from lgir.zoo import build_net, random_tree_body

pytest.importorskip("pysat")

A, NOT_A, NOT_B = 0b1100, 0b0011, 0b0101


@pytest.fixture
def rolled(monkeypatch):
    """Makes a proof that unrolls what is left fail."""

    def fail(atlas, pairs, *rest):
        raise AssertionError(f"{[pair.name for pair in pairs]} were not proved body by body")

    monkeypatch.setattr(proof, "_compare_unrolled", fail)


def prove(a: Graph, b: Graph) -> Verdict:
    return lgir.verify(a, b, method="sat")


def refuted(a: Graph, b: Graph) -> Verdict:
    """The verdict of a proof that must find a sample, which is tried."""
    verdict = prove(a, b)
    assert verdict.equivalent is False, verdict
    x = [value[None] for value in verdict.counterexample.inputs]
    left, right = (lgir.compile(g, "reference")(*x) for g in (a, b))
    position = (0, *verdict.counterexample.index)
    assert (left[position], right[position]) == (
        verdict.counterexample.left,
        verdict.counterexample.right,
    )
    assert left[position] != right[position]
    return verdict


def with_body(graph: Graph, name: str, change) -> Graph:
    """The graph with one body's taps, fan-in, tables and outputs changed in place by `change`."""

    def edit(node):
        body = node.op.body
        parts = [x.copy() for x in (body.taps, body.fanin, body.table, body.outputs)]
        change(*parts)
        return replace(node, op=replace(node.op, body=Body.build(*parts)))

    return graph.with_nodes(edit(n) if n.output == name else n for n in graph.nodes)


@pytest.mark.parametrize("passes", ["O1", "default", "O3", "latency", "size", "merge,sweep"])
@pytest.mark.parametrize("op16", [False, True])
def test_optimized_convolutions_are_proved_without_unrolling(rolled, passes, op16):
    graph = build_net("logictreenet-8" + "-op16" * op16)
    after, _ = lgir.optimize(graph, passes, verify=None)
    assert prove(graph, after).equivalent is True
    assert prove(after, graph).equivalent is True


def test_volumes_and_strides_are_proved_without_unrolling(rolled):
    def net() -> Graph:
        rng = np.random.default_rng(0)
        b = GraphBuilder("volume")
        x = b.input("x", "bit", (2, 5, 6, 7))
        for stride in (1, 2):
            taps = np.column_stack(
                [np.zeros(8, int), rng.integers(2, size=8), rng.integers(-1, 2, size=(8, 3))]
            )
            body = Body.build(
                taps,
                [[2, 3], [4, 5], [6, 7], [8, 9], [10, 11], [12, 13]],
                [AND, XOR, OR, NAND, OR, XOR],
                [14, 15],
            )
            space = tuple(-(-n // stride) for n in x.shape[1:])
            x = b.or_pool(b.logic([x], body, space, (stride,) * 3), (1, 2, 2))
        return b.build(b.group_sum(b.flatten(x), 1))

    graph = net()
    after, _ = lgir.optimize(graph, "O3", verify=None)
    assert prove(graph, after).equivalent is True


def test_one_wrong_channel_is_found(blind):
    rng = np.random.default_rng(3)
    b = GraphBuilder("small")
    x = b.input("x", "bit", (2, 6, 6))
    y = b.logic([x], random_tree_body(2, 4, rng=rng), (6, 6), name="conv")
    y = b.flatten(b.or_pool(y, (2, 2), name="pool"))
    graph = b.build(b.group_sum(y, 1, name="score"))
    after, _ = lgir.optimize(graph, "O1", verify=None)
    assert prove(graph, after).equivalent is True

    def flip(taps, fanin, table, outputs):
        table[outputs[2] - len(taps) - 2] ^= 0b0110

    verdict = refuted(graph, with_body(after, "conv", flip))
    assert verdict.counterexample.output == "score"


def inside(offset: int, table: int, space: tuple[int, int] = (4, 4)) -> Graph:
    """x combined with a read of a constant True channel: False beyond the border only."""
    b = GraphBuilder("inside")
    x = b.input("x", "bit", (1, *space))
    y = b.logic([x], Body.build([[0, 0, 0, 0]], np.zeros((0, 1)), [], [2, 1]), space, name="y")
    body = Body.build([[0, 0, 0, 0], [0, 1, offset, 0]], [[2, 3]], [table], [4])
    return b.build(b.logic([y], body, space, name="z"))


def test_a_bug_that_shows_at_the_border_only_is_found(rolled, blind):
    assert prove(inside(0, AND), inside(0, A)).equivalent is True
    # Beyond the last row: x and True, which is False there only.
    assert prove(inside(1, XOR), inside(1, XOR)).equivalent is True


def test_a_read_beyond_the_border_is_not_true(blind):
    verdict = refuted(inside(1, AND), inside(1, A))
    assert verdict.counterexample.index[1] == 3


def middle(split: bool, first: int, second: int, offset: int) -> Graph:
    """Two convolutions around a padded middle value that the two forms of the net divide otherwise.

    The middle holds `first` of two bits, or both bits apart, to which the reader applies `second`.
    """
    b = GraphBuilder("middle")
    x = b.input("x", "bit", (2, 5, 5))
    taps = [[0, 0, 0, 0], [0, 1, 0, 1]]
    if split:
        y = b.logic([x], Body.build(taps, np.zeros((0, 1)), [], [2, 3]), (5, 5), name="y")
        reads = [[0, 0, offset, offset], [0, 1, offset, offset], [0, 0, 0, 0]]
        body = Body.build(reads, [[2, 3], [5, 4]], [second, XOR], [6])
    else:
        y = b.logic([x], Body.build(taps, [[2, 3]], [first], [4, 2]), (5, 5), name="y")
        body = Body.build([[0, 0, offset, offset], [0, 1, 0, 0]], [[2, 3]], [XOR], [4])
    return b.build(b.logic([y], body, (5, 5), name="z"))


def test_padding_of_a_value_that_only_one_side_has_is_proved_by_classes_of_positions(rolled, blind):
    for offset in (-1, 0, 2):
        assert prove(middle(False, AND, 0, offset), middle(True, 0, AND, offset)).equivalent is True
        assert prove(middle(True, 0, OR, offset), middle(False, OR, 0, offset)).equivalent is True


def test_padding_that_an_inverter_moved_over_shows_at_the_border(blind):
    # NAND of what lies outside is True, the NAND read outside is False.
    verdict = refuted(middle(False, NAND, 0, 2), middle(True, 0, NAND, 2))
    assert max(verdict.counterexample.index[1:]) >= 3
    assert prove(middle(False, NAND, 0, 0), middle(True, 0, NAND, 0)).equivalent is True


def test_thresholds_imply_each_other_at_every_position(rolled, blind):
    graph = build_net("logictreenet-8")
    after, _ = lgir.optimize(graph, "thermometer,fold,dce", verify=None)
    assert prove(graph, after).equivalent is True


def test_using_an_implication_the_wrong_way_is_found(blind):
    b = GraphBuilder("levels")
    x = b.threshold(b.input("x", "u8", (1, 4, 4)), [10.0, 20.0])
    taps = [[0, 0, -1, 0], [0, 1, -1, 0]]
    graph = b.build(b.logic([x], Body.build(taps, [[2, 3]], [AND], [4]), (4, 4), name="y"))

    def first_only(taps, fanin, table, outputs):
        table[0] = A

    def second_only(taps, fanin, table, outputs):
        table[0] = 0b1010

    assert prove(graph, with_body(graph, "y", second_only)).equivalent is True
    verdict = refuted(graph, with_body(graph, "y", first_only))
    assert verdict.counterexample.index[1] > 0
    assert (verdict.counterexample.inputs[0] > 10).any()


def test_dead_channels_and_duplicates_need_no_partner(rolled, blind):
    def net(channels: list[int], reads: list[int]) -> Graph:
        b = GraphBuilder("dead")
        x = b.input("x", "bit", (2, 4, 4))
        taps = [[0, 0, 0, 0], [0, 1, 0, 1]]
        body = Body.build(taps, [[2, 3], [3, 2], [2, 3]], [AND, AND, OR], channels)
        y = b.logic([x], body, (4, 4), name="y")
        reader = Body.build([[0, reads[0], 0, 0], [0, reads[1], 1, 1]], [[2, 3]], [XOR], [4])
        return b.build(b.logic([y], reader, (4, 4), name="z"))

    # Channel 1 equals channel 0, channel 2 is read by nobody.
    assert prove(net([4, 5, 6], [0, 1]), net([4], [0, 0])).equivalent is True
    assert prove(net([4], [0, 0]), net([6, 5, 4], [2, 1])).equivalent is True


def test_sums_may_hold_constants_and_complements_in_any_number():
    def net(outputs: list[int], beta: float) -> Graph:
        b = GraphBuilder("sums")
        x = b.input("x", "bit", (2,))
        body = Body.build([[0, 0], [0, 1]], [[2, 3], [2, 3], [2, 0]], [AND, NAND, NOT_A], outputs)
        return b.build(b.group_sum(b.logic([x], body, name="y"), 1, 3.0, beta, name="score"))

    # a & b and its complement count 1, not a counts 1 - a, the constant counts 1.
    assert prove(net([4, 5, 3], 0.5), net([1, 3], 0.5)).equivalent is True
    assert prove(net([4, 5, 3], 0.5), net([3], 1.5)).equivalent is True
    assert prove(net([6, 2], 0.0), net([1], 0.0)).equivalent is True
    assert refuted(net([6, 2], 0.0), net([0], 0.0)).counterexample.left != 0
    assert prove(net([4, 2], 0.0), net([4, 2], 1.0)).equivalent is False


def test_a_bug_behind_convolutions_that_few_samples_show_is_found(blind):
    """A dense head that unlocks on one pattern of one channel."""

    def net(opens: bool) -> Graph:
        b = GraphBuilder("lock")
        x = b.input("x", "bit", (1, 6, 6))
        body = Body.build([[0, 0, 0, 0], [0, 0, 0, 1]], [[2, 3]], [XOR], [4])
        y = b.flatten(b.logic([x], body, (6, 6), name="conv"))
        taps, fanin, last = [[0, c] for c in range(36)], [], 2
        for c in range(1, 36):
            fanin.append([last, 2 + c])
            last = 37 + c
        return b.build(b.logic([y], Body.build(taps, fanin, [AND] * 35, [last if opens else 0])))

    assert refuted(net(True), net(False)).counterexample.inputs[0].sum() > 10
