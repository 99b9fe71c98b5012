"""A graph as one flat netlist over Boolean variables: what proofs and interchange formats work on.

A variable is a bit of a bit input, or the answer to `x > t` for one element of a numeric input and
one threshold t that some node applies to it. Thresholds of one element imply each other, so not
every assignment of variables is a sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import GraphError
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Reshape, Threshold
from lgir.ir.simulate import Words, pack, tap_index
from lgir.ir.thresholds import always_exceeded, distinct_levels, element_levels, never_exceeded
from lgir.ir.types import FALSE, FIRST_TAP, TRUE, Value

Array = npt.NDArray[Any]
Nets = npt.NDArray[np.int32]

MAX_GATES: Final = 1 << 28


@dataclass(frozen=True)
class _Numbers:
    """Variables of one numeric input: thresholds (element, level), ascending, from `first` on."""

    first: int
    element: npt.NDArray[np.int64]
    level: npt.NDArray[np.float32]


class InputSpace:
    """The variables behind the inputs of one graph, or of several with the same inputs."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self.inputs = graphs[0].inputs
        self.num_variables = 0
        self._bits: dict[str, int] = {}
        self._numbers: dict[str, _Numbers] = {}
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
            self._numbers[value.name] = _Numbers(
                self.num_variables, pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.float32)
            )
            self.num_variables += len(pairs)

    def bit_nets(self, value: Value) -> Nets:
        """Nets (*shape) of a bit input: variable i is net FIRST_TAP + i."""
        first = FIRST_TAP + self._bits[value.name]
        return np.arange(first, first + value.size, dtype=np.int32).reshape(value.shape)

    def threshold_nets(self, value: Value, op: Threshold) -> Nets:
        """Nets (C * L, ...) of a Threshold on a numeric input, constants where none can differ."""
        level = _element_levels(value, op)
        known = self._numbers[value.name]
        nets = np.full(level.shape, FALSE, np.int32)
        always = always_exceeded(level, value.dtype)
        constant = always | never_exceeded(level, value.dtype)
        nets[always] = TRUE
        element = np.broadcast_to(np.arange(value.size)[:, None], level.shape)
        kinds = np.unique(known.level)
        keys = known.element * len(kinds) + np.searchsorted(kinds, known.level)
        wanted = element[~constant] * len(kinds) + np.searchsorted(kinds, level[~constant])
        nets[~constant] = FIRST_TAP + known.first + np.searchsorted(keys, wanted)
        nets = np.moveaxis(nets.reshape(*value.shape, -1), -1, 1)
        return nets.reshape(-1, *value.shape[1:])

    def elements(self) -> npt.NDArray[np.int64]:
        """(variables,) a number per input element. Of one element's variables, a later one (a
        higher threshold) implies the earlier ones.
        """
        parts, first = [np.zeros(0, np.int64)], 0
        for value in self.inputs:
            if value.dtype == "bit":
                parts.append(np.arange(first, first + value.size))
            else:
                parts.append(self._numbers[value.name].element + first)
            first += value.size
        return np.concatenate(parts)

    def planes(self, samples: Sequence[Array]) -> Words:
        """(variables, words) packed values of the variables on some samples."""
        n = len(samples[0])
        parts = [np.zeros((0, -(-n // 64)), np.uint64)]
        for value, x in zip(self.inputs, samples, strict=True):
            flat = x.reshape(n, -1)
            if value.dtype == "bit":
                parts.append(pack(flat.astype(bool)))
            else:
                known = self._numbers[value.name]
                parts.append(pack(flat[:, known.element].astype(np.float32) > known.level))
        return np.concatenate(parts)

    def samples(self, variables: npt.NDArray[np.bool_]) -> list[Array]:
        """Samples (n, *shape) on which the variables take the values (n, variables).

        Of a numeric input, the smallest number above the highest threshold it passes.
        """
        n = len(variables)
        out: list[Array] = []
        for value in self.inputs:
            if value.dtype == "bit":
                first = self._bits[value.name]
                out.append(variables[:, first : first + value.size].reshape(n, *value.shape))
                continue
            known = self._numbers[value.name]
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
        """(elements,) how many cases each has: 2 for a bit, its levels + 1 for a number."""
        parts = [np.zeros(0, np.int64)]
        for value in self.inputs:
            if value.dtype == "bit":
                parts.append(np.full(value.size, 2, np.int64))
            else:
                known = self._numbers[value.name]
                parts.append(1 + np.bincount(known.element, minlength=value.size))
        return np.concatenate(parts)

    def cases(self, picks: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Variables (n, variables) of cases (n, elements) numbered as `choices` counts them."""
        parts = [np.zeros((len(picks), 0), bool)]
        first = 0
        for value in self.inputs:
            own = picks[:, first : first + value.size]
            first += value.size
            if value.dtype == "bit":
                parts.append(own > 0)
            else:
                element = self._numbers[value.name].element
                rank = np.arange(len(element)) - np.searchsorted(element, element)
                parts.append(own[:, element] > rank)
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class Output:
    """One output of an unrolled graph: its nets in row-major order, summed where `op` says so.

    `raw` names the graph input that is handed out as it is, where that is the output.
    """

    name: str
    nets: Nets
    op: GroupSum | None = None
    raw: str | None = None


@dataclass(frozen=True)
class Unrolled:
    """Gates over the variables of an `InputSpace`, as a rank-0 body, and the outputs' nets."""

    body: Body
    outputs: tuple[Output, ...]


def unroll(graph: Graph, space: InputSpace | None = None) -> Unrolled:
    """The flat netlist of `graph`: each gate once per position.

    Raises GraphError where that would exceed 2**28 gates.
    """
    space = InputSpace([graph]) if space is None else space
    total = sum(op.body.num_gates * op.positions for _, op in graph.of_type(Logic))
    if total > MAX_GATES:
        raise GraphError(f"{graph.name!r} unrolls to {total:,} gates; at most {MAX_GATES:,} fit")
    k = max([op.body.k for _, op in graph.of_type(Logic)], default=1)
    nets: dict[str, Nets] = {}
    sums: dict[str, GroupSum] = {}
    fanin, table = [np.zeros((0, k), np.int32)], []
    next_gate = FIRST_TAP + space.num_variables
    for value in graph.inputs:
        if value.dtype == "bit":
            nets[value.name] = space.bit_nets(value)
    raw = {v.name: v.name for v in graph.inputs if v.dtype != "bit"}
    for node in graph.nodes:
        op, first = node.op, node.inputs[0]
        if isinstance(op, Threshold):
            nets[node.output] = space.threshold_nets(graph.values[raw[first]], op)
        elif isinstance(op, Reshape):
            if first in nets:
                nets[node.output] = nets[first].reshape(op.shape)
            else:
                raise GraphError(f"node %{node.output}: only bits can be reshaped in a netlist")
        elif isinstance(op, GroupSum):
            nets[node.output], sums[node.output] = nets[first], op
        elif isinstance(op, Logic):
            body = op.body.widened(k)
            sources = [nets[name] for name in node.inputs]
            planes = np.concatenate([*(x.ravel() for x in sources), [FALSE]]).astype(np.int32)
            own = np.empty((body.num_nets, op.positions), np.int32)
            own[FALSE], own[TRUE] = FALSE, TRUE
            own[FIRST_TAP : body.first_gate] = planes[tap_index(op, [x.shape for x in sources])]
            count = body.num_gates * op.positions
            own[body.first_gate :] = np.arange(
                next_gate, next_gate + count, dtype=np.int32
            ).reshape(body.num_gates, op.positions)
            next_gate += count
            fanin.append(own[body.fanin].transpose(0, 2, 1).reshape(-1, k))
            table.append(np.repeat(body.table, op.positions))
            nets[node.output] = own[body.outputs].reshape(-1, *op.space)
    outputs = tuple(
        Output(name, nets[name].ravel(), sums.get(name))
        if name in nets
        else Output(name, np.zeros(0, np.int32), None, raw[name])
        for name in graph.outputs
    )
    taps = np.stack(
        [np.zeros(space.num_variables, np.int32), np.arange(space.num_variables, dtype=np.int32)],
        axis=1,
    )
    body = Body.build(
        taps,
        np.concatenate(fanin),
        np.concatenate(table) if table else np.zeros(0, np.uint8),
        np.concatenate([out.nets for out in outputs]),
    )
    return Unrolled(body, outputs)


def _thresholds(graph: Graph, value: Value) -> list[Threshold]:
    return [op for node, op in graph.of_type(Threshold) if node.inputs[0] == value.name]


def _element_levels(value: Value, op: Threshold) -> npt.NDArray[np.float32]:
    """Return (elements, L) float32: the distinct levels that `op` compares each element with."""
    levels = element_levels(op, value.shape).reshape(value.size, op.num_levels)
    return distinct_levels(levels, value.dtype)


def count_cases(space: InputSpace) -> int:
    """The number of samples that thresholds can tell apart."""
    return math.prod(int(n) for n in space.choices())
