"""Counterexamples are made simpler, and stay counterexamples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import lgir
from lgir.equivalence.simplification import simplify_counterexample
from lgir.equivalence.verdict import Counterexample
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.zoo import build_net


def with_changed_gate(graph: Graph, gate: int, entry: int) -> Graph:
    """The graph with one entry of the table of a gate of its first logic node flipped."""
    node, op = next(graph.of_type(Logic))
    table = op.body.table.copy()
    table[gate] ^= 1 << entry
    new = replace(node, op=replace(op, body=replace(op.body, table=table)))
    return graph.with_nodes(new if n is node else n for n in graph.nodes)


@pytest.mark.parametrize(("entry", "nonzero"), [(0, 0), (1, 1), (2, 1), (3, 2)])
def test_what_remains_is_what_the_changed_entry_needs(entry, nonzero):
    graph = build_net("dense-1x400")
    other = with_changed_gate(graph, 11, entry)
    example = lgir.verify(graph, other).counterexample
    simple = simplify_counterexample(graph, other, example)
    (x,) = simple.inputs
    assert int(x.sum()) == nonzero
    left, right = (
        lgir.compile(g, "reference")(x[None])[0, simple.index[0]] for g in (graph, other)
    )
    assert (left, right) == (simple.left, simple.right)
    assert left != right


def test_numbers_and_convolutions_are_simplified_too():
    graph = build_net("logictreenet-8")
    other = with_changed_gate(graph, 0, 3)
    example = lgir.verify(graph, other, samples=640).counterexample
    simple = simplify_counterexample(graph, other, example)
    assert np.count_nonzero(simple.inputs[0]) < np.count_nonzero(example.inputs[0]) / 4
    assert simple.inputs[0].dtype == np.uint8


def test_without_time_the_example_is_kept():
    graph = build_net("dense-1x400")
    other = with_changed_gate(graph, 11, 3)
    example = lgir.verify(graph, other).counterexample
    kept = simplify_counterexample(graph, other, example, seconds=0)
    assert isinstance(kept, Counterexample)
    assert np.array_equal(kept.inputs[0], example.inputs[0])
