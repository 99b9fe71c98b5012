"""Legalization: fold what the templates of the lowering have no place for out of a graph.

A template of a cone reads every input of every gate, and each input is a tap or another gate. So a
body is legal if none of its gates has a constant operand or ignores an input. The pass `fold`
removes both, and leaves every function as it was.
"""

from __future__ import annotations

from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.ir.truth_tables import depends_on
from lgir.ir.types import FIRST_TAP


def legalize(graph: Graph, *, dense_bodies: bool = False) -> Graph:
    """Return a graph of the same function whose convolution bodies are legal.

    Bodies evaluated at a single position are left as they are, since gates by table can evaluate
    any of them; with `dense_bodies`, these become legal as well. Returns `graph` itself if nothing
    is illegal.
    """
    bodies = [op.body for _, op in graph.of_type(Logic) if dense_bodies or op.positions > 1]
    if all(map(is_legal, bodies)):
        return graph
    # Importing the passes takes tens of milliseconds, and an optimized graph needs none of them.
    from lgir.passes.simplify import fold

    folded: Graph = fold(graph)
    return folded


def is_legal(body: Body) -> bool:
    """Return whether no gate has a constant operand or ignores an input within its arity."""
    if not body.num_gates:
        return True
    arity = body.arity()
    for column in range(body.k):
        is_used = arity > column
        is_constant = body.fanin[:, column] < FIRST_TAP
        is_ignored = ~depends_on(body.table, body.k, column)
        if (is_used & (is_constant | is_ignored)).any():
            return False
    return bool((arity > 0).all())
