"""Views of gates and taps, and the networkx export built on them."""

from __future__ import annotations

import networkx
import numpy as np
import pytest

import lgir
from lgir.errors import GraphError, UnknownNameError
from lgir.ir.body import Body
from lgir.ir.simulate import evaluate_body
from random_graphs import random_graph

BODY = Body.build(
    taps=[[0, 3, -1, 0], [1, 2, 0, 1]],
    fanin=[[2, 3, 0], [4, 0, 0], [2, 4, 5], [6, 1, 0]],
    table=[0b11000000, 0b00001111, 0x17, 0b11111100],
    outputs=[6, 7],
)


def test_gates_say_what_they_compute() -> None:
    gates = BODY.gates()
    assert len(gates) == 4
    assert [g.id for g in gates] == [4, 5, 6, 7]
    assert [g.op_type for g in gates] == ["and", "not", "lut 0x17", "or"]
    assert [g.inputs for g in gates] == [(2, 3), (4,), (2, 4, 5), (6, 1)]
    assert [g.table for g in gates] == [0b1000, 0b01, 0x17, 0b1110]
    assert repr(gates[1]) == "Gate(id=5, op_type='not', inputs=(4,), table=1)"


def test_gates_are_a_sequence() -> None:
    gates = BODY.gates()
    assert gates[-1] == gates[3] == gates.by_id(7)
    assert list(gates[1:3]) == [gates[1], gates[2]]
    for index in (4, -5):
        with pytest.raises(IndexError):
            gates[index]
    for net in (0, 2, 3, 8):
        with pytest.raises(IndexError, match=f"net {net} is no gate's; gates drive nets from 4"):
            gates.by_id(net)


def test_taps_say_what_they_read() -> None:
    first, second = BODY.tap_views()
    assert (first.id, first.input, first.channel, first.offset) == (2, 0, 3, (-1, 0))
    assert repr(second) == "Tap(id=3, input=1, channel=2, offset=(0, 1))"
    assert [g.id for g in first.users()] == [4, 6]
    with pytest.raises(IndexError):
        BODY.tap_views()[2]


def test_users_are_found_by_net_and_by_gate() -> None:
    users = BODY.users()
    assert users == {0: [], 1: [7], 2: [4, 6], 3: [4], 4: [5, 6], 5: [6], 6: [7], 7: []}
    assert {g.id: [u.id for u in g.users()] for g in BODY.gates()} == {
        net: users[net] for net in (4, 5, 6, 7)
    }


@pytest.mark.parametrize("seed", range(10))
def test_views_compute_what_the_arrays_do(seed: int) -> None:
    """The tables and inputs of the views, evaluated one gate at a time, give the same nets."""
    rng = np.random.default_rng(seed)
    for _, op in random_graph(seed).of_type(lgir.Logic):
        body = op.body
        words = rng.integers(0, 2**64, size=(body.num_taps, 1), dtype=np.uint64)
        expected = evaluate_body(body, words)[:, 0] & np.uint64(1)
        nets = [0, 1, *(int(w) & 1 for w in words[:, 0])]
        for gate in body.gates():
            index = int("0" + "".join(str(nets[x]) for x in gate.inputs), 2)
            nets.append(gate.table >> index & 1)
        assert nets == expected.tolist()


def test_a_node_is_found_by_name() -> None:
    graph = random_graph(0)
    node = graph.nodes[-1]
    assert graph.node(node.output) is node
    with pytest.raises(UnknownNameError, match=f"did you mean '{node.output}'"):
        graph.node(node.output + "x")


def test_a_graph_exports_to_networkx() -> None:
    b = lgir.GraphBuilder("g")
    x, z = b.input("x", "bit", (2,)), b.input("z", "bit", (1,))
    y = b.logic([x, z], Body.build([[0, 0], [1, 0]], [[2, 3]], [0b0110], [4]), name="y")
    graph = lgir.to_networkx(b.build(b.group_sum(y, 1, name="s"), y))
    assert networkx.is_directed_acyclic_graph(graph)
    assert sorted(graph.edges(data="input")) == [("x", "y", 0), ("y", "s", 0), ("z", "y", 1)]
    assert graph.nodes["y"]["op_type"] == "Logic"
    assert graph.nodes["y"]["gates"] == 1
    assert graph.nodes["x"]["type"] == "bit[2]"
    assert {name: graph.nodes[name]["outputs"] for name in graph} == {
        "x": [], "z": [], "y": [1], "s": [0]
    }  # fmt: skip


def test_a_body_exports_to_networkx() -> None:
    graph = lgir.to_networkx(BODY)
    assert sorted(graph) == [1, 2, 3, 4, 5, 6, 7]  # False is not in use
    assert sorted((a, b) for a, b, _ in graph.in_edges(6, keys=True)) == [(2, 6), (4, 6), (5, 6)]
    assert graph.nodes[6] == {
        "op_type": "lut 0x17", "table": 0x17, "label": "%6 = lut 0x17", "outputs": [0]
    }  # fmt: skip
    assert graph.nodes[2]["label"] == "%2 = 0[3,-1,0]"
    depth = networkx.dag_longest_path_length(graph, weight=None, default_weight=1)
    assert depth == BODY.levels().max()


def test_a_gate_that_reads_a_net_twice_keeps_both_edges() -> None:
    graph = lgir.to_networkx(Body.build([[0, 0]], [[2, 2]], [0b0110], [3]))
    assert sorted(graph.edges(data="input")) == [(2, 3, 0), (2, 3, 1)]


def test_large_graphs_are_not_exported() -> None:
    with pytest.raises(GraphError, match=r"Body.* has 8 nodes, more than max_nodes=7; export a"):
        lgir.to_networkx(BODY, max_nodes=7)
