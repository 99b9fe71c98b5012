"""`unroll`: convolutions become dense nodes with a gate per position.

What differs between positions (padding, gates that neighbouring windows share) can then be
simplified, at the price of a body that is as large as the image. For small networks and for
counting gates as outside tools do.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lgir.errors import PassError
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Node, Reshape
from lgir.ir.simulate import tap_index
from lgir.ir.types import FALSE, FIRST_TAP, TRUE, Shape
from lgir.registry import register_pass


@register_pass("unroll")
def unroll(graph: Graph, limit: int = 10_000_000) -> Graph:
    """Unroll convolutions into dense nodes, up to `limit` gates in all."""
    rolled = [op for _, op in graph.of_type(Logic) if op.space]
    if not rolled:
        return graph
    total = sum(op.body.num_gates * op.positions for op in rolled)
    if total > limit:
        raise PassError(f"unroll: {total:,} gates exceed the limit of {limit:,}; set limit={total}")
    names = set(graph.values)
    nodes: list[Node] = []

    def fresh(base: str) -> str:
        name = f"{base}_flat"
        while name in names:
            name += "_"
        names.add(name)
        return name

    for node in graph.nodes:
        if not isinstance(node.op, Logic) or not node.op.space:
            nodes.append(node)
            continue
        inputs = []
        for name in dict.fromkeys(node.inputs):
            value = graph.values[name]
            inputs.append(fresh(name))
            nodes.append(Node(Reshape((value.size,)), (name,), inputs[-1]))
        flat = Node(Logic(unrolled_body(node.op, graph, node)), tuple(inputs), fresh(node.output))
        nodes.append(flat)
        shape = graph.values[node.output].shape
        nodes.append(replace(flat, op=Reshape(shape), inputs=(flat.output,), output=node.output))
    return graph.with_nodes(nodes)


def unrolled_body(op: Logic, graph: Graph, node: Node) -> Body:
    """A dense body over the node's flattened inputs, each named once; gate g at position p is gate
    g * positions + p.
    """
    body, count = op.body, op.positions
    shapes: list[Shape] = [graph.values[name].shape for name in node.inputs]
    unique = list(dict.fromkeys(node.inputs))
    first = np.cumsum([0, *(graph.values[name].size for name in unique)])
    total = int(first[-1])
    # Element e of input i is tap first[i] + e of the dense body; reads outside are False.
    starts = [first[unique.index(name)] for name in node.inputs]
    planes = np.concatenate(
        [s + np.arange(np.prod(shape)) for s, shape in zip(starts, shapes, strict=True)]
        + [[FALSE - FIRST_TAP]]
    )
    own = np.empty((body.num_nets, count), np.int64)
    own[FALSE], own[TRUE] = FALSE, TRUE
    own[FIRST_TAP : body.first_gate] = FIRST_TAP + planes[tap_index(op, shapes)]
    gates = FIRST_TAP + total + np.arange(body.num_gates * count)
    own[body.first_gate :] = gates.reshape(body.num_gates, count)
    source = np.repeat(np.arange(len(unique)), np.diff(first))
    taps = np.stack([source, np.arange(total) - first[source]], axis=1)
    return Body.build(
        taps,
        own[body.fanin].transpose(0, 2, 1).reshape(-1, body.k),
        np.repeat(body.table, count),
        own[body.outputs].ravel(),
    )
