"""Differences of graphs, node by node."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import lgir
from lgir.ir.graph import Graph
from lgir.ir.graph_diff import diff_graphs
from lgir.zoo import build_net

SMALL = """lgir 1
graph "small" {
  input %x : bit[3]
  %a = logic(%x) {
    %2 = tap 0[0]
    %3 = tap 0[1]
    %4 = and %2, %3
    yield %4, %3
  } : bit[2]
  %score = groupsum %a {groups=1, tau=1, beta=0} : f32[1]
  output %score
}
"""


@pytest.fixture
def graph() -> Graph:
    return lgir.parse(SMALL)


def test_equal_graphs_have_no_changed_node(graph):
    diff = diff_graphs(graph, lgir.parse(SMALL))
    assert diff.changed == ()
    assert [node.mark for node in diff.nodes] == ["=", "="]
    assert str(diff) == "0 of 2 nodes differ; gates 1, depth 1"


def test_a_changed_gate_is_shown_by_operation_and_by_line(graph):
    diff = diff_graphs(graph, lgir.parse(SMALL.replace("and %2", "xor %2")))
    assert str(diff).splitlines() == [
        "1 of 2 nodes differ; gates 1, depth 1",
        "  ~ a: Logic, bit[2], gates 1, depth 1, taps 2",
        "      operations and -1, xor +1",
        "         %3 = tap 0[1]",
        "      -  %4 = and %2, %3",
        "      +  %4 = xor %2, %3",
        "         yield %4, %3",
    ]


def test_wiring_alone_makes_a_node_changed(graph):
    diff = diff_graphs(graph, lgir.parse(SMALL.replace("tap 0[1]", "tap 0[2]")))
    (node,) = diff.changed
    assert (node.name, node.mark, node.operations()) == ("a", "~", {})


def test_removed_and_added_nodes_stand_where_they_are():
    before = build_net("dense-2x400")
    after, _ = lgir.optimize(before, "merge")
    diff = diff_graphs(before, after)
    assert [(node.mark, node.name) for node in diff.nodes] == [
        ("-", "layer1"),
        ("~", "layer2"),
        ("=", "score"),
    ]
    back = diff_graphs(after, before)
    assert [node.mark for node in back.nodes] == ["+", "~", "="]
    assert diff.nodes[1].after.gates == 800


def test_nodes_of_some_names_are_kept_alone():
    before = build_net("dense-2x400")
    diff = diff_graphs(before, lgir.optimize(before, "fold")[0], nodes=["layer2"])
    assert [node.name for node in diff.nodes] == ["layer2"]


def test_lines_of_long_bodies_are_shown_on_request():
    before = build_net("dense-1x400")
    node = before.node("layer1")
    table = node.op.body.table.copy()
    table[5] ^= 1
    op = replace(node.op, body=replace(node.op.body, table=table))
    after = before.with_nodes(replace(n, op=op) if n is node else n for n in before.nodes)
    assert diff_graphs(before, after).changed[0].lines == ()
    lines = diff_graphs(before, after, full=True).changed[0].lines
    assert [line[0] for line in lines] == [" ", "-", "+", " "]


def test_a_difference_is_json(graph):
    diff = diff_graphs(graph, lgir.parse(SMALL.replace("and %2", "xor %2")))
    loaded = json.loads(json.dumps(diff.to_dict()))
    assert loaded["operations"] == {"and": -1, "xor": 1}
    assert [node["change"] for node in loaded["nodes"]] == ["changed", "none"]
