"""The interpreter: bit-parallel evaluation of a graph in numpy. It is the meaning of the IR.

A value of bits is an array of bit planes (*shape, words), each the bit of every sample, 64 samples
per uint64 word. A body is evaluated level by level; a gate's table is read as a multiplexer tree
over its inputs, which serves every fan-in alike. No speed is sought beyond whole-array operations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body, Rows
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Reshape, Threshold
from lgir.ir.thresholds import element_levels
from lgir.ir.types import FIRST_TAP, TRUE, Shape

Words = npt.NDArray[np.uint64]

_ONES: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_CHUNK_WORDS: Final = 1 << 20  # words of nets that are held at a time, 8 MiB
_RUN_WORDS: Final = 1 << 15  # words of gates of a level at a time, which stay in cache
_COUNT_BITS: Final = 1 << 14  # bits of a group that are counted at a time


def pack_planes(bits: npt.NDArray[np.bool_]) -> Words:
    """Return the bit planes of samples: bool (n, *shape) as uint64 (*shape, ceil(n / 64)).

    Sample i is bit i % 64 of word i // 64. Bits after the last sample are 0.
    """
    n = len(bits)
    words = -(-n // 64)
    packed = np.packbits(np.moveaxis(bits, 0, -1), axis=-1, bitorder="little")
    out = np.zeros((*bits.shape[1:], words * 8), np.uint8)
    out[..., : packed.shape[-1]] = packed
    return out.view("<u8").astype(np.uint64, copy=False)


def unpack_planes(words: Words, n: int) -> npt.NDArray[np.bool_]:
    """Return the first `n` samples, bool (n, *shape), of bit planes, uint64 (*shape, words)."""
    raw = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    bits = np.unpackbits(raw, axis=-1, count=n, bitorder="little").astype(bool)
    return np.moveaxis(bits, -1, 0)


def interpret(graph: Graph, samples: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Return the outputs of `graph` on a batch of samples.

    Args:
        graph: the graph to evaluate.
        samples: one array (n, *shape) per graph input: 0 or 1 of any dtype for a bit input,
            numbers for the others.

    Returns:
        One array per graph output: bool (n, *shape) for bits, float32 (n, groups) for scores.
    """
    n = len(samples[0])
    inputs = {
        value.name: pack_planes(array.astype(bool)) if value.dtype == "bit" else array
        for value, array in zip(graph.inputs, samples, strict=True)
    }
    values = evaluate(graph, inputs, n)
    return [
        unpack_planes(values[name], n) if graph.values[name].dtype == "bit" else values[name]
        for name in graph.outputs
    ]


def evaluate(graph: Graph, inputs: Mapping[str, npt.NDArray[Any]], n: int) -> dict[str, Any]:
    """Return every value of `graph` for a batch of `n` samples, by name.

    `inputs` maps each bit input to bit planes (*shape, ceil(n / 64)) and each other input to
    numbers (n, *shape). In the result, values of bits are bit planes, scores float32 (n, groups).
    """
    values: dict[str, Any] = dict(inputs)
    for node in graph.nodes:
        operands = [values[name] for name in node.inputs]
        packed = graph.values[node.output].dtype == "bit"
        values[node.output] = _evaluate_node(node, operands, n, packed)
    return values


def _evaluate_node(node: Node, inputs: Sequence[Any], n: int, packed: bool) -> Any:
    op = node.op
    if isinstance(op, Logic):
        return evaluate_logic(op, inputs)
    if isinstance(op, Threshold):
        return evaluate_threshold(op, inputs[0])
    if isinstance(op, GroupSum):
        size = len(inputs[0]) // op.groups
        count = np.zeros((n, op.groups), np.int64)
        for group in range(op.groups):
            for start in range(group * size, (group + 1) * size, _COUNT_BITS):
                stop = min(start + _COUNT_BITS, (group + 1) * size)
                count[:, group] += unpack_planes(inputs[0][start:stop], n).sum(axis=-1)
        return group_scores(count, op)
    assert isinstance(op, Reshape)
    words = inputs[0].shape[-1]
    return inputs[0].reshape(*op.shape, words) if packed else inputs[0].reshape(n, *op.shape)


def group_scores(count: npt.NDArray[np.integer], op: GroupSum) -> npt.NDArray[np.float32]:
    """Return (count + beta) / tau in float32, as torch computes it: infinite if it is too large."""
    with np.errstate(over="ignore"):
        total = count.astype(np.float32) + np.float32(op.beta)
        scores: npt.NDArray[np.float32] = total / np.float32(op.tau)
    return scores


def evaluate_threshold(op: Threshold, x: npt.NDArray[Any]) -> Words:
    """Return the bit planes (C*L, ..., words), feature major, of numbers (n, C, ...)."""
    bits = x.astype(np.float32, copy=False)[..., None] > element_levels(op, x.shape[1:])
    bits = np.moveaxis(bits, -1, 2)  # (n, C, L, ...)
    return pack_planes(bits.reshape(len(x), x.shape[1] * op.num_levels, *x.shape[2:]))


def evaluate_logic(op: Logic, inputs: Sequence[Words]) -> Words:
    """Return the output planes (channels, *space, words) of input planes (C, *axes, words)."""
    words = inputs[0].shape[-1]
    planes, shapes = _stack_planes(inputs), [x.shape[:-1] for x in inputs]
    out = np.empty((len(op.body.outputs), op.positions, words), np.uint64)
    rows = op.space[0] if op.space else 1  # of positions, evaluated some at a time
    row = op.positions // rows
    rows = min(rows, max(1, _CHUNK_WORDS // (op.body.num_nets * row)))
    step = max(1, _CHUNK_WORDS // (op.body.num_nets * row * rows))
    order = _order(op.body, min(step, words) * row * rows)
    for first in range(0, op.positions, row * rows):
        positions = slice(first, first + row * rows)
        index = tap_index(op, shapes, slice(first // row, first // row + rows))
        for start in range(0, words, step):
            part = slice(start, start + step)
            nets = evaluate_body(op.body, planes[:, part][index], order)
            out[:, positions, part] = nets[op.body.outputs]
    return out.reshape(len(op.body.outputs), *op.space, words)


def tap_index(
    op: Logic, shapes: Sequence[Shape], rows: slice = slice(None)
) -> npt.NDArray[np.int64]:
    """Return the index of the plane that each tap reads at each position, int64 (T, positions).

    Planes of all inputs are stacked in order. Reads outside an input give the index one past the
    last plane, which holds False.

    Args:
        op: the operator.
        shapes: shape of each operand.
        rows: restricts the positions to those whose first coordinate is among them.
    """
    first = np.cumsum([0, *map(math.prod, shapes)])
    steps = [stride * np.arange(count) for count, stride in zip(op.space, op.stride, strict=True)]
    steps[:1] = [step[rows] for step in steps[:1]]
    taps = op.body.taps.astype(np.int64)
    index = np.empty((len(taps), *map(len, steps)), np.int64)
    outside = first[-1]  # each axis along which a tap is outside adds that much
    for i, shape in enumerate(shapes):
        selected = np.flatnonzero(taps[:, 0] == i)
        planes = first[i] + taps[selected, 1] * math.prod(shape[1:])
        for axis, (length, step) in enumerate(zip(shape[1:], steps, strict=True)):
            cell = taps[selected, 2 + axis, None] + step
            is_inside = (cell >= 0) & (cell < length)
            part = np.where(is_inside, cell * math.prod(shape[2 + axis :]), outside)
            planes = planes[..., None] + part.reshape(len(selected), *(1,) * axis, len(step))
        index[selected] = np.minimum(planes, outside, out=planes)
    return index.reshape(len(taps), math.prod(map(len, steps)))


def _stack_planes(inputs: Sequence[Words]) -> Words:
    """Return the planes of all inputs one after another, and one of False."""
    words = inputs[0].shape[-1]
    flat = [x.reshape(math.prod(x.shape[:-1]), words) for x in inputs]
    return np.concatenate([*flat, np.zeros((1, words), np.uint64)])


def _order(body: Body, words: int) -> list[Rows]:
    """Return the gates in runs of one level, for nets of `words` words."""
    return [rows for _, rows in body.level_runs(max(1, _RUN_WORDS // max(1, words)))]


def evaluate_body(body: Body, taps: Words, order: Sequence[Rows] | None = None) -> Words:
    """Return the words of all nets of `body`, uint64 (num_nets, ...), from its taps', (T, ...).

    `order` is the order of the gates in runs of one level; by default it is computed.
    """
    nets = np.empty((body.num_nets, *taps.shape[1:]), np.uint64)
    nets[:FIRST_TAP] = 0
    nets[TRUE] = _ONES
    nets[FIRST_TAP : body.first_gate] = taps
    gates = nets[body.first_gate :]
    for rows in _order(body, math.prod(taps.shape[1:])) if order is None else order:
        gates[rows] = evaluate_tables(
            body.table[rows], [nets[body.fanin[rows, i]] for i in range(body.k)]
        )
    return nets


def evaluate_tables(table: npt.NDArray[np.unsignedinteger], inputs: Sequence[Words]) -> Words:
    """Return the words (G, ...) of gates with tables (G,) on input words, (G, ...) per input."""
    k = len(inputs)
    wide = table.astype(np.uint64)
    unit = (len(wide),) + (1,) * (inputs[0].ndim - 1)
    layer: list[Words] = [
        ((wide >> np.uint64(i) & np.uint64(1)) * _ONES).reshape(unit) for i in range(1 << k)
    ]
    for x in reversed(inputs):  # the last input is the least significant index bit
        layer = [
            zero ^ (x & (zero ^ one)) for zero, one in zip(layer[::2], layer[1::2], strict=True)
        ]
    return layer[0]
