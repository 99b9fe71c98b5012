"""Numbers: tensors whose elements are functions of one number each.

The number is an element of a `u8` or `f32` input, or a count: a weighted sum of nets. The function
is the chain of operators that the module applies to it, kept as such, so that it can be evaluated
in torch's own arithmetic wherever a comparison or a score needs its values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lgir.frontend.trace.functions import Shape, tokens
from lgir.frontend.trace.netlist import Origin
from lgir.frontend.trace.rows import Ints, number_rows, spread_index

Floats = npt.NDArray[np.float64]
Evaluate = Callable[[list[Tensor]], Tensor]


@dataclass(eq=False)
class Numbers:
    """Attributes:
    shape: of the tensor, as torch sees it.
    source: (n,) int64, the number that each element is a function of.
    number: (n,) int64, the function, of `Chains`.
    """

    shape: Shape
    source: Ints
    number: Ints
    dtype: torch.dtype
    origin: Origin = field(default_factory=Origin)

    @property
    def size(self) -> int:
        return len(self.source)

    def take(self, index: Ints, shape: Shape) -> Numbers:
        return Numbers(shape, self.source[index], self.number[index], self.dtype, self.origin)

    def reshaped(self, shape: Shape) -> Numbers:
        return Numbers(shape, self.source, self.number, self.dtype, self.origin)

    def spread(self, shape: Shape) -> Numbers:
        index = spread_index(self.shape, shape)
        return self if index is None else self.take(index, shape)


@dataclass(eq=False)
class _Step:
    """Functions that apply one operator to others; `operands` are columns: the number of another
    function, or a concrete value.
    """

    base: int
    count: int
    evaluate: Evaluate
    operands: list[Ints | Tensor]


class Chains:
    """Functions of one number by their numbers. Number 0 is the identity."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._size = 1

    def apply(self, operands: Sequence[Ints | Tensor], evaluate: Evaluate) -> Ints:
        """Number the functions that apply `evaluate` to functions (n,) and values (n,)."""
        columns = [x if isinstance(x, np.ndarray) else tokens(x) for x in operands]
        ids, first = number_rows(columns)
        picked: list[Ints | Tensor] = [x[first] for x in operands]
        step = _Step(self._size, len(first), evaluate, picked)
        self._steps.append(step)
        self._size += step.count
        return step.base + ids

    def evaluate(self, numbers: Ints, x: Tensor) -> Tensor:
        """Function i of `numbers` (m,) at the values x[i] of an array (m, p)."""
        bases = np.array([0, *(step.base for step in self._steps)])
        owner = np.searchsorted(bases, numbers, side="right") - 1
        present = np.unique(owner)
        if len(present) == 1:
            return self._evaluate(int(present[0]), numbers, x)
        parts = [np.flatnonzero(owner == step) for step in present]
        values = [
            self._evaluate(int(step), numbers[part], x[torch.from_numpy(part)])
            for step, part in zip(present, parts, strict=True)
        ]
        out = torch.empty(x.shape, dtype=values[0].dtype)
        for part, value in zip(parts, values, strict=True):
            out[torch.from_numpy(part)] = value
        return out

    def _evaluate(self, owner: int, numbers: Ints, x: Tensor) -> Tensor:
        if owner == 0:
            return x
        step = self._steps[owner - 1]
        rows = numbers - step.base
        values = [
            self.evaluate(operand[rows], x)
            if isinstance(operand, np.ndarray)
            else operand[torch.from_numpy(rows)][:, None].expand(x.shape)
            for operand in step.operands
        ]
        return step.evaluate(values)


@dataclass(eq=False)
class InputBlock:
    """The elements of a `u8` or `f32` input as sources."""

    base: int
    count: int
    dtype: torch.dtype
    kind: str
    input: int
    views: list[Shape] = field(default_factory=list)


@dataclass(eq=False)
class CountBlock:
    """Weighted sums: source i is bias[i] + sum of weight * net over its slice.

    All values are multiples of `quantum` that a float holds exactly.
    """

    base: int
    count: int
    dtype: torch.dtype
    start: Ints
    nets: Ints
    weights: Floats
    bias: Floats

    def bounds(self) -> tuple[Floats, Floats]:
        """The least and the greatest value of each sum."""
        low = np.add.reduceat(np.append(np.minimum(self.weights, 0), 0), self.start[:-1])
        high = np.add.reduceat(np.append(np.maximum(self.weights, 0), 0), self.start[:-1])
        empty = self.start[1:] == self.start[:-1]
        return (
            self.bias + np.where(empty, 0, low),
            self.bias + np.where(empty, 0, high),
        )

    def row(self, i: int) -> tuple[Ints, Floats, float]:
        part = slice(int(self.start[i]), int(self.start[i + 1]))
        return self.nets[part], self.weights[part], float(self.bias[i])


class Sources:
    """The numbers that functions of numbers read."""

    def __init__(self) -> None:
        self.blocks: list[InputBlock | CountBlock] = []
        self._size = 0

    def add_input(self, number: int, count: int, dtype: torch.dtype, kind: str) -> InputBlock:
        block = InputBlock(self._size, count, dtype, kind, number)
        self.blocks.append(block)
        self._size += count
        return block

    def add_counts(
        self, start: Ints, nets: Ints, weights: Floats, bias: Floats, dtype: torch.dtype
    ) -> CountBlock:
        """Sums of nets, in which equal nets are joined and weights of 0 left out."""
        row = np.repeat(np.arange(len(bias)), np.diff(start))
        order = np.lexsort((nets, row))
        row, nets, weights = row[order], nets[order], weights[order]
        new = np.ones(len(nets), bool)
        new[1:] = (row[1:] != row[:-1]) | (nets[1:] != nets[:-1])
        heads = np.flatnonzero(new)
        if len(heads) < len(nets):
            joined = np.add.reduceat(weights, heads)
            # Bits of a wide word stay apart: their sum may not be exact.
            if np.abs(joined).max() < 2.0**53 * np.abs(weights[weights != 0]).min(initial=1):
                row, nets, weights = row[heads], nets[heads], joined
        keep = (weights != 0) & (nets != 0)
        row, nets, weights = row[keep], nets[keep], weights[keep]
        begin = np.searchsorted(row, np.arange(len(bias) + 1))
        block = CountBlock(self._size, len(bias), dtype, begin, nets, weights, bias)
        self.blocks.append(block)
        self._size += len(bias)
        return block

    def blocks_of(self, sources: Ints) -> Ints:
        """For each source the number of its block."""
        bases = np.array([block.base for block in self.blocks])
        return np.searchsorted(bases, sources, side="right") - 1
