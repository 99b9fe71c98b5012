"""What is known of each channel of a value: constant, equal to another channel, or its complement.

A fact is a literal over the value's own channels, 2 * channel + complement, or CONST_FALSE or
CONST_TRUE. `Copies` are channels that equal one of another value. Both hold inside the value. A
read outside is False whatever the channel holds, so only what is known without complement may be
used where a tap can leave its input.
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
    """(C,) every channel stands for itself."""
    return np.arange(value.shape[0], dtype=np.int32) * 2


def logic_facts(outputs: Literals) -> Literals:
    """Facts of a Logic node from the literals (C,) that its output nets equal."""
    net = outputs >> 1
    read = np.zeros(int(net.max(initial=0)) + 1, bool)
    read[net] = True
    distinct = int(np.count_nonzero(read)) == len(net)
    root = np.arange(len(net)) if distinct else first_equal([net])
    facts = 2 * root + ((outputs ^ outputs[root]) & 1)
    return np.where(net == 0, outputs - 2, facts).astype(np.int32)


@dataclass(frozen=True)
class Copies:
    """Channels that a Logic node hands on from its `inputs`.

    `source` (C,) is the place among them, -1 for other channels, and `literal` (C,) is
    2 * channel + complement there.
    """

    inputs: tuple[str, ...]
    source: Literals
    literal: Literals


def copied_channels(
    inputs: tuple[str, ...], op: Logic, shapes: list[Shape], outputs: Literals
) -> Copies:
    """The copies among the outputs, given as literals (C,) over the nets of `op.body`.

    A copy has its input's shape and reads it at its own position, so both are read outside at the
    same places.
    """
    taps = op.body.taps
    here = np.array(
        [
            shape[1:] == op.space
            and all(s == 1 or n == 1 for s, n in zip(op.stride, op.space, strict=True))
            for shape in shapes
        ]
    )
    tap = (outputs >> 1) - FIRST_TAP
    source = np.full(len(outputs), -1, np.int32)
    literal = np.zeros(len(outputs), np.int32)
    at = np.flatnonzero((tap >= 0) & (tap < len(taps)))
    at = at[here[taps[tap[at], 0]] & ~taps[tap[at], 2:].any(axis=1)]
    source[at] = taps[tap[at], 0]
    literal[at] = 2 * taps[tap[at], 1] + (outputs[at] & 1)
    return Copies(inputs, source, literal)


def threshold_facts(op: Threshold, x: Value) -> Literals:
    """Levels that no number or every number exceeds, and levels given twice."""
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
    """Facts carried from (C, ...) to another shape of the same elements."""
    if before[0] == after[0]:
        return facts
    cells, new_cells = int(np.prod(before[1:])), int(np.prod(after[1:]))
    constant = (facts < 0)[:, None]
    cell = np.arange(cells)
    element = np.where(constant, facts[:, None], (facts >> 1)[:, None] * cells + cell)
    odd = np.broadcast_to(np.where(constant, 0, facts[:, None] & 1), element.shape)
    element, odd = element.reshape(after[0], new_cells), odd.reshape(after[0], new_cells)
    head = element[:, :1]
    own = np.arange(after[0], dtype=np.int64)
    is_constant = (head[:, 0] < 0) & (element == head).all(axis=1)
    aligned = (head % new_cells == 0) & (element == head + np.arange(new_cells))
    is_alias = (head[:, 0] >= 0) & aligned.all(axis=1) & (odd == odd[:, :1]).all(axis=1)
    alias = 2 * (head[:, 0] // new_cells) + odd[:, 0]
    return np.where(is_constant, head[:, 0], np.where(is_alias, alias, 2 * own)).astype(np.int32)


def tap_reach(op: Logic, shapes: list[Shape]) -> tuple[Mask, Mask]:
    """(T,) which taps never, and which taps always, read outside their input."""
    never = np.ones(op.body.num_taps, bool)
    always = np.zeros(op.body.num_taps, bool)
    source = op.body.taps[:, 0]
    for axis, (count, stride) in enumerate(zip(op.space, op.stride, strict=True)):
        size = np.array([shape[1 + axis] for shape in shapes])[source]
        offset = op.body.taps[:, 2 + axis].astype(np.int64)
        last = (count - 1) * stride + offset
        never &= (offset >= 0) & (last < size)
        entry = np.maximum(0, -(offset // stride))  # first position at or past the input's start
        always |= (entry >= count) | (entry * stride + offset >= size)
    return never, always
