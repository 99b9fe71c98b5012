"""Convolutions of unusual shapes in blocks, with and without machine code for trees."""

from __future__ import annotations

import numpy as np
import pytest

import lgir
from lgir.backends.lowering.cone_cutter import ConeCutter
from lgir.backends.lowering.pools import MAX_LEAVES
from lgir.ir.body import Body
from lgir.ir.nodes import Logic
from lgir.ir.types import FIRST_TAP, Shape
from targets import runnable

AND, XOR, OR, NOT, NOT_FIRST = 0b1000, 0b0110, 0b1110, 0b01, 0b0011


TARGETS = [target for target in ("native", "avx2") if runnable(target)]


def graph_of(body: Body, shape: Shape, space: Shape) -> lgir.Graph:
    """Return one convolution over bits of `shape`."""
    b = lgir.GraphBuilder("one")
    return b.build(b.logic([b.input("x", "bit", shape)], body, space))


def assert_same(graph: lgir.Graph, target: str) -> None:
    rng = np.random.default_rng(0)
    samples = [rng.random((600, *value.shape)) < 0.5 for value in graph.inputs]
    exe = lgir.compile(graph, target=target, latency=False)
    np.testing.assert_array_equal(exe(*samples), lgir.compile(graph, "reference")(*samples))


@pytest.mark.parametrize("target", TARGETS)
def test_a_pool_inside_the_cone_of_a_pool(target: str) -> None:
    """The inner pool is an output, and evaluated at shifts as well."""
    taps = [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 0, 2), (0, 1, 0, 0), (0, 1, 0, 1)]
    fanin = [(2, 3), (3, 4), (7, 5), (8, 6), (9, 10)]
    body = Body.build(taps, fanin, [OR, OR, AND, AND, OR], [7, 11], rank=2)
    assert_same(graph_of(body, (2, 5, 5), (4, 3)), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("space", [(), (3, 3)])
def test_a_long_chain_of_inverters_is_cut(target: str, space: Shape) -> None:
    n = 1001
    tap = (0, 0, *(0 for _ in space))
    body = Body.build(
        [tap], FIRST_TAP + np.arange(n)[:, None], [NOT] * n, [FIRST_TAP + n], rank=len(space)
    )
    assert_same(graph_of(body, (1, *space), space), target)


@pytest.mark.parametrize("target", TARGETS)
def test_a_long_chain_of_inverters_under_a_pool_is_cut(target: str) -> None:
    n = 500
    taps = [(0, 0, 0, 0), (0, 0, 0, 1)]
    last = FIRST_TAP + 2 * n
    two_chains = [(FIRST_TAP + i, 0) for i in range(2 * n)]
    fanin = [*two_chains, (last, last + 1)]
    body = Body.build(taps, fanin, [NOT_FIRST] * (2 * n) + [OR], [last + 2], rank=2)
    assert_same(graph_of(body, (1, 3, 4), (3, 3)), target)


class Gates:
    """Builds a body of two-input gates over taps (0, channel, 0, x), gate by gate."""

    def __init__(self, taps: int) -> None:
        self.taps = [(0, i % 40, 0, i // 40) for i in range(taps)]
        self.fanin: list[tuple[int, int]] = []
        self.table: list[int] = []

    def gate(self, table: int, a: int, b: int) -> int:
        self.fanin.append((a, b))
        self.table.append(table)
        return FIRST_TAP + len(self.taps) + len(self.fanin) - 1

    def tree(self, nets: range) -> int:
        level = list(nets)
        while len(level) > 1:
            level = [*level[2:], self.gate(AND if len(level) % 3 else OR, *level[:2])]
        return level[0]

    def graph(self, *outputs: int) -> lgir.Graph:
        body = Body.build(self.taps, self.fanin, self.table, list(outputs), rank=2)
        return graph_of(body, (40, 3, 4), (3, 4))


@pytest.mark.parametrize("target", TARGETS)
def test_operands_cut_after_other_cones_have_read_them(target: str) -> None:
    """A pair of leaves in small cones, which a cone of too many leaves then makes a root."""
    g = Gates(40)
    a, x = g.gate(AND, 2, 3), g.gate(XOR, 4, 5)
    small = [g.gate(AND, a, x), g.gate(AND, x, a)]
    large = g.gate(OR, g.tree(range(6, 37)), x)
    assert_same(g.graph(*small, large), target)


@pytest.mark.parametrize("target", TARGETS)
def test_cones_under_pools_that_together_are_too_large(target: str) -> None:
    g = Gates(80)
    first, beside = ([g.tree(range(i, i + 20)) for i in (start, start + 20)] for start in (2, 42))
    pools = [g.gate(OR, a, b) for a, b in zip(first, beside, strict=True)]
    graph = g.graph(*pools, g.gate(XOR, *first))
    assert_same(graph, target)
    (op,) = (op for _, op in graph.of_type(Logic))
    assert max(len(c.expr.leaves()) for c in ConeCutter(op.body).groups()) <= MAX_LEAVES
