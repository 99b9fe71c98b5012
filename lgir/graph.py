"""Graph, Value, Node and the four node types: the whole vocabulary of the IR.

The words are ONNX's: a graph has named inputs, outputs, and nodes in topological order. A node
carries a typed operator (`Threshold`, `Logic`, `GroupSum`, `Reshape`); `op_type` and `attributes`
give the ONNX view of it. Everything is immutable: a pass builds a new graph from the old one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from lgir.body import Body
from lgir.errors import unknown_name

Shape = tuple[int, ...]

DTYPES: Final = ("bit", "u8", "f32", "i32")

OpT = TypeVar("OpT", bound="Op")


@dataclass(frozen=True)
class Value:
    """A named tensor: `shape` is without the batch axis, `dtype` one of bit, u8, f32, i32."""

    name: str
    dtype: str
    shape: Shape

    @property
    def size(self) -> int:
        """Elements per sample."""
        return math.prod(self.shape)

    @property
    def type(self) -> str:
        """The type as the text form writes it, for example `bit[16,14,14]`."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    def __str__(self) -> str:
        return f"%{self.name} : {self.type}"


@dataclass(frozen=True, eq=False)
class Op:
    """Base of the node types. Equality compares every attribute, arrays by content."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            same = np.array_equal(mine, theirs) if isinstance(mine, np.ndarray) else mine == theirs
            if not same:
                return False
        return True

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Threshold(Op):
    """Thermometer encoding: output bit (feature, level) is `x > levels[..., level]`, strict.

    `levels` is float32 of shape (L,) for all features, or (*lead, L) where `lead` is a prefix of
    the input's shape (per channel or per element). An input [C, ...] gives bits [C*L, ...], feature
    major: channel c*L + l.
    """

    levels: npt.NDArray[np.float32]

    @property
    def num_levels(self) -> int:
        return int(self.levels.shape[-1])


@dataclass(frozen=True, eq=False)
class Logic(Op):
    """One body of gates evaluated at every position of an iteration space.

    `space` is () for a dense layer, (H', W') for images, (D', H', W') for volumes; `stride` has
    the same length. At position p, tap (i, c, *d) reads `inputs[i][c, *(p * stride + d)]`, False
    outside the input. The output is bit[C, *space], channel c being the net `body.outputs[c]`.
    """

    body: Body
    space: Shape = ()
    stride: Shape = ()

    @property
    def positions(self) -> int:
        return math.prod(self.space)


@dataclass(frozen=True, eq=False)
class GroupSum(Op):
    """Class scores: contiguous groups of the input bits are counted; score = (count + beta) / tau.

    The arithmetic is float32, in that order, as torch does it.
    """

    groups: int
    tau: float = 1.0
    beta: float = 0.0


@dataclass(frozen=True, eq=False)
class Reshape(Op):
    """The same elements in row-major order under another shape. Costs nothing."""

    shape: Shape


OP_TYPES: Final[Mapping[str, type[Op]]] = {
    cls.__name__: cls for cls in (Threshold, Logic, GroupSum, Reshape)
}


@dataclass(frozen=True)
class Node:
    """An operator applied to named values. Every node has exactly one output."""

    op: Op
    inputs: tuple[str, ...]
    output: str

    @property
    def op_type(self) -> str:
        return type(self.op).__name__

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.output,)

    @property
    def attributes(self) -> dict[str, Any]:
        return {f.name: getattr(self.op, f.name) for f in fields(self.op)}


def infer_value(op: Op, inputs: tuple[Value, ...], name: str) -> Value:
    """The output value of `op` on `inputs`. Assumes what `lgir.verifier` checks."""
    if isinstance(op, Threshold):
        channels, *rest = inputs[0].shape
        return Value(name, "bit", (channels * op.num_levels, *rest))
    if isinstance(op, Logic):
        return Value(name, "bit", (len(op.body.outputs), *op.space))
    if isinstance(op, GroupSum):
        return Value(name, "f32", (op.groups,))
    assert isinstance(op, Reshape)
    return Value(name, inputs[0].dtype, op.shape)


@dataclass(frozen=True)
class Graph:
    """A compiled-to-be logic gate network.

    `nodes` are in topological order and each name is defined once. `metadata` holds strings only
    (source framework, training notes). Build one with `lgir.builder.GraphBuilder`; the constructor
    infers the values and runs the structural verifier.
    """

    name: str
    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Value] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        from lgir.verifier import verify_graph

        object.__setattr__(self, "metadata", dict(self.metadata))
        object.__setattr__(self, "values", verify_graph(self))

    def __str__(self) -> str:
        from lgir.text import dumps

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
