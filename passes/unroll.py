"""`unroll`: turn convolutions into dense nodes with one gate per position.

What differs between positions can then be simplified: padding, and gates that neighboring windows
share. The price is a body as large as the image. The pass is meant for small networks, and for
counting gates as outside tools do.

Option `limit`: most gates after unrolling. Cost: linear in the unrolled gates.
"""

from __future__ import annotations

from dataclasses import replace

from lgir.errors import PassError
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Node, Reshape
from lgir.ir.unrolling import unroll_logic
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
        distinct_inputs = list(dict.fromkeys(node.inputs))
        inputs = [fresh_name(name) for name in distinct_inputs]
        for name, flattened in zip(distinct_inputs, inputs, strict=True):
            nodes.append(Node(Reshape((graph.values[name].size,)), (name,), flattened))
        shapes = [graph.values[name].shape for name in node.inputs]
        dense = unroll_logic(node.op, shapes, list(map(distinct_inputs.index, node.inputs)))
        flat = Node(Logic(dense), tuple(inputs), fresh_name(node.output))
        nodes.append(flat)
        shape = graph.values[node.output].shape
        nodes.append(replace(flat, op=Reshape(shape), inputs=(flat.output,), output=node.output))
    return graph.with_nodes(nodes)
