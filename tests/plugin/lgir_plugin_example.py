"""A pass that lgir finds by its entry point."""

from __future__ import annotations

from dataclasses import replace

import lgir


def reverse_outputs_twice(graph: lgir.Graph, *, times: int = 2) -> lgir.Graph:
    """Turn the outputs of every body around an even number of times."""

    def turn(node: lgir.Node) -> lgir.Node:
        if not isinstance(node.op, lgir.Logic):
            return node
        outputs = node.op.body.outputs
        for _ in range(times):
            outputs = outputs[::-1]
        body = replace(node.op.body, outputs=outputs)
        return replace(node, op=replace(node.op, body=body))

    return graph.with_nodes(turn(node) for node in graph.nodes)
