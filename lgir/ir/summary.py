"""A graph in numbers: gates by node and by operation, depth, taps, unrolled gates.

A *distinct* gate is one of a body; an *unrolled* gate is one of the circuit, counted at every
position of its node's iteration space. Papers quote the second, memory follows the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Threshold
from lgir.ir.printer import gate_names
from lgir.printable import escape_markup

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class NodeSummary:
    """One node in numbers; the counts are 0 if it holds no gates.

    `depth` is the longest path of gates inside the node, `total_depth` from the graph's inputs to
    the end of the node (every channel of a value counting as deep as its deepest).
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    type: str
    gates: int
    unrolled_gates: int
    positions: int
    taps: int
    depth: int
    total_depth: int
    operations: Mapping[str, int]
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class Summary:
    """A graph in numbers; print it with rich, or take `to_dict()`."""

    name: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    nodes: tuple[NodeSummary, ...]
    gates: int
    unrolled_gates: int
    taps: int
    depth: int
    operations: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings, fit for JSON."""
        plain = asdict(self)
        plain["nodes"] = [{**node, "inputs": list(node["inputs"])} for node in plain["nodes"]]
        return plain

    def __rich__(self) -> Table:
        return _table(self)


def summarize(graph: Graph) -> Summary:
    """Count the gates, taps and levels of `graph`, by node and by operation."""
    depths = {value.name: 0 for value in graph.inputs}
    nodes = []
    for node in graph.nodes:
        nodes.append(_node(graph, node, depths))
        depths[node.output] = nodes[-1].total_depth
    operations: Counter[str] = Counter()
    for summary in nodes:
        operations.update(summary.operations)
    return Summary(
        name=graph.name,
        inputs={value.name: value.type for value in graph.inputs},
        outputs={name: graph.values[name].type for name in graph.outputs},
        nodes=tuple(nodes),
        gates=sum(n.gates for n in nodes),
        unrolled_gates=sum(n.unrolled_gates for n in nodes),
        taps=sum(n.taps for n in nodes),
        depth=max(depths[name] for name in graph.outputs),
        operations=dict(operations.most_common()),
    )


def _node(graph: Graph, node: Node, depths: Mapping[str, int]) -> NodeSummary:
    op = node.op
    gates = positions = taps = depth = 0
    operations: dict[str, int] = {}
    parameters: dict[str, float] = {}
    if isinstance(op, Logic):
        gates, positions, taps = op.body.num_gates, op.positions, op.body.num_taps
        depth = int(op.body.levels().max())
        # Wider gates have too many functions to list: they count together, by fan-in.
        names, arity = gate_names(op.body), op.body.arity().tolist()
        kinds = (f"lut{k}" if k > 2 else name for name, k in zip(names, arity, strict=True))
        operations = dict(Counter(kinds).most_common())
    elif isinstance(op, GroupSum):
        parameters = {"groups": op.groups, "tau": float(op.tau), "beta": float(op.beta)}
    elif isinstance(op, Threshold):
        parameters = {"levels": op.num_levels}
    return NodeSummary(
        name=node.output,
        op_type=node.op_type,
        inputs=node.inputs,
        type=graph.values[node.output].type,
        gates=gates,
        unrolled_gates=gates * positions,
        positions=positions,
        taps=taps,
        depth=depth,
        total_depth=depth + max(depths[name] for name in node.inputs),
        operations=operations,
        parameters=parameters,
    )


def _table(summary: Summary) -> Table:
    from rich.table import Table

    inputs = ", ".join(f"%{name} : {type_}" for name, type_ in summary.inputs.items())
    operations = ", ".join(f"{name} {count:,}" for name, count in summary.operations.items())
    table = Table(
        title=escape_markup(f"{summary.name} ({inputs})"),
        caption=f"gates by operation: {operations}" if operations else None,
        caption_justify="left",
        show_footer=True,
    )
    table.add_column("node", "total")
    table.add_column("op", no_wrap=True)
    table.add_column("output", no_wrap=True)
    table.add_column("gates", f"{summary.gates:,}", justify="right", no_wrap=True)
    table.add_column("unrolled", f"{summary.unrolled_gates:,}", justify="right", no_wrap=True)
    table.add_column("taps", f"{summary.taps:,}", justify="right", no_wrap=True)
    table.add_column("depth", str(summary.depth), justify="right", no_wrap=True)
    for node in summary.nodes:
        counts = (node.gates, node.unrolled_gates, node.taps, node.depth)
        shown = [f"{count:,}" if node.op_type == "Logic" else "" for count in counts]
        table.add_row(escape_markup(node.name), node.op_type, escape_markup(node.type), *shown)
    return table
