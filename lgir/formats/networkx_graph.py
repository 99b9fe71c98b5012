"""Graphs and bodies as networkx graphs: for drawing, and for its algorithms, on small networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lgir.errors import GraphError
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic

if TYPE_CHECKING:
    from networkx import MultiDiGraph


def to_networkx(graph: Graph | Body, *, max_nodes: int = 20_000) -> MultiDiGraph:
    """Return a directed multigraph whose edges point the way that the data flows.

    A `Graph` gives one node per graph input and per node, keyed by name, with `op_type`, `type`,
    `label` and, for a Logic node, `gates`. A `Body` gives one node per tap, gate and used constant,
    keyed by net id, with `op_type`, `label` and, for a gate, `table`. `outputs` of a node holds the
    positions at which it is an output. An edge carries `input`, the operand's position.

    Raises GraphError for more than `max_nodes` nodes, each of which costs networkx about a KB.
    """
    import networkx

    count = graph.num_nets if isinstance(graph, Body) else len(graph.values)
    if count > max_nodes:
        raise GraphError(
            f"{graph!r} has {count:,} nodes, more than max_nodes={max_nodes:,}; export a smaller "
            "body, or raise max_nodes"
        )
    result = networkx.MultiDiGraph()
    if isinstance(graph, Body):
        _add_body(graph, result)
    else:
        _add_graph(graph, result)
    return result


def _add_graph(graph: Graph, result: Any) -> None:
    result.graph["name"] = graph.name
    for value in graph.inputs:
        result.add_node(value.name, op_type="Input", type=value.type, label=str(value), outputs=[])
    for node in graph.nodes:
        type_ = graph.values[node.output].type
        extra = {"gates": node.op.body.num_gates} if isinstance(node.op, Logic) else {}
        result.add_node(
            node.output,
            op_type=node.op_type,
            type=type_,
            label=f"%{node.output}\n{node.op_type} {type_}",
            outputs=[],
            **extra,
        )
        for position, name in enumerate(node.inputs):
            result.add_edge(name, node.output, input=position)
    _mark_outputs(graph.outputs, result)


def _add_body(body: Body, result: Any) -> None:
    gates = body.gates()
    used = {net for gate in gates for net in gate.inputs} | set(body.outputs.tolist())
    for net, name in enumerate(("false", "true")):
        if net in used:
            result.add_node(net, op_type=name, label=name, outputs=[])
    for tap in body.tap_views():
        cell = ",".join(map(str, (tap.channel, *tap.offset)))
        label = f"%{tap.id} = {tap.input}[{cell}]"
        result.add_node(tap.id, op_type="tap", label=label, outputs=[])
    for gate in gates:
        label = f"%{gate.id} = {gate.op_type}"
        result.add_node(gate.id, op_type=gate.op_type, table=gate.table, label=label, outputs=[])
        for position, net in enumerate(gate.inputs):
            result.add_edge(net, gate.id, input=position)
    _mark_outputs(body.outputs.tolist(), result)


def _mark_outputs(outputs: Any, result: Any) -> None:
    for position, name in enumerate(outputs):
        result.nodes[name]["outputs"].append(position)
