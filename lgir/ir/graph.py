"""Graph: named inputs, outputs, and nodes in topological order.

The words are ONNX's. A node carries a typed operator (see `lgir.ir.nodes`). Everything is
immutable: a pass builds a new graph from the old one. The structural verifier runs whenever a graph
is made, so no broken graph exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from lgir.errors import unknown_name
from lgir.ir.body import Body
from lgir.ir.nodes import Logic, Node, OpT
from lgir.ir.printer import dumps
from lgir.ir.types import Value
from lgir.ir.verifier import verify_graph


@dataclass(frozen=True)
class Graph:
    """A logic gate network, from named inputs to named outputs.

    `lgir.GraphBuilder` builds one node by node. The constructor infers `values` and runs the
    structural verifier, which raises GraphError at the first rule that is broken.

    Attributes:
        name: name of the network.
        inputs: the graph's inputs.
        nodes: the nodes in topological order; each name is defined once.
        outputs: names of the values that are the outputs.
        metadata: strings by name, for example the source framework or notes of the training.
        values: all values by name, inputs included.
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
        """Return the node whose output is `name`.

        Raises UnknownNameError, which suggests a near name, if there is none.
        """
        node = self.producer(name)
        if node is None:
            raise unknown_name("node", name, (n.output for n in self.nodes))
        return node

    def producer(self, name: str) -> Node | None:
        """Return the node that defines the value `name`, or None for a graph input."""
        return next((n for n in self.nodes if n.output == name), None)

    def users(self) -> dict[str, list[Node]]:
        """Return the nodes that read each value, in order, by the value's name.

        Being an output of the graph does not count as a use.
        """
        users: dict[str, list[Node]] = {name: [] for name in self.values}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                users[name].append(node)
        return users

    def of_type(self, op: type[OpT]) -> Iterator[tuple[Node, OpT]]:
        """Yield the nodes whose operator is an `op`, each with that operator.

        The operator is typed: `for node, op in graph.of_type(Logic)` makes `op.body` known to a
        type checker, as `isinstance(node.op, Logic)` does for `node.op.body`.
        """
        for node in self.nodes:
            if isinstance(node.op, op):
                yield node, node.op

    def with_nodes(self, nodes: Iterable[Node], outputs: Iterable[str] | None = None) -> Graph:
        """Return a graph of the same name, inputs and metadata around other nodes.

        `outputs` are names of values; by default they stay. Raises GraphError as the constructor.
        """
        return replace(
            self, nodes=tuple(nodes), outputs=self.outputs if outputs is None else tuple(outputs)
        )

    def map_bodies(self, function: Callable[[Body], Body]) -> Graph:
        """Return the graph with `function` applied to the body of every Logic node.

        `function` returns the body that it was given to leave a node as it is; this graph itself
        is returned if that holds for all nodes. Raises GraphError if a new body does not fit.
        """
        new_bodies = {
            node.output: body
            for node, op in self.of_type(Logic)
            if (body := function(op.body)) is not op.body
        }
        if not new_bodies:
            return self
        return self.with_nodes(
            replace(node, op=replace(node.op, body=new_bodies[node.output]))
            if isinstance(node.op, Logic) and node.output in new_bodies
            else node
            for node in self.nodes
        )
