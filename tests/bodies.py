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
