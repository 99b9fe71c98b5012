"""The interpreter against one that walks gate by gate, position by position, sample by sample."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lgir
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Threshold
from lgir.ir.simulate import evaluate, group_scores, pack_planes, tap_index, unpack_planes
from random_graphs import random_graph, random_inputs


def naive(graph: Graph, sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every value of `graph` for one sample, written from the docstrings of `lgir.ir.graph`."""
    values = dict(sample)
    for node in graph.nodes:
        values[node.output] = naive_node(node, [values[name] for name in node.inputs])
    return values


def naive_node(node: Node, inputs: list[np.ndarray]) -> np.ndarray:
    op = node.op
    if isinstance(op, Threshold):
        x, levels = inputs[0], op.levels
        channels, *rest = x.shape
        out = np.zeros((channels * op.num_levels, *rest), bool)
        for index in np.ndindex(*x.shape):
            for level in range(op.num_levels):
                bound = levels[(*index[: levels.ndim - 1], level)]
                bit = np.float32(x[index]) > bound
                out[(index[0] * op.num_levels + level, *index[1:])] = bit
        return out
    if isinstance(op, Logic):
        out = np.zeros((len(op.body.outputs), *op.space), bool)
        for position in np.ndindex(*op.space):
            nets = naive_body(op, inputs, position)
            for channel, net in enumerate(op.body.outputs.tolist()):
                out[(channel, *position)] = nets[net]
        return out
    if isinstance(op, GroupSum):
        counts = [int(group.sum()) for group in np.split(inputs[0], op.groups)]
        return np.array(
            [(np.float32(c) + np.float32(op.beta)) / np.float32(op.tau) for c in counts]
        )
    return inputs[0].reshape(op.shape)


def naive_body(op: Logic, inputs: list[np.ndarray], position: tuple[int, ...]) -> list[int]:
    nets = [0, 1]
    for source, channel, *offset in op.body.taps.tolist():
        coordinates = [p * s + d for p, s, d in zip(position, op.stride, offset, strict=True)]
        plane = inputs[source][channel]
        inside = all(0 <= x < size for x, size in zip(coordinates, plane.shape, strict=True))
        nets.append(int(plane[tuple(coordinates)]) if inside else 0)
    for table, operands in zip(op.body.table.tolist(), op.body.fanin.tolist(), strict=True):
        index = 0
        for x in operands:
            index = 2 * index + nets[x]
        nets.append(table >> index & 1)
    return nets


@pytest.mark.parametrize("seed", range(80))
def test_every_value_of_random_graphs(seed: int) -> None:
    n = 3
    graph = random_graph(seed)
    samples = samples_by_name(graph, n, seed)
    packed = {
        v.name: pack_planes(samples[v.name].astype(bool)) if v.dtype == "bit" else samples[v.name]
        for v in graph.inputs
    }
    values = evaluate(graph, packed, n)
    for i in range(n):
        expected = naive(graph, {name: x[i] for name, x in samples.items()})
        for name, value in graph.values.items():
            result = unpack_planes(values[name], n) if value.dtype == "bit" else values[name]
            assert np.array_equal(result[i], expected[name]), name
            assert result[i].shape == value.shape


def samples_by_name(graph: Graph, n: int, seed: int) -> dict[str, Any]:
    arrays = random_inputs(graph, n, seed)
    return {v.name: np.asarray(x) for v, x in zip(graph.inputs, arrays, strict=True)}


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 129])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_unpack_inverts_pack(n: int, shape: tuple[int, ...]) -> None:
    bits = np.random.default_rng(n).random((n, *shape)) < 0.5
    words = pack_planes(bits)
    assert words.shape == (*shape, -(-n // 64))
    assert words.dtype == np.uint64
    assert np.array_equal(unpack_planes(words, n), bits)
    for i in range(n):
        word = words[..., i // 64] >> np.uint64(i % 64) & np.uint64(1)
        assert np.array_equal(word.astype(bool), bits[i])


def test_pack_takes_strided_views() -> None:
    bits = np.random.default_rng(0).random((200, 6, 5)) < 0.5
    view = bits[::2, ::-1].swapaxes(1, 2)
    assert np.array_equal(pack_planes(view), pack_planes(view.copy()))


@given(st.data(), st.integers(1, 3))
def test_tap_index_against_loops(data: st.DataObject, rank: int) -> None:
    small = st.integers(1, 4)
    shapes = [
        (data.draw(small), *data.draw(st.tuples(*[small] * rank)))
        for _ in range(data.draw(st.integers(1, 2)))
    ]
    space = data.draw(st.tuples(*[st.integers(1, 3)] * rank))
    stride = data.draw(st.tuples(*[st.integers(1, 3)] * rank))
    taps = []
    for _ in range(data.draw(st.integers(0, 4))):
        source = data.draw(st.integers(0, len(shapes) - 1))
        channel = data.draw(st.integers(0, shapes[source][0] - 1))
        taps.append([source, channel, *data.draw(st.tuples(*[st.integers(-4, 4)] * rank))])
    op = Logic(Body.build(taps, [], [], [0], rank=rank), space, stride)

    sizes = [int(np.prod(shape)) for shape in shapes]
    expected = np.full((len(taps), op.positions), sum(sizes))
    for t, (source, channel, *offset) in enumerate(taps):
        for p, position in enumerate(itertools.product(*map(range, space))):
            coordinates = [x * s + d for x, s, d in zip(position, stride, offset, strict=True)]
            if all(0 <= x < size for x, size in zip(coordinates, shapes[source][1:], strict=True)):
                index = np.ravel_multi_index((channel, *coordinates), shapes[source])
                expected[t, p] = sum(sizes[:source]) + index
    assert np.array_equal(tap_index(op, shapes), expected)


def test_offsets_at_the_edge_of_int32_do_not_wrap() -> None:
    taps = [[0, 0, 2**31 - 1], [0, 0, -(2**31)]]
    op = Logic(Body.build(taps, [], [], [2, 3]), (3,), (2**31 - 1,))
    index = tap_index(op, [(1, 5)])
    assert index.tolist() == [[5, 5, 5], [5, 5, 5]]


def test_scores_beyond_float32_are_infinite() -> None:
    scores = group_scores(np.array([0, 1, 4]), GroupSum(1, tau=-1e-38, beta=0.0))
    assert scores.tolist() == [0.0, np.float32(1) / np.float32(-1e-38), -np.inf]
    assert group_scores(np.array([5]), GroupSum(1, tau=1e-30, beta=1e9)).tolist() == [np.inf]


def test_large_batches_are_evaluated_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(3, dtype="bit")
    samples = random_inputs(graph, 700, 1)
    whole = lgir.compile(graph, backend="reference")(*samples)
    monkeypatch.setattr("lgir.ir.simulate._CHUNK_WORDS", 1)
    monkeypatch.setattr("lgir.backends.reference._BATCH", 130)
    parts = lgir.compile(graph, backend="reference")(*samples)
    for a, b in zip(as_tuple(whole), as_tuple(parts), strict=True):
        assert np.array_equal(a, b)


def as_tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)
