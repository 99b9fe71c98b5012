"""Apply functions to the bodies of a graph that also need the names of their nodes.

`Graph.map_bodies` applies those that do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic


def map_named_bodies(graph: Graph, function: Callable[[str, Body], Body]) -> Graph:
    """Return the graph with a function applied to the name of every body's output and the body.

    The result is the same object if the function returns every body as the same object.
    """
    nodes = []
    for node in graph.nodes:
        if isinstance(node.op, Logic):
            body = function(node.output, node.op.body)
            if body is not node.op.body:
                node = replace(node, op=replace(node.op, body=body))
        nodes.append(node)
    if all(new is old for new, old in zip(nodes, graph.nodes, strict=True)):
        return graph
    return graph.with_nodes(nodes)
