"""Write a body of gates as standard ONNX operators on whole tensors.

The taps of a convolution are slices of the padded feature map, one slice per offset in the window.
The gates of a level are evaluated together, side by side as channels: gates of at most two inputs
by `And` and `Xor`, and others by a lookup in their truth tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.formats.onnx_operators import Ints, OperatorWriter
from lgir.ir.body import Body
from lgir.ir.nodes import Logic
from lgir.ir.types import FALSE, FIRST_TAP, TRUE, Value

_INT32: Final = 6  # onnx.TensorProto.INT32


def write_logic(writer: OperatorWriter, op: Logic, inputs: Sequence[Value], output: str) -> None:
    """Append the operators that compute `op` of `inputs` (N, *shape) as the value `output`."""
    nets = _Nets(writer, op.body, len(op.space))
    nets.tensors.append(_write_taps(writer, op, inputs))
    arity = op.body.arity()
    for _, level in op.body.level_runs():
        gates = np.arange(op.body.num_gates)[level]
        narrow, wide = gates[arity[gates] <= 2], gates[arity[gates] > 2]
        if len(narrow):
            nets.evaluate_pairs(narrow)
        if len(wide):
            nets.evaluate_tables(wide)
    writer.add("Identity", [nets.channels(op.body.outputs)], output)


class _Nets:
    """The nets of a body that have been written: the tensor and the channel of each.

    Attributes:
        tensors: the names of tensors (N, channels, *space). The first holds the taps, then False
            and True.
    """

    def __init__(self, writer: OperatorWriter, body: Body, rank: int) -> None:
        self.tensors: list[str] = []
        self._writer = writer
        self._body = body
        self._rank = rank
        self._tensor = np.zeros(body.num_nets, np.int64)
        self._channel = np.zeros(body.num_nets, np.int64)
        self._channel[FIRST_TAP : body.first_gate] = np.arange(body.num_taps)
        self._channel[FALSE] = body.num_taps
        self._channel[TRUE] = body.num_taps + 1

    def channels(self, nets: npt.NDArray[np.integer]) -> str:
        """Return a tensor whose channels are `nets`."""
        used, number = np.unique(self._tensor[nets], return_inverse=True)
        if len(used) == 1:
            return self._writer.gather(self.tensors[used[0]], self._channel[nets])
        # Each tensor's channels are gathered before they are joined, so that none is copied whole.
        number = number.reshape(-1)
        parts = [
            self._writer.gather(self.tensors[tensor], self._channel[nets[number == i]])
            for i, tensor in enumerate(used)
        ]
        joined = self._writer.concat(parts)
        return _in_order(self._writer, joined, np.argsort(number, kind="stable"))

    def evaluate_pairs(self, gates: Ints) -> None:
        """Evaluate gates of at most two inputs: ANDs of literals, then exclusive ORs of nets."""
        table = _two_input_tables(self._body, gates)
        nets = self._body.fanin[gates].astype(np.int64)
        pairs = nets[:, :2] if self._body.k > 1 else np.pad(nets, ((0, 0), (0, 1)))
        ones = np.bitwise_count(table.astype(np.uint8))
        is_and = (ones == 1) | (ones == 3)
        parts, order = [], []
        if is_and.any():
            parts.append(self._ands(table[is_and], pairs[is_and]))
            order.append(gates[is_and])
        if not is_and.all():
            parts.append(self._exclusive_ors(table[~is_and], pairs[~is_and]))
            order.append(gates[~is_and])
        self._append(np.concatenate(order), self._writer.concat(parts))

    def evaluate_tables(self, gates: Ints) -> None:
        """Evaluate gates by lookups in one array of all their tables."""
        writer, k = self._writer, self._body.k
        first_entry = np.arange(len(gates)).reshape(-1, *(1,) * self._rank) << k
        index = writer.constant(first_entry, np.int32)
        for column in range(k):
            bit = self.channels(self._body.fanin[gates, column])
            number = writer.add("Cast", [bit], to=_INT32)
            weight = writer.constant(1 << (k - 1 - column), np.int32)
            index = writer.add("Add", [index, writer.add("Mul", [number, weight])])
        entries = np.arange(1 << k, dtype=np.uint64)
        values = self._body.table[gates].astype(np.uint64)[:, None] >> entries & np.uint64(1)
        tables = writer.constant(values.reshape(-1), np.bool_)
        self._append(gates, writer.add("Gather", [tables, index], axis=0))

    def _ands(self, table: Ints, pairs: Ints) -> str:
        """Return the values of gates whose table has one entry that differs from the others."""
        writer, rank = self._writer, self._rank
        is_or = np.bitwise_count(table.astype(np.uint8)) == 3
        entry = np.log2(np.where(is_or, ~table & 15, table)).astype(np.int64)
        a = self.channels(pairs[:, 0])
        b = self.channels(pairs[:, 1])
        a = writer.complement(a, entry >> 1 == 0, rank)
        b = writer.complement(b, entry & 1 == 0, rank)
        return writer.complement(writer.add("And", [a, b]), is_or, rank)

    def _exclusive_ors(self, table: Ints, pairs: Ints) -> str:
        """Return the values of other gates: the exclusive OR of the inputs they depend on."""
        a_nets = np.where((table & 3) != (table >> 2), pairs[:, 0], FALSE)
        b_nets = np.where((table & 5) != (table >> 1 & 5), pairs[:, 1], FALSE)
        result = self.channels(a_nets)
        if (b_nets != FALSE).any():
            result = self._writer.add("Xor", [result, self.channels(b_nets)])
        return self._writer.complement(result, table & 1 == 1, self._rank)

    def _append(self, gates: Ints, tensor: str) -> None:
        """Record that the channels of `tensor` are the values of `gates`."""
        nets = self._body.first_gate + gates
        self._tensor[nets] = len(self.tensors)
        self._channel[nets] = np.arange(len(gates))
        self.tensors.append(tensor)


def _two_input_tables(body: Body, gates: Ints) -> Ints:
    """Return the tables of gates that depend on no input from the third on, as two-input tables."""
    if body.k == 2:
        return body.table[gates].astype(np.int64)
    if body.k == 1:
        table = body.table[gates].astype(np.int64)
        return (table & 1) * 3 | (table >> 1) * 12
    entries = np.arange(4, dtype=np.uint64) << np.uint64(body.k - 2)
    bits = body.table[gates].astype(np.uint64)[:, None] >> entries & np.uint64(1)
    return bits.astype(np.int64) @ (1 << np.arange(4))


@dataclass(frozen=True)
class _TapChannels:
    """A tensor whose channels are taps, and the numbers of those taps."""

    tensor: str
    taps: Ints


def _write_taps(writer: OperatorWriter, op: Logic, inputs: Sequence[Value]) -> str:
    """Return the taps, then False and True, as the channels of one tensor (N, taps + 2, *space)."""
    input_of_tap = op.body.taps[:, 0]
    parts: list[_TapChannels] = []
    for number, value in enumerate(inputs):
        taps = np.flatnonzero(input_of_tap == number)
        if not len(taps):
            continue
        if op.space:
            parts += _write_windows(writer, op, value, taps)
        else:
            channels = op.body.taps[taps, 1].astype(np.int64)
            parts.append(_TapChannels(writer.gather(value.name, channels), taps))
    if not parts:
        false = _write_false(writer, op, inputs[0])
        return writer.concat([false, writer.add("Not", [false])])
    joined = writer.concat([part.tensor for part in parts])
    joined = _in_order(writer, joined, np.concatenate([part.taps for part in parts]))
    first = writer.gather(joined, np.zeros(1, np.int64))
    false = writer.add("Xor", [first, first])
    return writer.concat([joined, false, writer.add("Not", [false])])


def _write_windows(
    writer: OperatorWriter, op: Logic, value: Value, taps: Ints
) -> list[_TapChannels]:
    """Write the taps of one input: a slice of its padded map for each offset that taps have."""
    rows = op.body.taps[taps].astype(np.int64)
    offsets, number = np.unique(rows[:, 2:], axis=0, return_inverse=True)
    reach = (np.array(op.space) - 1) * np.array(op.stride)
    before = np.maximum(-offsets.min(axis=0), 0)
    after = np.maximum(offsets.max(axis=0) + reach + 1 - np.array(value.shape[1:]), 0)
    padded = value.name
    if before.any() or after.any():
        false = writer.constant(False, np.bool_)
        pads = writer.constant([0, 0, *before, 0, 0, *after])
        padded = writer.add("Pad", [padded, pads, false])
    axes = writer.constant(np.arange(2, 2 + len(op.space)))
    steps = writer.constant(op.stride)
    parts = []
    for i, offset in enumerate(offsets):
        chosen = np.flatnonzero(number.reshape(-1) == i)
        start = writer.constant(offset + before)
        stop = writer.constant(offset + before + reach + 1)
        window = writer.add("Slice", [padded, start, stop, axes, steps])
        parts.append(_TapChannels(writer.gather(window, rows[chosen, 1]), taps[chosen]))
    return parts


def _write_false(writer: OperatorWriter, op: Logic, value: Value) -> str:
    """Return False at every position, for a body without taps."""
    flat = writer.reshape(value.name, (value.size,))
    first = writer.gather(flat, np.zeros(1, np.int64))
    false = writer.reshape(writer.add("Xor", [first, first]), (1,) * (1 + len(op.space)))
    return writer.add("Expand", [false, writer.constant([1, 1, *op.space])])


def _in_order(writer: OperatorWriter, x: str, order: Ints) -> str:
    """Return `x` with channel i moved to channel order[i]."""
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    ascending = (position == np.arange(len(position))).all()
    return x if ascending else writer.gather(x, position)
