"""`sweep`: functionally equal nets are merged, in dense bodies and in rolled ones."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import lgir
from bodies import gates
from lgir.errors import PassError
from lgir.frontend.digits import demo_checkpoint
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.ir.truth_tables import AND, OR, XOR
from lgir.passes.pipeline import Pipeline
from lgir.zoo import build_net
from random_graphs import all_inputs, random_graph

pytest.importorskip("pysat")


def outputs(graph: Graph) -> list[np.ndarray]:
    results = lgir.compile(graph, "reference")(*all_inputs(graph))
    return list(results) if isinstance(results, tuple) else [results]


def run(graph: Graph, passes: str = "sweep") -> Graph:
    return Pipeline.parse(passes).run(graph, verify=None)[0]


def hidden_xor(space: tuple[int, ...] = ()) -> Graph:
    """A channel that is a XOR, and one that is the same by (a | b) & ~(a & b), complemented."""
    b = GraphBuilder("hidden")
    x = b.input("x", "bit", (2, *space))
    offset = [1, -1][: len(space)]
    taps = [[0, 0, *offset], [0, 1, *offset]]
    fanin = [[2, 3], [2, 3], [2, 3], [5, 6]]
    body = Body.build(taps, fanin, [XOR, OR, 0b0111, 0b0111], [4, 7])
    return b.build(b.logic([x], body, space))


def test_random_graphs_compute_the_same_and_shrink():
    saved = 0
    for seed in range(60):
        graph = random_graph(seed, max_input_bits=8)
        before, after = run(graph, "fix(merge,fold,cse,dce)"), run(graph, "merge,sweep")
        for left, right in zip(outputs(graph), outputs(after), strict=True):
            assert np.array_equal(left, right), seed
        assert gates(after) <= gates(before), seed
        saved += gates(before) - gates(after)
    assert saved > 20


def test_nets_built_differently_are_merged_and_convolutions_stay_rolled():
    for space in ((), (5, 6)):
        graph = hidden_xor(space)
        assert gates(run(graph, "fix(fold,cse,dce)")) == 4
        after = run(graph)
        ((_, op),) = after.of_type(Logic)
        assert op.space == space
        assert op.body.num_gates == 2  # the XOR, and its complement for the other output
        assert lgir.verify(graph, after, method="sat").equivalent is True


def test_nets_that_differ_only_where_thresholds_cannot_are_merged():
    b = GraphBuilder("levels")
    bits = b.threshold(b.input("x", "u8", (2,)), [10.0, 20.0, 30.0])
    # x > 10 or (x > 30 and z) is x > 10; (x > 20 or z) and x > 10 is not (x > 20 or z)
    taps = [[0, 0], [0, 1], [0, 2], [0, 3]]
    body = Body.build(taps, [[4, 5], [2, 6], [3, 5], [8, 2]], [AND, OR, OR, AND], [7, 9])
    graph = b.build(b.logic([bits], body))
    after = run(graph)
    assert gates(after) == 2
    assert lgir.verify(graph, after, method="exhaustive").equivalent is True
    assert gates(run(graph, "fix(fold,cse,dce)")) == 4


def test_nothing_to_merge_gives_the_same_graph():
    graph = run(build_net("dense-2x400"), "fix(merge,fold,cse,dce),sweep")
    assert run(graph) is graph


def test_the_clock_and_the_solver_have_limits():
    graph = random_graph(7, max_gates=40)
    assert run(graph, "sweep{seconds=0.000001}") is graph
    for option in ("conflicts=0", "seconds=-1"):
        with pytest.raises(PassError, match=r"sweep\{.*must be more than 0"):
            run(graph, f"sweep{{{option}}}")


def test_options_are_listed():
    from lgir.passes.pipeline import list_passes

    (info,) = [p for p in list_passes() if p.name == "sweep"]
    assert info.options == {
        "conflicts": "int = 1000",
        "seconds": "float = 60.0",
        "seed": "int = 0",
    }


def test_without_a_solver_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pysat.solvers", None)
    with pytest.raises(lgir.LgirError, match=r'^sweep: .* pip install "lgir\[sat\]"$'):
        lgir.optimize(random_graph(1), "sweep")


def test_the_level_with_sweeping_is_proved_and_no_larger():
    graph = lgir.lift(demo_checkpoint())
    without, with_sweep = run(graph, "O3"), run(graph, "O4")
    assert gates(with_sweep) < gates(without)
    assert lgir.verify(graph, with_sweep, method="sat").equivalent is True
