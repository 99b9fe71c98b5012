"""fold, cse, dce and merge: what each does on small graphs, and that outputs never change."""

from __future__ import annotations

import numpy as np
import pytest

import lgir
from bodies import flat, same_outputs
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Reshape, Threshold
from lgir.ir.truth_tables import AND, NAND, OR, XNOR, XOR
from lgir.passes.pipeline import Pipeline
from lgir.zoo import build_net
from random_graphs import all_inputs, random_graph, random_inputs

PASSES = ["fold", "cse", "dce", "merge", "fuse-pool", "default"]

NOT_A, A, GT, LT = 0b0011, 0b1100, 0b0100, 0b0010


def run(graph: Graph, passes: str) -> Graph:
    after, _ = Pipeline.parse(passes).run(graph)
    return after


def body_of(graph: Graph, node: int = -1) -> Body:
    return [op.body for _, op in graph.of_type(Logic)][node]


# every pass on random graphs


@pytest.mark.parametrize("start", range(0, 300, 50))
def test_outputs_stay_equal_and_a_second_run_changes_nothing(start):
    for seed in range(start, start + 50):
        graph = random_graph(seed)
        for name in PASSES:
            pipeline = Pipeline.parse(name)
            after, _ = pipeline.run(graph, verify=None)
            assert same_outputs(graph, after, random_inputs(graph, 130)), (seed, name)
            again, _ = pipeline.run(after, verify=None)
            assert again is after, (seed, name)


def test_outputs_stay_equal_on_every_input():
    for seed in range(60):
        graph = random_graph(seed, max_input_bits=10)
        after = run(graph, "default")
        assert same_outputs(graph, after, all_inputs(graph)), seed


def test_passes_never_add_gates():
    for seed in range(300, 340):
        graph = random_graph(seed)
        for name in ("fold", "cse", "dce", "merge", "fix(merge,fold,cse,dce)"):
            _, report = Pipeline.parse(name).run(graph, verify=None)
            assert report.after.unrolled <= report.before.unrolled, (seed, name)


@pytest.mark.parametrize(
    ("net", "gates", "unrolled"),
    [
        ("dense-6x8000", 47_977, 47_977),
        ("dense-6x8000-op16", 15_253, 15_253),
        ("logictreenet-8", 30_801, 236_367),
        ("logictreenet-8-op16", 4_099, 56_557),
    ],
)
def test_golden_gate_counts_of_the_default_pipeline(net, gates, unrolled):
    _, report = lgir.optimize(build_net(net))
    assert (report.after.gates, report.after.unrolled) == (gates, unrolled)


# fold


@pytest.mark.parametrize(
    ("fanin", "table", "literal"),
    [
        ([2, 1], AND, 2),  # x and 1
        ([2, 0], OR, 2),
        ([2, 0], AND, 0),
        ([1, 2], OR, 1),
        ([2, 2], AND, 2),
        ([2, 2], XOR, 0),
        ([2, 2], XNOR, 1),
        ([2, 3], A, 2),
        ([2, 3], 0b1111, 1),
        ([0, 1], LT, 1),
    ],
)
def test_fold_replaces_a_gate_by_what_it_equals(fanin, table, literal):
    body = body_of(run(flat([fanin], [table], [6]), "fold"))
    assert body.num_gates == 0
    assert body.outputs.tolist() == [literal]


def test_fold_moves_an_inverter_into_its_readers():
    graph = flat([[2, 3], [4, 6]], [NOT_A, AND], [7])
    body = body_of(run(graph, "fold"))
    assert body.fanin.tolist() == [[2, 4]]
    assert body.table.tolist() == [LT]  # not x0 and x2


def test_fold_keeps_the_inverter_of_an_output():
    body = body_of(run(flat([[2, 2]], [NAND], [6]), "fold"))
    assert body.fanin.tolist() == [[2]]
    assert body.table.tolist() == [0b01]


def test_fold_complements_a_gate_that_outputs_read_as_its_complement_only():
    # outputs: not g, and not g xor x2, for g = x0 and x1
    graph = flat([[2, 3], [6, 0], [7, 4]], [AND, NOT_A, XOR], [7, 8])
    after = run(graph, "fold")
    body = body_of(after)
    assert body.fanin.tolist() == [[2, 3], [4, 6]]
    assert body.table.tolist() == [NAND, XOR]
    assert same_outputs(graph, after, random_inputs(graph, 130))
    both = flat([[2, 3], [6, 0]], [AND, NOT_A], [6, 7])
    assert run(both, "fold") is both


def test_fold_cancels_two_inverters():
    body = body_of(run(flat([[2, 3], [6, 6]], [NOT_A, NAND], [7]), "fold"))
    assert body.num_gates == 0
    assert body.outputs.tolist() == [2]


def test_fold_narrows_a_gate_of_six_inputs_to_what_matters():
    # mux of nets 4 and 5 by net 2, written over six inputs of which three are noise
    mux = 0
    for i in range(64):
        x = [i >> (5 - j) & 1 for j in range(6)]
        mux |= (x[4] if x[0] else x[2]) << i
    graph = flat([[2, 3, 4, 0, 5, 2]], [mux], [6])
    body = body_of(run(graph, "fold"))
    assert body.fanin.tolist() == [[2, 4, 5]]
    assert body.table.tolist() == [0b10101100]


def two_convs(first: Body, second: Body, *, space=(4, 4)) -> Graph:
    b = GraphBuilder("convs")
    x = b.input("x", "bit", (1, 4, 4))
    y = b.logic([x], first, (4, 4))
    return b.build(b.logic([y], second, space))


ONE_AND_COPY = Body.build([[0, 0, 0, 0]], np.zeros((0, 1)), [], [1, 2])


def test_a_channel_of_ones_is_not_folded_where_a_tap_leaves_it():
    edge = Body.build([[0, 0, -1, 0], [0, 1, 0, 0]], [[2, 3]], [AND], [4])
    graph = two_convs(ONE_AND_COPY, edge)
    after = run(graph, "fold")
    assert body_of(after).num_gates == 1
    assert same_outputs(graph, after, random_inputs(graph, 130))


def test_a_channel_of_ones_is_folded_where_no_tap_leaves_it():
    inside = Body.build([[0, 0, 1, 0], [0, 1, 0, 0]], [[2, 3]], [AND], [4])
    graph = two_convs(ONE_AND_COPY, inside, space=(3, 4))
    body = body_of(run(graph, "fold"))
    assert body.num_gates == 0
    assert body.outputs.tolist() == [3]


def test_a_channel_of_zeros_is_folded_at_the_edge_too():
    zero = Body.build([[0, 0, 0, 0]], np.zeros((0, 1)), [], [0, 2])
    edge = Body.build([[0, 0, -1, 0], [0, 1, 0, 0]], [[2, 3]], [OR], [4])
    assert body_of(run(two_convs(zero, edge), "fold")).num_gates == 0


def test_a_tap_that_is_always_outside_reads_false():
    far = Body.build([[0, 0, 0, 0], [0, 0, 9, 0]], [[2, 3]], [OR], [4])
    b = GraphBuilder("far")
    graph = b.build(b.logic([b.input("x", "bit", (1, 4, 4))], far, (4, 3)))
    assert body_of(run(graph, "fold")).num_gates == 0


def test_constants_cross_thresholds_and_reshapes():
    b = GraphBuilder("levels")
    x = b.input("x", "u8", (1, 2, 2))
    bits = b.threshold(x, [-1.0, 100.0, 255.0])  # always, sometimes, never
    flat_bits = b.reshape(bits, (12,))
    graph = b.build(b.dense(flat_bits, [0, 4, 8], [5, 9, 6], [1, 7, 7]))
    body = body_of(run(graph, "fold"))
    assert body.num_gates == 0
    assert body.outputs.tolist() == [2 + 5, 2 + 4, 2 + 6]


def test_fold_bypasses_a_node_that_copies_its_input():
    b = GraphBuilder("copy")
    x = b.input("x", "bit", (2, 3, 3))
    copy = Body.build([[0, 0, 0, 0], [0, 1, 0, 0]], np.zeros((0, 1)), [], [2, 3])
    y = b.logic([x], copy, (3, 3))
    z = b.reshape(b.reshape(y, (6, 3)), (18,))
    graph = b.build(b.group_sum(z, 2))
    after = run(graph, "fix(fold,dce)")
    assert [n.op_type for n in after.nodes] == ["Reshape", "GroupSum"]
    assert after.nodes[0].inputs == ("x",)


# cse


def test_cse_merges_equal_gates_whatever_the_order_of_operands():
    graph = flat([[2, 3], [3, 2], [6, 7]], [GT, LT, OR], [8, 6])
    body = body_of(run(graph, "cse"))
    assert body.num_gates == 1
    assert body.outputs.tolist() == [6, 6]


def test_cse_merges_permuted_gates_of_three_inputs():
    mux, swapped = 0b11001010, 0b10101100  # first operand selects; last two exchanged
    graph = flat([[2, 3, 4], [2, 4, 3], [6, 7, 0]], [mux, swapped, 0b00111100], [8])
    body = body_of(run(graph, "cse"))
    assert body.outputs.tolist() == [0]  # x xor x


def test_cse_shares_a_gate_with_its_complement():
    graph = flat([[2, 3], [2, 3], [6, 7]], [AND, NAND, OR], [8])
    assert body_of(run(graph, "cse")).outputs.tolist() == [1]
    body = body_of(run(flat([[2, 3], [2, 3]], [AND, NAND], [6, 7]), "cse"))
    assert body.fanin.tolist() == [[2, 3], [6, 0]]
    assert body.table.tolist() == [AND, NOT_A]


def test_cse_finds_gates_that_only_folding_brings_to_one_level():
    # gate 7 equals gate 6 once the buffer in front of it is gone
    graph = flat([[2, 3], [2, 4], [7, 3]], [AND, A, AND], [6, 8])
    body = body_of(run(graph, "cse"))
    assert body.num_gates == 1


def test_cse_merges_taps_and_equal_channels():
    first = Body.build([[0, 0, 0, 0], [0, 0, 0, 1]], [[2, 3]], [XOR], [4, 2, 4])
    second = Body.build([[0, 2, 0, -1], [0, 0, 0, -1]], [[2, 3]], [XOR], [4])
    after = run(two_convs(first, second), "cse")
    assert body_of(after).outputs.tolist() == [0]


def test_a_complemented_channel_is_shared_only_inside_its_value():
    pair = Body.build([[0, 0, 0, 0]], [[2]], [0b01], [2, 3])
    edge = Body.build([[0, 0, 0, -1], [0, 1, 0, -1]], [[2, 3]], [XOR], [4])
    graph = two_convs(pair, edge)
    after = run(graph, "cse")
    assert body_of(after).num_gates == 1
    assert same_outputs(graph, after, random_inputs(graph, 130))
    inside = Body.build([[0, 0, 0, 1], [0, 1, 0, 1]], [[2, 3]], [XOR], [4])
    assert body_of(run(two_convs(pair, inside, space=(4, 3)), "cse")).outputs.tolist() == [1]


def skipping(first: Body, second: Body, *, space=(4, 4), also_read: bool = True) -> Graph:
    """A convolution of x, and one that reads its channels as input 0 and x as input 1."""
    b = GraphBuilder("skip")
    x = b.input("x", "bit", (2, 4, 4))
    y = b.logic([x], first, (4, 4))
    return b.build(b.logic([y, x] if also_read else [y], second, space))


COPY_AND_GATE = Body.build([[0, 1, 0, 0], [0, 0, 0, 1]], [[2, 3]], [XOR], [2, 4])


def test_cse_reads_past_a_channel_that_hands_on_another():
    edge = Body.build([[0, 0, -1, 0], [1, 1, -1, 0]], [[2, 3]], [XOR], [4])
    graph = skipping(COPY_AND_GATE, edge)
    after = run(graph, "fix(cse,dce)")
    assert body_of(after).outputs.tolist() == [0]
    assert same_outputs(graph, after, random_inputs(graph, 130))


def test_cse_reads_past_nodes_that_only_hand_on():
    swap = Body.build([[0, 0, 0, 0], [0, 1, 0, 0]], [[2]], [0b01], [3, 4])
    edge = Body.build([[0, 0, -1, 0], [0, 0, 0, 1]], [[2, 3]], [XOR], [4])
    graph = skipping(swap, edge, also_read=False)
    after = run(graph, "fix(cse,dce)")
    assert [n.inputs for n in after.nodes] == [("x",)]
    assert body_of(after).taps[:, 1].tolist() == [1, 1]
    assert same_outputs(graph, after, random_inputs(graph, 130))
    both = Body.build([[0, 0, 0, 0], [0, 1, 0, 0]], [[2, 3]], [XOR], [4])
    assert len(run(skipping(COPY_AND_GATE, both, also_read=False), "fix(cse,dce)").nodes) == 2


def test_a_complement_is_read_past_only_inside_its_value():
    pair = Body.build([[0, 0, 0, 0], [0, 0, 0, 1]], [[2], [3]], [0b01, 0b01], [4, 5])
    inside = Body.build([[0, 0, 1, 0], [1, 0, 1, 0]], [[2, 3]], [XOR], [4])
    assert body_of(run(skipping(pair, inside, space=(3, 4)), "cse")).outputs.tolist() == [1]
    edge = Body.build([[0, 0, -1, 0], [1, 0, -1, 0]], [[2, 3]], [XOR], [4])
    graph = skipping(pair, edge)
    after = run(graph, "cse")
    assert body_of(after).num_gates == 1
    assert same_outputs(graph, after, random_inputs(graph, 130))


@pytest.mark.parametrize(("offset", "stride", "space"), [(1, 1, 4), (0, 2, 2), (0, 1, 3)])
def test_a_channel_that_moves_or_drops_positions_is_no_copy(offset, stride, space):
    b = GraphBuilder("moved")
    x = b.input("x", "bit", (2, 4, 4))
    first = Body.build([[0, 1, 0, offset]], np.zeros((0, 1)), [], [2])
    y = b.logic([x], first, (4, space), (1, stride))
    second = Body.build([[0, 0, 0, 0], [1, 1, 0, 0]], [[2, 3]], [XOR], [4])
    graph = b.build(b.logic([y, x], second, (4, 4)))
    after = run(graph, "fix(cse,dce)")
    assert body_of(after).num_gates == 1
    assert same_outputs(graph, after, random_inputs(graph, 130))


def test_cse_merges_equal_nodes():
    b = GraphBuilder("twins")
    x = b.input("x", "bit", (4,))
    y, z = (b.dense(x, [0, 1], [2, 3], [1, 6]) for _ in range(2))
    taps = [[0, 0], [1, 0]]
    graph = b.build(b.logic([y, z], Body.build(taps, [[2, 3]], [AND], [4])))
    after = run(graph, "fix(cse,dce)")
    assert len(after.nodes) == 2
    assert body_of(after).outputs.tolist() == [2]


def test_equal_thresholds_of_a_byte_are_shared():
    b = GraphBuilder("levels")
    bits = b.threshold(b.input("x", "u8", (1,)), [63.0, 63.5, 64.0])
    graph = b.build(b.dense(bits, [0, 1], [1, 2], [6, 6]))
    body = body_of(run(graph, "cse"))
    assert body.outputs[0] == 0
    assert body.num_gates == 1


# dce


def test_dce_removes_gates_taps_channels_levels_inputs_and_nodes():
    b = GraphBuilder("dead")
    x = b.input("x", "u8", (2, 2, 2))
    z = b.input("z", "bit", (3, 2, 2))
    bits = b.threshold(x, [10.0, 20.0, 30.0])
    b.threshold(x, [5.0])  # nobody reads it
    taps = [[0, c, 0, 0] for c in (0, 2, 3)] + [[1, 1, 0, 0]]
    body = Body.build(taps, [[2, 3], [3, 4], [4, 5]], [AND, OR, XOR], [6, 7, 8])
    y = b.flatten(b.logic([bits, z], body, (2, 2)))
    graph = b.build(b.dense(y, [4, 5], [6, 7], [1, 7]))  # channel 1 of 3 alone
    after = run(graph, "dce")
    threshold, conv, reshape, dense = after.nodes
    assert threshold.op.levels.tolist() == [10.0, 30.0]
    assert conv.inputs == (threshold.output,)
    assert conv.op.body.taps[:, 1].tolist() == [1, 2]
    assert conv.op.body.num_gates == 1
    assert reshape.op == Reshape((4,))
    assert dense.op.body.taps[:, 1].tolist() == [0, 1, 2, 3]
    assert after.inputs == graph.inputs


def test_dce_keeps_one_input_of_a_constant_node():
    b = GraphBuilder("constant")
    x = b.input("x", "bit", (4,))
    y = b.dense(x, [0, 1], [2, 3], [6, 6])
    body = Body.build([[0, 0]], np.zeros((0, 1)), [], [1, 0])
    after = run(b.build(b.group_sum(b.logic([y, x], body), 2)), "dce")
    assert [n.op_type for n in after.nodes] == ["Logic", "GroupSum"]
    assert after.nodes[0].inputs == ("x",)


def test_dce_keeps_what_a_sum_counts():
    graph = build_net("dense-2x400")
    after = run(graph, "dce")
    assert after.values[after.nodes[-2].output].shape == (400,)
    assert isinstance(after.nodes[-1].op, GroupSum)


# merge


def test_merge_joins_a_chain_of_dense_nodes_in_order():
    after = run(build_net("dense-4x400"), "merge")
    assert [n.op_type for n in after.nodes] == ["Logic", "GroupSum"]
    body = body_of(after)
    assert body.num_gates == 1600
    assert (np.diff(body.levels()[body.first_gate :]) >= 0).all()


def test_merge_keeps_a_value_that_others_read():
    b = GraphBuilder("shared")
    x = b.input("x", "bit", (4,))
    y = b.dense(x, [0, 1], [2, 3], [6, 6])
    z = b.dense(y, [0, 1], [1, 0], [1, 7])
    assert len(run(b.build(z, y), "merge").nodes) == 2
    assert len(run(b.build(z), "merge").nodes) == 1


def test_merge_joins_a_pointwise_reader_at_the_producers_stride():
    b = GraphBuilder("pointwise")
    x = b.input("x", "bit", (2, 8, 8))
    taps = [[0, 0, 0, 0], [0, 1, 1, 1]]
    y = b.logic([x], Body.build(taps, [[2, 3], [2, 3]], [AND, XOR], [4, 5]), (4, 4), (2, 2))
    z = b.logic([y], Body.build([[0, 0, 0, 0], [0, 1, 0, 0]], [[2, 3]], [OR], [4]), (4, 4))
    graph = b.build(z)
    after = run(graph, "merge")
    assert len(after.nodes) == 1
    assert after.nodes[0].op.stride == (2, 2)
    assert same_outputs(graph, after, random_inputs(graph, 130))


def test_merge_leaves_a_reader_of_neighbors_alone():
    shift = Body.build([[0, 0, 0, 1]], [[2]], [0b01], [3])
    assert len(run(two_convs(shift, shift), "merge").nodes) == 2


def test_thresholds_are_left_as_they_are_by_fold():
    b = GraphBuilder("kept")
    bits = b.threshold(b.input("x", "f32", (4,)), [0.5])
    graph = b.build(b.group_sum(bits, 2))
    assert run(graph, "default") is graph
    assert isinstance(graph.nodes[0].op, Threshold)
