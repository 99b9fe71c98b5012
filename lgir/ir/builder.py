"""GraphBuilder: build a graph node by node, with default names and inferred shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lgir.errors import GraphError
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Op, Reshape, Threshold, infer_value
from lgir.ir.truth_tables import OP_TABLES, OR, operation_numbers
from lgir.ir.types import FIRST_TAP, Shape, Value
from lgir.ir.verifier import verify_input, verify_node


class GraphBuilder:
    """Collects inputs and nodes; each method that adds one returns its `Value`.

    >>> b = GraphBuilder("tiny")
    >>> x = b.input("x", "bit", (4,))
    >>> y = b.dense(x, a=[0, 2], b=[1, 3], ops=[6, 7])
    >>> graph = b.build(b.group_sum(y, groups=2))
    """

    def __init__(self, name: str, metadata: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.metadata = dict(metadata or {})
        self._inputs: list[Value] = []
        self._nodes: list[Node] = []
        self._values: dict[str, Value] = {}
        self._counts: dict[str, int] = {}

    def _fresh_name(self, base: str) -> str:
        while True:
            count = self._counts.get(base, 0) + 1
            self._counts[base] = count
            name = f"{base}{count}"
            if name not in self._values:
                return name

    def input(self, name: str, dtype: str, shape: Shape) -> Value:
        """Add a graph input, of a shape without the batch axis. Raises GraphError if it is none."""
        value = Value(name, dtype, tuple(shape))
        verify_input(value)
        self._inputs.append(value)
        self._values[name] = value
        return value

    def add(self, op: Op, inputs: Sequence[Value], name: str | None = None) -> Value:
        """Add any operator. Raises GraphError if it does not fit its inputs."""
        output = name or self._fresh_name(type(op).__name__.lower())
        node = Node(op, tuple(v.name for v in inputs), output)
        verify_node(node, tuple(inputs))
        value = infer_value(op, tuple(inputs), output)
        self._nodes.append(node)
        self._values[output] = value
        return value

    def threshold(self, x: Value, levels: npt.ArrayLike, name: str | None = None) -> Value:
        """Add the bits `x > level`, for levels (L,) or (*lead, L); see `Threshold`."""
        try:
            with np.errstate(over="ignore"):
                array = np.array(levels, dtype=np.float32)
        except (TypeError, ValueError):
            raise GraphError("levels must be numbers, as many for each feature") from None
        return self.add(Threshold(array), [x], name)

    def logic(
        self,
        inputs: Sequence[Value],
        body: Body,
        space: Shape = (),
        stride: Shape | None = None,
        name: str | None = None,
    ) -> Value:
        """Add a body over an iteration space; see `Logic`. The default stride is 1."""
        steps = tuple(stride) if stride is not None else (1,) * len(space)
        return self.add(Logic(body, tuple(space), steps), inputs, name)

    def dense(
        self,
        x: Value,
        a: npt.ArrayLike,
        b: npt.ArrayLike,
        ops: npt.ArrayLike,
        name: str | None = None,
    ) -> Value:
        """Add a layer of N two-input gates.

        Args:
            x: a flat value of bits.
            a, b: indices (N,) into `x` of the two inputs of each gate.
            ops: difflogic's number, 0..15, of each gate's operation, (N,), or its name as "xor".
            name: name of the output.

        Raises:
            GraphError: lengths differ, or a number is out of range.
        """
        first, second, numbers = (np.asarray(array) for array in (a, b, operation_numbers(ops)))
        if first.ndim != 1 or not first.shape == second.shape == numbers.shape:
            raise GraphError(
                f"a dense layer's a, b and ops are (N,) each, not {first.shape}, {second.shape}, "
                f"{numbers.shape}"
            )
        if any(array.size and array.dtype.kind not in "iu" for array in (first, second, numbers)):
            raise GraphError("a dense layer's a, b and ops hold integers")
        if ((numbers < 0) | (numbers > 15)).any():
            raise GraphError(
                f"difflogic's operations are 0..15, not {numbers.min()}..{numbers.max()}"
            )
        table = OP_TABLES[numbers.astype(np.int64)]
        body = dense_body(x.size, np.stack([first, second], axis=1), table)
        return self.logic([x], body, name=name)

    def or_pool(
        self,
        x: Value,
        kernel: Shape,
        stride: Shape | None = None,
        padding: Shape | None = None,
        name: str | None = None,
    ) -> Value:
        """Add the logical OR over windows; `padding` cells on every side read False."""
        stride = tuple(stride or kernel)
        padding = tuple(padding or (0,) * len(kernel))
        rank = len(x.shape) - 1
        if not len(kernel) == len(stride) == len(padding) == rank or min(*kernel, *stride) < 1:
            raise GraphError(
                f"pooling {x.type} takes {rank} positive sizes each for its kernel {kernel} and "
                f"stride {stride}, and as many for its padding {padding}"
            )
        space = tuple(
            (size + 2 * p - k) // s + 1
            for size, k, s, p in zip(x.shape[1:], kernel, stride, padding, strict=True)
        )
        return self.logic([x], or_pool_body(x.shape[0], kernel, padding), space, stride, name)

    def flatten(self, x: Value) -> Value:
        """Add a reshape to one axis, if `x` has more."""
        return x if len(x.shape) == 1 else self.reshape(x, (x.size,))

    def reshape(self, x: Value, shape: Shape) -> Value:
        """Add a reshape, without the batch axis."""
        return self.add(Reshape(tuple(shape)), [x])

    def group_sum(
        self,
        x: Value,
        groups: int,
        tau: float = 1.0,
        beta: float = 0.0,
        name: str | None = None,
    ) -> Value:
        """Add class scores (count + beta) / tau of contiguous groups of bits; see `GroupSum`."""
        return self.add(GroupSum(groups, float(tau), float(beta)), [x], name)

    def build(self, *outputs: Value) -> Graph:
        """Return the verified graph with these outputs."""
        return Graph(
            self.name,
            tuple(self._inputs),
            tuple(self._nodes),
            tuple(v.name for v in outputs),
            self.metadata,
        )


def dense_body(
    width: int, indices: npt.NDArray[np.integer], table: npt.NDArray[np.unsignedinteger]
) -> Body:
    """Return one layer of gates over a flat input of `width` bits.

    `indices` (N, K) are the inputs of each gate, `table` (N,) its truth tables.
    """
    channels = np.arange(width, dtype=np.int32)
    taps = np.stack([np.zeros_like(channels), channels], axis=1)
    gates = np.arange(len(table), dtype=np.int32) + FIRST_TAP + width
    fanin = np.asarray(indices, dtype=np.int64)
    # Out-of-range wiring must stay out of range: a negative index would alias a constant.
    fanin = np.where((fanin < 0) | (fanin >= width), -1, fanin + FIRST_TAP)
    return Body.build(taps, fanin, table, gates)


def tree_body(
    leaves: npt.NDArray[np.integer], table: npt.NDArray[np.unsignedinteger], fanin: int = 2
) -> Body:
    """Return kernels that are complete trees over their own taps, one output channel each.

    Args:
        leaves: tap rows, (kernels, fanin**depth, 2 + rank).
        table: truth tables, (kernels, gates), level by level from the leaves. Gate j of a level
            reads nets j*fanin ... j*fanin + fanin-1 of the level below.
        fanin: inputs per gate.

    Raises:
        GraphError: the number of gates is not that of a complete tree.
    """
    kernels, width, columns = leaves.shape
    gates = table.shape[1]
    complete, below = 0, width
    while fanin > 1 and below > 1 and below % fanin == 0:
        below //= fanin
        complete += below
    if below != 1 or gates != complete:
        raise GraphError(
            f"{gates} gates over {width} leaves are no complete tree of {fanin}-input gates"
        )
    first_gate = FIRST_TAP + kernels * width
    base = first_gate + np.arange(kernels)[:, None] * gates
    nets = FIRST_TAP + np.arange(kernels * width).reshape(kernels, width)
    fanins, gates_below = [], 0
    while nets.shape[1] > 1:
        level = nets.shape[1] // fanin
        fanins.append(nets.reshape(kernels, level, fanin))
        nets = base + gates_below + np.arange(level)
        gates_below += level
    wires = np.concatenate(fanins, axis=1).reshape(-1, fanin) if fanins else np.zeros((0, fanin))
    return Body.build(leaves.reshape(-1, columns), wires, table.ravel(), nets[:, 0])


def or_pool_body(channels: int, kernel: Shape, padding: Shape) -> Body:
    """Return the OR over a window of `kernel` taps per channel, as balanced two-input ORs."""
    window = np.stack(
        [axis.ravel() for axis in np.meshgrid(*map(np.arange, kernel), indexing="ij")], axis=1
    ) - np.array(padding)
    cells = len(window)
    channel = np.repeat(np.arange(channels), cells)
    taps = np.column_stack([np.zeros_like(channel), channel, np.tile(window, (channels, 1))])
    nets = FIRST_TAP + np.arange(channels * cells).reshape(channels, cells)
    next_id, fanins = FIRST_TAP + channels * cells, []
    while nets.shape[1] > 1:
        pairs = nets.shape[1] // 2
        fanins.append(nets[:, : 2 * pairs].reshape(-1, 2))
        new = next_id + np.arange(channels * pairs).reshape(channels, pairs)
        next_id += channels * pairs
        nets = np.concatenate([new, nets[:, 2 * pairs :]], axis=1)
    fanin = np.concatenate(fanins) if fanins else np.zeros((0, 2))
    return Body.build(taps, fanin, np.full(len(fanin), OR), nets[:, 0])
