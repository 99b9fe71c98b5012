"""Graphs of one body, and what tests of passes ask of a graph."""

from __future__ import annotations

import numpy.typing as npt

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
