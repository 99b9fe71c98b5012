"""Convolutions of unusual shapes on the CPU, with code of their own for trees and without, against
the reference.
"""

from __future__ import annotations

import numpy as np
import pytest

import lgir
from lgir.backends.llvm.jit import resolve_target
from lgir.body import FIRST_TAP, Body
from lgir.errors import BackendError
from lgir.graph import Shape

AND, OR, NOT, NOT_FIRST = 0b1000, 0b1110, 0b01, 0b0011


def runnable(target: str) -> bool:
    try:
        resolve_target(target)
    except BackendError:
        return False
    return True


TARGETS = [target for target in ("native", "avx2") if runnable(target)]


def graph_of(body: Body, shape: Shape, space: Shape) -> lgir.Graph:
    """One convolution over bits of `shape`."""
    b = lgir.GraphBuilder("one")
    return b.build(b.logic([b.input("x", "bit", shape)], body, space))


def assert_same(graph: lgir.Graph, target: str) -> None:
    rng = np.random.default_rng(0)
    samples = [rng.random((600, *value.shape)) < 0.5 for value in graph.inputs]
    exe = lgir.compile(graph, target=target, latency=False)
    np.testing.assert_array_equal(exe(*samples), lgir.compile(graph, "reference")(*samples))


# -- cones ---------------------------------------------------------------------------------------


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
