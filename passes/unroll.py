"""`unroll`: turn convolutions into dense nodes with one gate per position.

What differs between positions can then be simplified: padding, and gates that neighboring windows
share. The price is a body as large as the image. The pass is meant for small networks, and for
counting gates as outside tools do.

Option `limit`: most gates after unrolling. Cost: linear in the unrolled gates.
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
    """Unroll convolutions into dense nodes, up to `limit` gates in all.

    Raises:
        PassError: the unrolled convolutions have more gates than `limit`.
    """
    convolutions = [op for _, op in graph.of_type(Logic) if op.space]
    if not convolutions:
        return graph
    total = sum(op.body.num_gates * op.positions for op in convolutions)
    if total > limit:
        raise PassError(f"unroll: {total:,} gates exceed the limit of {limit:,}; set limit={total}")
    names = set(graph.values)
    nodes: list[Node] = []

    def fresh_name(base: str) -> str:
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
            inputs.append(fresh_name(name))
            nodes.append(Node(Reshape((value.size,)), (name,), inputs[-1]))
        dense = Logic(unrolled_body(node.op, graph, node))
        flat = Node(dense, tuple(inputs), fresh_name(node.output))
        nodes.append(flat)
        shape = graph.values[node.output].shape
        nodes.append(replace(flat, op=Reshape(shape), inputs=(flat.output,), output=node.output))
    return graph.with_nodes(nodes)


def unrolled_body(op: Logic, graph: Graph, node: Node) -> Body:
    """Return a dense body over the node's flattened inputs, each of which it reads once.

    Gate g at position p is gate g * positions + p of the result.
    """
    body, positions = op.body, op.positions
    shapes: list[Shape] = [graph.values[name].shape for name in node.inputs]
    distinct_inputs = list(dict.fromkeys(node.inputs))
    first_tap = np.cumsum([0, *(graph.values[name].size for name in distinct_inputs)])
    num_taps = int(first_tap[-1])
    # Element e of input i is tap first_tap[i] + e of the dense body; reads outside are False.
    starts = [first_tap[distinct_inputs.index(name)] for name in node.inputs]
    tap_of_element = np.concatenate(
        [start + np.arange(np.prod(shape)) for start, shape in zip(starts, shapes, strict=True)]
        + [[FALSE - FIRST_TAP]]
    )
    new_net = np.empty((body.num_nets, positions), np.int64)
    new_net[FALSE], new_net[TRUE] = FALSE, TRUE
    new_net[FIRST_TAP : body.first_gate] = FIRST_TAP + tap_of_element[tap_index(op, shapes)]
    gates = FIRST_TAP + num_taps + np.arange(body.num_gates * positions)
    new_net[body.first_gate :] = gates.reshape(body.num_gates, positions)
    source = np.repeat(np.arange(len(distinct_inputs)), np.diff(first_tap))
    taps = np.stack([source, np.arange(num_taps) - first_tap[source]], axis=1)
    return Body.build(
        taps,
        new_net[body.fanin].transpose(0, 2, 1).reshape(-1, body.k),
        np.repeat(body.table, positions),
        new_net[body.outputs].ravel(),
    )
