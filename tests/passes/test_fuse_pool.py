"""fuse-pool: where it applies, where it must not, and the layout that backends rely on."""

from __future__ import annotations

import numpy as np
import pytest

import lgir
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.ir.truth_tables import AND, OR, XOR
from lgir.zoo import build_net, random_tree_body
from random_graphs import random_inputs


def conv_and_pool(
    *, size=8, kernel=(2, 2), stride=None, padding=None, conv_stride=(1, 1), kernels=5, seed=0
) -> Graph:
    rng = np.random.default_rng(seed)
    b = GraphBuilder("conv")
    x = b.input("x", "bit", (3, size, size))
    body = random_tree_body(3, kernels, rng=rng)
    space = tuple(size // s for s in conv_stride)
    y = b.logic([x], body, space, conv_stride)
    return b.build(b.or_pool(y, kernel, stride, padding, name="pooled"))


def fuse(graph: Graph) -> Graph:
    after, _ = lgir.optimize(graph, "fuse-pool")
    x = random_inputs(graph, 100)
    left, right = (lgir.compile(g, "reference")(*x) for g in (graph, after))
    assert np.array_equal(left, right)
    return after


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": 7},
        {"size": 9, "kernel": (3, 3)},
        {"size": 8, "kernel": (2, 4)},
        {"conv_stride": (2, 2)},
        {"conv_stride": (2, 1), "kernel": (1, 2)},
    ],
)
def test_windows_that_tile_are_fused(options):
    graph = conv_and_pool(**options)
    after = fuse(graph)
    assert len(after.nodes) == 1
    assert after.nodes[0].op.space == graph.nodes[-1].op.space
    expected = np.multiply(graph.nodes[0].op.stride, graph.nodes[1].op.stride)
    assert after.nodes[0].op.stride == tuple(expected.tolist())


@pytest.mark.parametrize(
    "options",
    [
        {"padding": (1, 1)},  # windows leave the convolution
        {"kernel": (3, 3), "stride": (2, 2)},  # overlapping windows would compute gates twice
        {"kernel": (2, 2), "stride": (1, 1)},
    ],
)
def test_windows_that_leave_or_overlap_are_not_fused(options):
    graph = conv_and_pool(**options)
    assert fuse(graph) is graph


def test_a_convolution_that_others_read_is_not_fused():
    graph = conv_and_pool()
    shared = graph.with_nodes(graph.nodes, ["pooled", graph.nodes[0].output])
    assert lgir.optimize(shared, "fuse-pool")[0] is shared


def test_a_reader_of_several_channels_is_no_pool():
    b = GraphBuilder("mix")
    x = b.input("x", "bit", (2, 4, 4))
    gates = Body.build([[0, 0, 0, 0], [0, 1, 0, 1]], [[2, 3], [2, 3]], [AND, XOR], [4, 5])
    y = b.logic([x], gates, (4, 4))
    mix = Body.build([[0, 0, 0, 0], [0, 1, 1, 1]], [[2, 3]], [OR], [4])
    graph = b.build(b.logic([y], mix, (2, 2), (2, 2)))
    assert fuse(graph) is graph


def cone(body: Body, net: int) -> list[tuple]:
    """The gates below `net` in ascending order, operands by their place in the cone or as taps."""
    gates, stack = set(), [net]
    while stack:
        n = stack.pop()
        if n >= body.first_gate and n not in gates:
            gates.add(n)
            stack += body.fanin[n - body.first_gate].tolist()
    order = sorted(gates)
    place = {n: i for i, n in enumerate(order)}

    def operand(n: int):
        return place[n] if n in place else tuple(body.taps[n - 2].tolist())

    return [
        (
            int(body.table[n - body.first_gate]),
            *(operand(m) for m in body.fanin[n - body.first_gate].tolist()),
        )
        for n in order
    ]


def shifted(gates: list[tuple], dy: int, dx: int) -> list[tuple]:
    def move(operand):
        if not isinstance(operand, tuple):
            return operand
        source, channel, y, x = operand
        return (source, channel, y + dy, x + dx)

    return [(table, *map(move, operands)) for table, *operands in gates]


def test_the_layout_is_window_copies_of_each_cone_channel_by_channel():
    graph = conv_and_pool(kernels=6)
    after, _ = lgir.optimize(graph, "fix(fold,cse,dce),fuse-pool,fix(fold,dce)")
    (op,) = (op for _, op in after.of_type(Logic))
    body = op.body
    start = 0
    for net in body.outputs.tolist():
        top = body.fanin[net - body.first_gate].tolist()
        roots = [m for n in top for m in body.fanin[n - body.first_gate].tolist()]
        copies = [cone(body, root) for root in roots]
        for (dy, dx), copy in zip([(0, 0), (0, 1), (1, 0), (1, 1)], copies, strict=True):
            assert copy == shifted(copies[0], dy, dx)
        size = len(copies[0])
        first = body.first_gate + start
        assert roots == [first + (i + 1) * size - 1 for i in range(4)]
        assert net == first + 4 * size + 2
        start += 4 * size + 3
    assert start == body.num_gates


def test_copies_share_the_taps_they_have_in_common():
    after = fuse(conv_and_pool(kernels=40))
    taps = after.nodes[0].op.body.taps
    assert len(np.unique(taps, axis=0)) == len(taps)
    assert len(taps) <= 3 * 4 * 4


def test_volumes_are_fused_too():
    b = GraphBuilder("volume")
    x = b.input("x", "bit", (2, 4, 4, 4))
    taps = [[0, 0, 0, 0, 0], [0, 1, 1, -1, 0]]
    y = b.logic([x], Body.build(taps, [[2, 3]], [XOR], [4]), (4, 4, 4))
    after = fuse(b.build(b.or_pool(y, (2, 2, 2))))
    assert len(after.nodes) == 1
    assert after.nodes[0].op.body.num_gates == 8 + 7


def test_every_pool_of_the_paper_network_is_fused():
    after, report = lgir.optimize(build_net("logictreenet-8"), "fuse-pool")
    assert len(list(after.of_type(Logic))) == 4 + 3
    assert report.after.unrolled == report.before.unrolled
