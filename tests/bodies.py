"""Graphs of one body, and what tests of passes ask of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import lgir
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.passes.pipeline import Pipeline


def flat(
    fanin: npt.ArrayLike, table: npt.ArrayLike, outputs: npt.ArrayLike, width: int = 4
) -> Graph:
    """One body over `width` bits: net 2 is bit 0, and gates start at 2 + width."""
    b = GraphBuilder("flat")
    x = b.input("x", "bit", (width,))
    taps = [[0, c] for c in range(width)]
    return b.build(b.logic([x], Body.build(taps, fanin, table, outputs)))


def body_of(graph: Graph) -> Body:
    """The only body."""
    (op,) = (op for _, op in graph.of_type(Logic))
    return op.body


def last_body(graph: Graph) -> Body:
    """The body of the last Logic node."""
    return [op.body for _, op in graph.of_type(Logic)][-1]


def optimized(graph: Graph, passes: str) -> Graph:
    """The graph after a pipeline, whose passes are checked by simulation."""
    return Pipeline.parse(passes).run(graph)[0]


def two_convs(first: Body, second: Body, *, space=(4, 4)) -> Graph:
    """Return two convolutions of one image of 4 x 4 bits, the second over `space`."""
    b = GraphBuilder("convs")
    x = b.input("x", "bit", (1, 4, 4))
    y = b.logic([x], first, (4, 4))
    return b.build(b.logic([y], second, space))


def gates(graph: Graph) -> int:
    """Of all bodies."""
    return sum(op.body.num_gates for _, op in graph.of_type(Logic))


def same_outputs(a: Graph, b: Graph, inputs: Sequence[npt.NDArray[Any]]) -> bool:
    """Return whether the interpreter's outputs of two graphs are equal bit for bit."""
    left, right = (lgir.compile(graph, "reference")(*inputs) for graph in (a, b))
    left, right = (x if isinstance(x, tuple) else (x,) for x in (left, right))
    return all(np.array_equal(p, q) for p, q in zip(left, right, strict=True))


def evaluate_nets(body: Body) -> npt.NDArray[np.bool_]:
    """(nets, 2**taps) Return the value of every net for every assignment of the taps, one by one.

    Tap i is bit i of the assignment's number.
    """
    values = np.zeros((body.num_nets, 1 << body.num_taps), bool)
    values[1] = True
    assignment = np.arange(1 << body.num_taps)
    for tap in range(body.num_taps):
        values[2 + tap] = assignment >> tap & 1
    for gate, (operands, table) in enumerate(zip(body.fanin, body.table, strict=True)):
        index = np.zeros(values.shape[1], np.int64)
        for net in operands.tolist():
            index = index << 1 | values[net]
        rows = np.array([int(table) >> i & 1 for i in range(1 << body.k)], bool)
        values[body.first_gate + gate] = rows[index]
    return values
