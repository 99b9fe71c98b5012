"""lut-map: tables of at most k inputs, fewer of them, and the same function."""

from __future__ import annotations

import numpy as np
import pytest

import lgir
from bodies import body_of, flat, gates, same_outputs
from lgir.errors import PassError
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.nodes import Logic
from lgir.ir.truth_tables import AND, OR, XOR
from lgir.passes.kernels.cover import CutCovers
from lgir.passes.kernels.shannon import split_wide
from lgir.zoo import build_net
from random_graphs import random_body, random_graph, random_inputs


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_outputs_stay_equal_and_tables_fit(k):
    for seed in range(60):
        graph = random_graph(seed)
        after, _ = lgir.optimize(graph, f"lut-map{{k={k}}}", verify=None)
        assert same_outputs(graph, after, random_inputs(graph, 130)), seed
        for _, op in after.of_type(Logic):
            assert (op.body.arity() <= k).all(), seed
        again, _ = lgir.optimize(after, f"lut-map{{k={k}}}", verify=None)
        assert again is after, seed


def test_a_gate_goes_when_both_its_readers_take_it_in():
    # y = (a and b) xor c, z = (a and b) or d
    graph = flat([[2, 3], [6, 4], [6, 5]], [AND, XOR, OR], [7, 8], 4)
    body = body_of(lgir.optimize(graph, "lut-map")[0])
    assert body.fanin.tolist() == [[2, 3, 4], [2, 3, 5]]
    assert body.table.tolist() == [0b01101010, 0b11101010]


def test_a_gate_that_an_output_reads_stays():
    graph = flat([[2, 3], [4, 5]], [AND, XOR], [5, 6], 3)
    assert lgir.optimize(graph, "lut-map")[0] is graph


def test_a_tree_of_seven_gates_takes_five_tables_of_three_inputs_or_three_of_four():
    fanin = [[2, 3], [4, 5], [6, 7], [8, 9], [10, 11], [12, 13], [14, 15]]
    graph = flat(fanin, [XOR] * 7, [16], 8)
    assert gates(lgir.optimize(graph, "lut-map{k=3}")[0]) == 5
    assert gates(lgir.optimize(graph, "lut-map{k=4}")[0]) == 3


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_covers_by_cuts_compute_the_same(k):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        body = random_body([8], 0, rng, gates=60, k=2 if seed % 2 else k, outputs=8, depth_bias=0.4)
        b = GraphBuilder("body")
        graph, _ = lgir.optimize(
            b.build(b.logic([b.input("x", "bit", (8,))], body)), "fix(fold,cse)", verify=None
        )
        after = graph.map_bodies(lambda body: CutCovers(body, k).best().body(body))
        assert gates(after) <= gates(graph)
        assert all((op.body.arity() <= k).all() for _, op in after.of_type(Logic))
        assert lgir.verify(graph, after, method="exhaustive").equivalent is True, seed


def test_an_adder_takes_two_tables_a_bit():
    fanin, table, width = [], [], 12

    def gate(a: int, b: int, operation: int) -> int:
        fanin.append([a, b])
        table.append(operation)
        return 1 + 2 * width + len(fanin)

    sums, carry = [], 0
    for bit in range(width):
        a, b = 2 + bit, 2 + width + bit
        half = gate(a, b, XOR)
        sums.append(gate(half, carry, XOR))
        carry = gate(gate(a, b, AND), gate(half, carry, AND), OR)
    graph = flat(fanin, table, [*sums, carry], 2 * width)
    after, _ = lgir.optimize(graph, "lut-map{k=3}")
    assert gates(after) == 2 * width


def test_reconvergent_readers_need_no_more_inputs():
    # (a and b) xor a has two inputs
    graph = flat([[2, 3], [4, 2]], [AND, XOR], [5], 2)
    body = body_of(lgir.optimize(graph, "lut-map")[0])
    assert body.fanin.tolist() == [[2, 3]]
    assert body.table.tolist() == [0b0100]


def test_wide_gates_are_split_into_multiplexers():
    rng = np.random.default_rng(0)
    table = int(rng.integers(1 << 63, dtype=np.uint64))
    body = Body.build([[0, c] for c in range(6)], [[2, 3, 4, 5, 6, 7]], [table], [8])
    for k in (3, 4, 5):
        split = split_wide(body, k)
        assert (split.arity() <= k).all()
        b = GraphBuilder("wide")
        x = b.input("x", "bit", (6,))
        before = b.build(b.logic([x], body))
        b = GraphBuilder("split")
        x = b.input("x", "bit", (6,))
        after = b.build(b.logic([x], split))
        assert lgir.verify(before, after, method="exhaustive").equivalent is True


def test_widths_that_tables_cannot_have():
    graph = build_net("dense-1x400")
    for k in (2, 7):
        with pytest.raises(PassError, match=rf"lut-map{{k={k}}}: k must be from 3 to 6"):
            lgir.optimize(graph, f"lut-map{{k={k}}}")


@pytest.mark.parametrize(
    ("net", "limit"), [("dense-6x8000", 36_500), ("dense-6x8000-op16", 10_600)]
)
def test_golden_counts_of_three_input_tables(net, limit):
    graph = build_net(net)
    after, _ = lgir.optimize(graph, "default,lut-map{k=3}")
    assert 0.95 * limit < gates(after) <= limit


def test_a_mapped_net_is_proved_equal():
    pytest.importorskip("pysat")
    graph = build_net("dense-6x8000-op16")
    after, _ = lgir.optimize(graph, "O3")
    assert lgir.verify(graph, after, method="sat").equivalent is True


def test_named_levels_run_and_shrink():
    graph = build_net("logictreenet-8-op16")
    sizes = {}
    for name in ("O0", "O1", "O2", "O3", "size", "latency", "hardware", "throughput"):
        after, report = lgir.optimize(graph, name, verify=None)
        sizes[name] = report.after
        assert lgir.verify(graph, after).equivalent is True
    assert sizes["O0"].gates == gates(graph)
    assert sizes["O2"].unrolled <= sizes["O1"].unrolled < sizes["O0"].unrolled
    assert sizes["O3"].unrolled < sizes["O2"].unrolled
    assert sizes["size"].gates < sizes["O1"].gates


def depth(graph):
    """Return the level of the deepest net of any body; inverters and buffers add none."""
    deepest = 0
    for _, op in graph.of_type(Logic):
        level = [0] * op.body.first_gate
        for operands, arity in zip(op.body.fanin.tolist(), op.body.arity().tolist(), strict=True):
            level.append(max(level[net] for net in operands) + (arity > 1))
        deepest = max(deepest, *level)
    return deepest


@pytest.mark.parametrize("k", [3, 4, 6])
def test_the_goal_of_depth_keeps_outputs_equal_and_settles(k):
    for seed in range(12):
        graph = random_graph(seed)
        for slack in (0, 1):
            passes = f"lut-map{{k={k},goal=depth,slack={slack}}}"
            after, _ = lgir.optimize(graph, passes, verify=None)
            assert same_outputs(graph, after, random_inputs(graph, 130)), seed
            for _, op in after.of_type(Logic):
                assert (op.body.arity() <= k).all(), seed
            for _ in range(4):
                before, after = after, lgir.optimize(after, passes, verify=None)[0]
            assert after is before, seed


def test_a_chain_of_twelve_operands_takes_four_levels_of_four_inputs():
    # The first table of four inputs takes four operands, and every later one three more.
    fanin = [[2, 3], *([4 + i, 14 + i] for i in range(10))]
    graph = flat(fanin, [XOR] * 11, [24], 12)
    assert depth(lgir.optimize(graph, "lut-map{k=4,goal=depth}")[0]) == 4


def test_depth_costs_tables_and_slack_saves_them():
    graph, _ = lgir.optimize(build_net("dense-6x8000-op16"), "O1", verify=None)
    area, fast, slack = (
        lgir.optimize(graph, f"lut-map{{k=6{option}}}", verify=None)[0]
        for option in ("", ",goal=depth", ",goal=depth,slack=1")
    )
    assert depth(fast) < depth(area)
    assert depth(slack) <= depth(fast) + 1
    assert gates(area) <= gates(slack) < gates(fast)


def test_no_cover_is_shallower_than_the_goal_of_depth_finds():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        body = random_body([6], 0, rng, gates=30, k=2, outputs=4, depth_bias=0.4)
        b = GraphBuilder("body")
        graph, _ = lgir.optimize(
            b.build(b.logic([b.input("x", "bit", (6,))], body)), "fix(fold,cse,dce)", verify=None
        )
        after, _ = lgir.optimize(graph, "lut-map{k=4,goal=depth}", verify="exhaustive")
        assert depth(after) <= least_depth(graph, 4), seed


def least_depth(graph, k):
    """Return the least depth of a cover by all cuts of at most k leaves."""
    deepest = 0
    for _, op in graph.of_type(Logic):
        body = op.body
        cuts = [[frozenset([net])] for net in range(body.first_gate)]
        level = [0] * body.first_gate
        for operands, arity in zip(body.fanin.tolist(), body.arity().tolist(), strict=True):
            merged = {frozenset()}
            for net in operands[:arity]:
                merged = {a | b for a in merged for b in cuts[net] if len(a | b) <= k}
            level.append(min(max(level[net] for net in cut) for cut in merged) + (arity > 1))
            cuts.append([frozenset([len(cuts)]), *merged])
        deepest = max([deepest, *(level[net] for net in body.outputs.tolist())])
    return deepest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("goal=speed", "the goal must be area or depth"),
        ("slack=1", "slack must be 0 or more levels, and needs goal=depth"),
        ("goal=depth,slack=-1", "slack must be 0 or more levels"),
    ],
)
def test_goals_that_tables_cannot_have(options, message):
    with pytest.raises(PassError, match=message):
        lgir.optimize(build_net("dense-1x400"), f"lut-map{{{options}}}")
