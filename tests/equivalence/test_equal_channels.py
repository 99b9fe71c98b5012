"""Channels of two graphs that compute the same: simulated and proved."""

from __future__ import annotations

from dataclasses import replace

import pytest

import lgir
from lgir.equivalence.equal_channels import equal_channels
from lgir.errors import GraphError
from lgir.ir.graph import Graph
from lgir.zoo import build_net


def with_complemented_gate(graph: Graph, name: str, gate: int, mask: int) -> Graph:
    """The graph with some bits of the table of a gate flipped."""
    node = graph.node(name)
    table = node.op.body.table.copy()
    table[gate] ^= mask
    op = replace(node.op, body=replace(node.op.body, table=table))
    return graph.with_nodes(replace(n, op=op) if n is node else n for n in graph.nodes)


def test_an_optimized_graph_keeps_its_channels():
    before = build_net("logictreenet-8")
    after, _ = lgir.optimize(before)
    pairs = equal_channels(before, after)
    assert pairs["pool2"].left == "pool2"
    assert all(pair.simulated == pair.channels for pair in pairs.values())
    assert all(pair.proved is None for pair in pairs.values())


def test_channels_are_proved_on_request():
    pytest.importorskip("pysat")
    before = build_net("dense-2x400")
    after, _ = lgir.optimize(before)
    steps: list[str] = []
    pairs = equal_channels(before, after, prove=True, progress=steps.append)
    assert pairs["layer2"].proved == pairs["layer2"].simulated == pairs["layer2"].channels
    assert any(step.startswith("proving layer2") for step in steps)


@pytest.mark.parametrize("prove", [False, True])
def test_a_changed_channel_is_not_equal_and_a_complement_is(prove):
    if prove:
        pytest.importorskip("pysat")
    graph = build_net("dense-1x400")
    changed = with_complemented_gate(graph, "layer1", 3, 0b0001)
    complemented = with_complemented_gate(graph, "layer1", 3, 0b1111)
    for other, equal in ((changed, 399), (complemented, 400)):
        pair = equal_channels(graph, other, prove=prove)["layer1"]
        assert (pair.simulated, pair.proved) == (equal, equal if prove else None)


def test_graphs_of_other_inputs_cannot_be_compared():
    with pytest.raises(GraphError, match="differ in inputs"):
        equal_channels(build_net("dense-1x400"), build_net("logictreenet-8"))
