"""Graph: named inputs, outputs, and nodes in topological order.

The words are ONNX's. A node carries a typed operator (see `lgir.ir.nodes`). Everything is
immutable: a pass builds a new graph from the old one, and the structural verifier runs whenever a
graph is made, so no broken graph exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from lgir.errors import unknown_name
from lgir.ir.nodes import Logic, Node, OpT
from lgir.ir.printer import dumps
from lgir.ir.types import Value
from lgir.ir.verifier import verify_graph


@dataclass(frozen=True)
class Graph:
    """A compiled-to-be logic gate network.

    `nodes` are in topological order and each name is defined once. `metadata` holds strings only
    (source framework, training notes). Build one with `lgir.ir.builder.GraphBuilder`; the
    constructor infers the values and runs the structural verifier.
    """

    name: str
    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Value] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", dict(self.metadata))
        object.__setattr__(self, "values", verify_graph(self))

    def __str__(self) -> str:
        return dumps(self)

    def __repr__(self) -> str:
        gates = sum(n.op.body.num_gates for n in self.nodes if isinstance(n.op, Logic))
        return f"<Graph {self.name!r}: {len(self.nodes)} nodes, {gates:,} distinct gates>"

    def node(self, name: str) -> Node:
        """The node whose output is `name`; UnknownNameError with a suggestion where none is."""
        found = self.producer(name)
        if found is None:
            raise unknown_name("node", name, (n.output for n in self.nodes))
        return found

    def producer(self, name: str) -> Node | None:
        """The node that defines `name`, or None for a graph input."""
        return next((n for n in self.nodes if n.output == name), None)

    def users(self) -> dict[str, list[Node]]:
        """Value name -> the nodes that read it, in order; graph outputs do not count."""
        found: dict[str, list[Node]] = {name: [] for name in self.values}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found[name].append(node)
        return found

    def of_type(self, op: type[OpT]) -> Iterator[tuple[Node, OpT]]:
        """The nodes whose operator is an `op`, with that operator."""
        for node in self.nodes:
            if isinstance(node.op, op):
                yield node, node.op

    def with_nodes(self, nodes: Iterable[Node], outputs: Iterable[str] | None = None) -> Graph:
        """The same inputs and metadata around other nodes."""
        return replace(
            self, nodes=tuple(nodes), outputs=self.outputs if outputs is None else tuple(outputs)
        )
