"""The Boolean variables behind the inputs of a graph, and the samples that they stand for.

A variable is a bit of a bit input, or the answer to `x > t` for one element of a numeric input and
one threshold t that some node applies to it. Thresholds of one element imply each other, so not
every assignment of variables is a sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.ir.graph import Graph
from lgir.ir.nodes import Threshold
from lgir.ir.simulate import Words, pack_planes
from lgir.ir.thresholds import (
    always_exceeded,
    distinct_levels,
    element_levels,
    never_exceeded,
)
from lgir.ir.types import FALSE, FIRST_TAP, TRUE, Value

Array = npt.NDArray[Any]
Nets = npt.NDArray[np.int32]


@dataclass(frozen=True)
class _NumericVariables:
    """The variables of one numeric input: pairs (element, level), ascending.

    Pair i is variable `first` + i.
    """

    first: int
    element: npt.NDArray[np.int64]
    level: npt.NDArray[np.float32]


class InputSpace:
    """The variables behind the inputs of one graph, or of several graphs with the same inputs.

    Attributes:
        inputs: the graphs' inputs.
        num_variables: number of variables; variable i is net FIRST_TAP + i of a netlist.
    """

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self.inputs = graphs[0].inputs
        self.num_variables = 0
        self._bits: dict[str, int] = {}
        self._numeric: dict[str, _NumericVariables] = {}
        for value in self.inputs:
            if value.dtype == "bit":
                self._bits[value.name] = self.num_variables
                self.num_variables += value.size
                continue
            rows = [_element_levels(value, op) for g in graphs for op in _thresholds(g, value)]
            level = np.concatenate([r.ravel() for r in rows]) if rows else np.zeros(0, np.float32)
            element = [np.repeat(np.arange(value.size), r.shape[1]) for r in rows]
            pairs = np.stack([np.concatenate([*element, []]), level], axis=1)
            constant = always_exceeded(level, value.dtype) | never_exceeded(level, value.dtype)
            pairs = np.unique(pairs[~constant], axis=0)
            self._numeric[value.name] = _NumericVariables(
                self.num_variables, pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.float32)
            )
            self.num_variables += len(pairs)

    def bit_nets(self, value: Value) -> Nets:
        """Return the nets, int32 (*shape), of the elements of a bit input."""
        first = FIRST_TAP + self._bits[value.name]
        return np.arange(first, first + value.size, dtype=np.int32).reshape(value.shape)

    def threshold_nets(self, value: Value, op: Threshold) -> Nets:
        """Return the nets, int32 (C * L, ...), of the bits of a Threshold on a numeric input.

        A bit that is equal for every number of the input's type is a constant.
        """
        level = _element_levels(value, op)
        known = self._numeric[value.name]
        nets = np.full(level.shape, FALSE, np.int32)
        always = always_exceeded(level, value.dtype)
        constant = always | never_exceeded(level, value.dtype)
        nets[always] = TRUE
        element = np.broadcast_to(np.arange(value.size)[:, None], level.shape)
        kinds = np.unique(known.level)
        keys = known.element * len(kinds) + np.searchsorted(kinds, known.level)
        pairs = element[~constant] * len(kinds) + np.searchsorted(kinds, level[~constant])
        nets[~constant] = FIRST_TAP + known.first + np.searchsorted(keys, pairs)
        nets = np.moveaxis(nets.reshape(*value.shape, -1), -1, 1)
        return nets.reshape(-1, *value.shape[1:])

    def elements(self) -> npt.NDArray[np.int64]:
        """Return the number of the input element of each variable, int64 (variables,).

        Of the variables of one element, a later one, which has a higher threshold, implies the
        earlier ones.
        """
        parts, first = [np.zeros(0, np.int64)], 0
        for value in self.inputs:
            if value.dtype == "bit":
                parts.append(np.arange(first, first + value.size))
            else:
                parts.append(self._numeric[value.name].element + first)
            first += value.size
        return np.concatenate(parts)

    def planes(self, samples: Sequence[Array]) -> Words:
        """Return the bit planes, uint64 (variables, words), of the variables on samples.

        `samples` are arrays (n, *shape), one per input.
        """
        n = len(samples[0])
        parts = [np.zeros((0, -(-n // 64)), np.uint64)]
        for value, x in zip(self.inputs, samples, strict=True):
            flat = x.reshape(n, -1)
            if value.dtype == "bit":
                parts.append(pack_planes(flat.astype(bool)))
            else:
                known = self._numeric[value.name]
                parts.append(pack_planes(flat[:, known.element].astype(np.float32) > known.level))
        return np.concatenate(parts)

    def samples(self, variables: npt.NDArray[np.bool_]) -> list[Array]:
        """Return samples, (n, *shape) per input, on which the variables take the given values.

        `variables` is bool (n, variables). An element of a numeric input becomes the smallest
        number above the highest threshold that it exceeds.
        """
        n = len(variables)
        out: list[Array] = []
        for value in self.inputs:
            if value.dtype == "bit":
                first = self._bits[value.name]
                out.append(variables[:, first : first + value.size].reshape(n, *value.shape))
                continue
            known = self._numeric[value.name]
            x = np.zeros((n, value.size), np.float32)
            lowest = np.diff(known.element, prepend=-1) > 0
            x[:, known.element[lowest]] = np.where(
                np.isfinite(known.level[lowest]), known.level[lowest], -np.inf
            )
            above = known.level + np.float32(1)
            if value.dtype != "u8":
                above = np.nextafter(known.level, np.float32(np.inf))
            for i in range(len(known.level)):  # ascending, so that the highest passed wins
                passed = variables[:, known.first + i]
                x[passed, known.element[i]] = above[i]
            if value.dtype == "u8":
                x = np.clip(x, 0, 255).astype(np.uint8)
            out.append(x.reshape(n, *value.shape))
        return out

    def choices(self) -> npt.NDArray[np.int64]:
        """Return the number of cases of each element, int64 (elements,).

        A bit has 2 cases, a number one more than it has thresholds.
        """
        parts = [np.zeros(0, np.int64)]
        for value in self.inputs:
            if value.dtype == "bit":
                parts.append(np.full(value.size, 2, np.int64))
            else:
                known = self._numeric[value.name]
                parts.append(1 + np.bincount(known.element, minlength=value.size))
        return np.concatenate(parts)

    def cases(self, picks: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return the variables, bool (n, variables), of cases (n, elements).

        A case is numbered from 0 to `choices` - 1: of a number, it is how many thresholds it
        exceeds.
        """
        parts = [np.zeros((len(picks), 0), bool)]
        first = 0
        for value in self.inputs:
            pick = picks[:, first : first + value.size]
            first += value.size
            if value.dtype == "bit":
                parts.append(pick > 0)
            else:
                element = self._numeric[value.name].element
                rank = np.arange(len(element)) - np.searchsorted(element, element)
                parts.append(pick[:, element] > rank)
        return np.concatenate(parts, axis=1)


def _thresholds(graph: Graph, value: Value) -> list[Threshold]:
    """Return the thresholds that `graph` applies to its input `value`."""
    return [op for node, op in graph.of_type(Threshold) if node.inputs[0] == value.name]


def _element_levels(value: Value, op: Threshold) -> npt.NDArray[np.float32]:
    """Return (elements, L) float32: the distinct levels that `op` compares each element with."""
    levels = element_levels(op, value.shape).reshape(value.size, op.num_levels)
    return distinct_levels(levels, value.dtype)


def count_cases(space: InputSpace) -> int:
    """Return the number of samples that the thresholds can tell apart."""
    return math.prod(int(n) for n in space.choices())
