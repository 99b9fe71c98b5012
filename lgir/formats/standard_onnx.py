"""Write a graph as an ONNX model of standard operators, which any ONNX runtime evaluates.

Bits are booleans. A level of gates is a few operators on whole tensors: `Gather` brings the
operands side by side, `And` and `Xor` with constant masks evaluate gates of two inputs, and gates
of three to six look their tables up. A convolution stays one: its taps are slices of the padded
feature map, one for each offset in the window, and its gates act on whole maps. Scores are
`ReduceSum`, `Add` and `Div` in float32, as the IR defines them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import BackendError
from lgir.formats.exporter import Export
from lgir.ir.body import FALSE, FIRST_TAP, TRUE, Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Reshape, Threshold
from lgir.ir.types import Value
from lgir.registry import register_exporter
from lgir.version import __version__

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET: Final = 17
_IR_VERSION: Final = 8
_MAX_BYTES: Final = 2**31 - 1

Ints = npt.NDArray[np.int64]


@register_exporter("onnx")
def export_onnx(graph: Graph) -> Export:
    """ONNX of standard operators (opset 17), for runtimes that do not know lgir's own."""
    model = to_model(graph)
    if model.ByteSize() > _MAX_BYTES * 0.99:
        raise BackendError(
            f"the ONNX model of {graph.name!r} passes protobuf's 2 GB; optimize the graph first"
        )
    return Export(model.SerializeToString(deterministic=True), text=False)


def to_model(graph: Graph) -> ModelProto:
    """The model. Inputs and outputs have the graph's names: bits are bool, the batch axis is N."""
    from onnx import helper

    writer = _Writer()
    for node in graph.nodes:
        writer.node(graph, node)
    outputs = []
    for name in dict.fromkeys(graph.outputs):
        if any(name == value.name for value in graph.inputs):  # an output must be a node's
            writer.add("Identity", [name], f"{name}_out")
            outputs.append(_value_info(graph.values[name], f"{name}_out"))
        else:
            outputs.append(_value_info(graph.values[name], name))
    proto = helper.make_graph(
        writer.nodes,
        graph.name,
        [_value_info(value, value.name) for value in graph.inputs],
        outputs,
        writer.initializers,
    )
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="lgir",
        producer_version=__version__,
    )
    for key, text in sorted(graph.metadata.items()):
        model.metadata_props.add(key=key, value=text)
    return model


def _value_info(value: Value, name: str) -> Any:
    from onnx import TensorProto, helper

    kinds = {
        "bit": TensorProto.BOOL,
        "u8": TensorProto.UINT8,
        "f32": TensorProto.FLOAT,
        "i32": TensorProto.INT32,
    }
    return helper.make_tensor_value_info(name, kinds[value.dtype], ["N", *value.shape])


class _Writer:
    """Collects nodes and initializers; equal constants are kept once."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def add(self, op_type: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Append a node with one output, and return the output's name."""
        from onnx import helper

        self._count += 1
        output = output or f"_{op_type.lower()}{self._count}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], **attributes))
        return output

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        """An initializer that holds `array`."""
        from onnx import numpy_helper

        values = np.ascontiguousarray(np.asarray(array, dtype))
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._constants:
            name = f"_constant{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(values, name))
            self._constants[key] = name
        return self._constants[key]

    def reshape(self, x: str, shape: Sequence[int], output: str = "") -> str:
        """`x` in another shape, the batch axis being kept."""
        return self.add("Reshape", [x, self.constant([0, *shape])], output)

    def gather(self, x: str, index: Ints) -> str:
        """Channels of `x` by number, in this order."""
        return self.add("Gather", [x, self.constant(index, np.int32)], axis=1)

    def concat(self, parts: Sequence[str]) -> str:
        return parts[0] if len(parts) == 1 else self.add("Concat", parts, axis=1)

    def node(self, graph: Graph, node: Node) -> None:
        inputs = [graph.values[name] for name in node.inputs]
        if isinstance(node.op, Logic):
            self._logic(node.op, inputs, node.output)
        elif isinstance(node.op, Threshold):
            self._threshold(node.op, inputs[0], graph.values[node.output], node.output)
        elif isinstance(node.op, GroupSum):
            self._group_sum(node.op, inputs[0], node.output)
        else:
            assert isinstance(node.op, Reshape)
            self.reshape(inputs[0].name, node.op.shape, node.output)

    def _threshold(self, op: Threshold, x: Value, result: Value, output: str) -> None:
        lead = op.levels.ndim - 1
        rest = len(x.shape) - lead
        # Levels (*lead, L) against numbers (N, channels, 1, ...): L comes after the channels.
        levels = op.levels.reshape(*op.levels.shape[:lead], *(1,) * rest, op.num_levels)
        levels = np.moveaxis(levels, -1, 1)
        numbers = self.add("Cast", [x.name], to=1) if x.dtype != "f32" else x.name
        numbers = self.add("Unsqueeze", [numbers, self.constant([2])])
        bits = self.add("Greater", [numbers, self.constant(levels[None], np.float32)])
        self.reshape(bits, result.shape, output)

    def _group_sum(self, op: GroupSum, x: Value, output: str) -> None:
        ones = self.add("Cast", [x.name], to=1)
        grouped = self.reshape(ones, (op.groups, x.size // op.groups))
        total = self.add("ReduceSum", [grouped, self.constant([2])], keepdims=0)
        total = self.add("Add", [total, self.constant(op.beta, np.float32)])
        self.add("Div", [total, self.constant(op.tau, np.float32)], output)

    def _logic(self, op: Logic, inputs: Sequence[Value], output: str) -> None:
        body = op.body
        taps = self._taps(op, inputs)
        space = (1,) * len(op.space)
        # `where` holds, for each net, the tensor with it and its channel there.
        tensors = [taps]
        owner = np.zeros(body.num_nets, np.int64)
        channel = np.zeros(body.num_nets, np.int64)
        channel[FIRST_TAP : body.first_gate] = np.arange(body.num_taps)
        channel[TRUE] = body.num_taps + 1
        channel[FALSE] = body.num_taps
        arity = body.arity()
        for _, gates in body.level_runs():
            rows = np.arange(body.num_gates)[gates]
            for wide in (False, True):
                part = rows[(arity[rows] > 2) == wide]
                if not len(part):
                    continue
                evaluate = self._tables if wide else self._pairs
                order, tensor = evaluate(body, part, tensors, owner, channel, space)
                owner[body.first_gate + order] = len(tensors)
                channel[body.first_gate + order] = np.arange(len(order))
                tensors.append(tensor)
        result = self._operand(body.outputs, tensors, owner, channel)
        self.add("Identity", [result], output)

    def _operand(
        self, nets: npt.NDArray[Any], tensors: Sequence[str], owner: Ints, channel: Ints
    ) -> str:
        """The channels that hold `nets`, side by side."""
        used, which = np.unique(owner[nets], return_inverse=True)
        if len(used) == 1:
            return self.gather(tensors[used[0]], channel[nets])
        # Each tensor's channels are gathered before they are joined, so that none is copied whole.
        order = np.argsort(which.reshape(-1), kind="stable")
        parts = [
            self.gather(tensors[number], channel[nets[which.reshape(-1) == i]])
            for i, number in enumerate(used)
        ]
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        joined = self.concat(parts)
        return joined if (back == np.arange(len(back))).all() else self.gather(joined, back)

    def _pairs(
        self,
        body: Body,
        gates: Ints,
        tensors: Sequence[str],
        owner: Ints,
        channel: Ints,
        space: tuple[int, ...],
    ) -> tuple[Ints, str]:
        """Gates of at most two inputs: ands of literals, then exclusive ors of nets."""
        table = body.table[gates].astype(np.int64)
        if body.k > 2:  # inputs from the third on are ignored
            step = 1 << (body.k - 2)
            wide = body.table[gates].astype(np.uint64)
            table = sum(
                ((wide >> np.uint64(i * step)) & np.uint64(1)).astype(np.int64) << i
                for i in range(4)
            )
        elif body.k == 1:
            table = (table & 1) * 3 | (table >> 1) * 12
        nets = body.fanin[gates]
        first = nets[:, 0].astype(np.int64)
        second = nets[:, 1].astype(np.int64) if body.k > 1 else np.zeros_like(first)
        ones = sum(table >> i & 1 for i in range(4))
        is_and = (ones == 1) | (ones == 3)
        parts, order = [], []
        if is_and.any():
            rows = np.flatnonzero(is_and)
            odd = np.where(ones[rows] == 1, table[rows], ~table[rows] & 15)  # the one that differs
            entry = np.log2(odd).astype(np.int64)
            a = self._operand(first[rows], tensors, owner, channel)
            b = self._operand(second[rows], tensors, owner, channel)
            a = self._flipped(a, entry >> 1 == 0, space)
            b = self._flipped(b, entry & 1 == 0, space)
            both = self.add("And", [a, b])
            parts.append(self._flipped(both, ones[rows] == 3, space))
            order.append(gates[rows])
        if not is_and.all():
            rows = np.flatnonzero(~is_and)
            t = table[rows]
            # An exclusive or of what the table depends on, the constant False for the rest.
            a_net = np.where((t & 3) != (t >> 2), first[rows], FALSE)
            b_net = np.where((t & 5) != (t >> 1 & 5), second[rows], FALSE)
            a = self._operand(a_net, tensors, owner, channel)
            if (b_net != FALSE).any():
                a = self.add("Xor", [a, self._operand(b_net, tensors, owner, channel)])
            parts.append(self._flipped(a, t & 1 == 1, space))
            order.append(gates[rows])
        return np.concatenate(order), self.concat(parts)

    def _flipped(self, x: str, mask: npt.NDArray[Any], space: tuple[int, ...]) -> str:
        """`x` with the channels complemented that `mask` says."""
        if not mask.any():
            return x
        if mask.all():
            return self.add("Not", [x])
        return self.add("Xor", [x, self.constant(mask.reshape(-1, *space), np.bool_)])

    def _tables(
        self,
        body: Body,
        gates: Ints,
        tensors: Sequence[str],
        owner: Ints,
        channel: Ints,
        space: tuple[int, ...],
    ) -> tuple[Ints, str]:
        """Gates of more inputs: the entry's number, then a lookup in all tables in a row."""
        base = np.arange(len(gates)).reshape(-1, *space) << body.k
        index = self.constant(base, np.int32)
        for column in range(body.k):
            bit = self._operand(body.fanin[gates, column], tensors, owner, channel)
            number = self.add("Cast", [bit], to=6)
            weight = self.constant(1 << (body.k - 1 - column), np.int32)
            index = self.add("Add", [index, self.add("Mul", [number, weight])])
        entries = np.arange(1 << body.k, dtype=np.uint64)
        values = body.table[gates].astype(np.uint64)[:, None] >> entries & np.uint64(1)
        flat = self.constant(values.reshape(-1), np.bool_)
        return gates, self.add("Gather", [flat, index], axis=0)

    def _taps(self, op: Logic, inputs: Sequence[Value]) -> str:
        """The taps, then False and True, as channels (N, taps + 2, *space)."""
        taps = op.body.taps.astype(np.int64)
        parts: list[str] = []
        order: list[Ints] = []
        for number, value in enumerate(inputs):
            mine = np.flatnonzero(taps[:, 0] == number)
            if not len(mine):
                continue
            if not op.space:
                parts.append(self.gather(value.name, taps[mine, 1]))
                order.append(mine)
                continue
            self._windows(op, value, mine, parts, order)
        if parts:
            at = np.concatenate(order)
            place = np.empty(len(taps), np.int64)
            place[at] = np.arange(len(at))
            some = self.concat(parts)
            if (place != np.arange(len(place))).any():
                some = self.gather(some, place)
            first = self.gather(some, np.zeros(1, np.int64))
            false = self.add("Xor", [first, first])
            return self.concat([some, false, self.add("Not", [false])])
        false = self._false(op, inputs[0])
        return self.concat([false, self.add("Not", [false])])

    def _false(self, op: Logic, value: Value) -> str:
        """False at every position, for a body without taps."""
        flat = self.reshape(value.name, (value.size,))
        first = self.gather(flat, np.zeros(1, np.int64))
        false = self.reshape(self.add("Xor", [first, first]), (1,) * (1 + len(op.space)))
        shape = self.constant([1, 1, *op.space])
        return self.add("Expand", [false, shape])

    def _windows(
        self, op: Logic, value: Value, mine: Ints, parts: list[str], order: list[Ints]
    ) -> None:
        """Slices of the padded map for each offset that taps of one input have."""
        taps = op.body.taps.astype(np.int64)[mine]
        rank = len(op.space)
        offsets, which = np.unique(taps[:, 2:], axis=0, return_inverse=True)
        reach = (np.array(op.space) - 1) * np.array(op.stride)
        before = np.maximum(-offsets.min(axis=0), 0)
        after = np.maximum(offsets.max(axis=0) + reach + 1 - np.array(value.shape[1:]), 0)
        padded = value.name
        if before.any() or after.any():
            pads = [0, 0, *before, 0, 0, *after]
            false = self.constant(False, np.bool_)
            padded = self.add("Pad", [padded, self.constant(pads), false])
        axes = self.constant(np.arange(2, 2 + rank))
        steps = self.constant(op.stride)
        for i, offset in enumerate(offsets):
            here = np.flatnonzero(which.reshape(-1) == i)
            start = offset + before
            window = self.add(
                "Slice",
                [padded, self.constant(start), self.constant(start + reach + 1), axes, steps],
            )
            parts.append(self.gather(window, taps[here, 1]))
            order.append(mine[here])
