"""What is known of each channel of a value: constant, equal to another channel, or its complement.

A fact is a literal over the value's own channels, 2 * channel + complement, or CONST_FALSE or
CONST_TRUE. `ChannelCopies` are channels that equal a channel of another value. Both hold inside the
value. A read outside is False whatever the channel holds, so what is known with a complement may
not be used if a tap can leave its input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.ir.nodes import Logic, Threshold
from lgir.ir.thresholds import always_exceeded, distinct_levels, never_exceeded
from lgir.ir.types import FIRST_TAP, Shape, Value
from lgir.passes.kernels.literals import Literals
from lgir.passes.kernels.rows import first_equal

CONST_FALSE: Final = -2
CONST_TRUE: Final = -1

Mask = npt.NDArray[np.bool_]


def no_facts(value: Value) -> Literals:
    """Return the facts (C,) by which every channel stands for itself."""
    return np.arange(value.shape[0], dtype=np.int32) * 2


def logic_facts(outputs: Literals) -> Literals:
    """Return the facts (C,) of a Logic node, given the literals (C,) that its output nets equal."""
    net = outputs >> 1
    is_read = np.zeros(int(net.max(initial=0)) + 1, bool)
    is_read[net] = True
    all_distinct = int(np.count_nonzero(is_read)) == len(net)
    root = np.arange(len(net)) if all_distinct else first_equal([net])
    facts = 2 * root + ((outputs ^ outputs[root]) & 1)
    return np.where(net == 0, outputs - 2, facts).astype(np.int32)


@dataclass(frozen=True)
class ChannelCopies:
    """Channels that a Logic node copies from its inputs.

    Attributes:
        inputs: names of the node's inputs.
        source: (C,) the position in `inputs` of the input that a channel copies, -1 if it is no
            copy.
        literal: (C,) 2 * channel + complement in that input.
    """

    inputs: tuple[str, ...]
    source: Literals
    literal: Literals


def copied_channels(
    inputs: tuple[str, ...], op: Logic, shapes: list[Shape], outputs: Literals
) -> ChannelCopies:
    """Return the copies among the outputs of a Logic node.

    A copy has its input's shape and reads it at its own position, so both are read outside at the
    same positions.

    Args:
        shapes: shapes of the inputs.
        outputs: (C,) literals over the nets of `op.body` that the outputs equal.
    """
    taps = op.body.taps
    same_space = np.array(
        [
            shape[1:] == op.space
            and all(s == 1 or n == 1 for s, n in zip(op.stride, op.space, strict=True))
            for shape in shapes
        ]
    )
    tap = (outputs >> 1) - FIRST_TAP
    source = np.full(len(outputs), -1, np.int32)
    literal = np.zeros(len(outputs), np.int32)
    channel = np.flatnonzero((tap >= 0) & (tap < len(taps)))
    rows = taps[tap[channel]]
    is_copy = same_space[rows[:, 0]] & ~rows[:, 2:].any(axis=1)
    channel, rows = channel[is_copy], rows[is_copy]
    source[channel] = rows[:, 0]
    literal[channel] = 2 * rows[:, 1] + (outputs[channel] & 1)
    return ChannelCopies(inputs, source, literal)


def threshold_facts(op: Threshold, x: Value) -> Literals:
    """Return the facts (C,) of thresholds of `x`: constant levels, and equal levels of a channel.

    A level is constant if every number or no number of the input's dtype exceeds it.
    """
    channels = x.shape[0]
    levels = op.levels
    if levels.ndim == 1:
        levels = np.broadcast_to(levels, (channels, len(levels)))
    rows = np.moveaxis(levels, -1, 1).reshape(channels * op.num_levels, -1)
    rows = distinct_levels(rows, x.dtype)
    never, always = never_exceeded(rows, x.dtype), always_exceeded(rows, x.dtype)
    feature = np.repeat(np.arange(channels), op.num_levels)
    root = first_equal([feature, *np.ascontiguousarray(rows.T).view(np.uint32)])
    facts = 2 * root
    facts[never.all(axis=1)] = CONST_FALSE
    facts[always.all(axis=1)] = CONST_TRUE
    return facts.astype(np.int32)


def reshape_facts(facts: Literals, before: Shape, after: Shape) -> Literals:
    """Return the facts of a reshaped value: what holds of all elements of a new channel."""
    if before[0] == after[0]:
        return facts
    positions, new_positions = int(np.prod(before[1:])), int(np.prod(after[1:]))
    constant = (facts < 0)[:, None]
    # The element that each element equals, or the constant; and whether it is the complement.
    root = (facts >> 1)[:, None] * positions + np.arange(positions)
    element = np.where(constant, facts[:, None], root)
    complement = np.broadcast_to(np.where(constant, 0, facts[:, None] & 1), element.shape)
    element = element.reshape(after[0], new_positions)
    complement = complement.reshape(after[0], new_positions)
    head = element[:, :1]
    identity = np.arange(after[0], dtype=np.int64)
    is_constant = (head[:, 0] < 0) & (element == head).all(axis=1)
    is_aligned = (head % new_positions == 0) & (element == head + np.arange(new_positions))
    same_complement = (complement == complement[:, :1]).all(axis=1)
    is_alias = (head[:, 0] >= 0) & is_aligned.all(axis=1) & same_complement
    alias = 2 * (head[:, 0] // new_positions) + complement[:, 0]
    literal = np.where(is_alias, alias, 2 * identity)
    return np.where(is_constant, head[:, 0], literal).astype(np.int32)


def tap_reach(op: Logic, shapes: list[Shape]) -> tuple[Mask, Mask]:
    """Return which taps (T,) never, and which taps always, read outside their input."""
    never = np.ones(op.body.num_taps, bool)
    always = np.zeros(op.body.num_taps, bool)
    source = op.body.taps[:, 0]
    for axis, (count, stride) in enumerate(zip(op.space, op.stride, strict=True)):
        size = np.array([shape[1 + axis] for shape in shapes])[source]
        offset = op.body.taps[:, 2 + axis].astype(np.int64)
        last = (count - 1) * stride + offset
        never &= (offset >= 0) & (last < size)
        first_inside = np.maximum(0, -(offset // stride))  # The first position past the low edge.
        always |= (first_inside >= count) | (first_inside * stride + offset >= size)
    return never, always
