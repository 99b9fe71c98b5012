"""reassociate and unroll: other shapes of the same logic."""

from __future__ import annotations

import pytest

import lgir
from bodies import body_of, flat, gates, same_outputs
from lgir.errors import PassError
from lgir.ir.nodes import Logic
from lgir.ir.truth_tables import AND, NAND, NOR, OR, XNOR, XOR
from lgir.zoo import build_net
from random_graphs import random_graph, random_inputs


@pytest.mark.parametrize(
    "passes", ["reassociate", "fix(reassociate,fold,cse,dce)", "unroll", "unroll,default", "O3"]
)
def test_outputs_stay_equal_and_a_second_run_changes_nothing(passes):
    for seed in range(80):
        graph = random_graph(seed, max_fanin=2 if seed % 2 else 6)
        after, _ = lgir.optimize(graph, passes, verify=None)
        assert same_outputs(graph, after, random_inputs(graph, 130)), seed
        if passes in ("reassociate", "fix(reassociate,fold,cse,dce)", "unroll"):
            again, _ = lgir.optimize(after, passes, verify=None)
            assert again is after, seed


TREE = [[2, 3], [4, 5], [6, 7], [8, 9], [10, 11], [12, 13], [14, 15]]


@pytest.mark.parametrize(
    "tables",
    [
        [AND] * 7,
        [XOR] * 7,
        [OR] * 7,
        [XNOR, XOR] * 3 + [XNOR],
        [NOR, NOR, NOR, NOR, AND, AND, NAND],  # De Morgan: the complements cancel
    ],
)
def test_a_balanced_tree_becomes_a_chain_that_packs_into_four_tables(tables):
    graph = flat(TREE, tables, [16], 8)
    after, _ = lgir.optimize(graph, "reassociate")
    assert gates(after) == 7
    assert int(body_of(after).levels().max()) == 7
    mapped, _ = lgir.optimize(after, "lut-map{k=3}")
    assert gates(mapped) == 4
    assert lgir.verify(graph, mapped, method="exhaustive").equivalent is True


def test_repeated_and_opposite_operands_of_a_tree():
    # (a and b) and (a and c): a counts once
    graph = flat([[2, 3], [2, 4], [5, 6]], [AND, AND, AND], [7], 3)
    assert gates(lgir.optimize(graph, "reassociate,fix(fold,dce)")[0]) == 2
    # (a and b) and (not a and c) is False
    graph = flat([[2, 3], [2, 4], [5, 6]], [AND, 0b0010, AND], [7], 3)
    assert body_of(lgir.optimize(graph, "reassociate,fix(fold,dce)")[0]).outputs.tolist() == [0]
    # (a xor b) xor (a xor c) is b xor c; three times a is a
    graph = flat([[2, 3], [2, 4], [5, 6]], [XOR, XOR, XOR], [7], 3)
    body = body_of(lgir.optimize(graph, "reassociate,fix(fold,dce)")[0])
    assert (body.num_gates, body.num_taps) == (1, 2)
    graph = flat([[2, 3], [2, 2], [4, 5], [6, 2]], [XOR, AND, XOR, XOR], [7], 2)
    after, _ = lgir.optimize(graph, "fix(fold,reassociate,dce)")
    assert lgir.verify(graph, after, method="exhaustive").equivalent is True
    assert gates(after) == 1


def test_a_gate_that_others_read_starts_its_own_chain():
    graph = flat([[2, 3], [4, 5], [6, 7]], [AND, AND, AND], [6, 8], 4)
    body = body_of(lgir.optimize(graph, "reassociate")[0])
    assert body.num_gates == 3
    assert body.outputs.tolist()[0] in range(6, 9)


def test_unrolled_convolutions_are_one_dense_body():
    graph = build_net("logictreenet-8-op16")
    before, _ = lgir.optimize(graph, "O1")
    after, report = lgir.optimize(graph, "unroll,default")
    assert [n.op_type for n in after.nodes].count("Logic") == 1
    assert all(not op.space for _, op in after.of_type(Logic))
    rolled = sum(op.body.num_gates * op.positions for _, op in before.of_type(Logic))
    assert report.after.gates < rolled


def test_unrolling_has_a_limit():
    with pytest.raises(PassError, match=r"exceed the limit of 1,000; set limit="):
        lgir.optimize(build_net("logictreenet-8"), "unroll{limit=1000}")
