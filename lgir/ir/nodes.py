"""Nodes of the IR and the four operators that they carry.

The operators are `Threshold`, `Logic`, `GroupSum` and `Reshape`. The words are ONNX's: `op_type`,
`inputs`, `outputs` and `attributes` give the ONNX view of a node.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.types import Shape, Value

OpT = TypeVar("OpT", bound="Op")


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
    """The output value of `op` on `inputs`. Assumes what `lgir.ir.verifier` checks."""
    if isinstance(op, Threshold):
        channels, *rest = inputs[0].shape
        return Value(name, "bit", (channels * op.num_levels, *rest))
    if isinstance(op, Logic):
        return Value(name, "bit", (len(op.body.outputs), *op.space))
    if isinstance(op, GroupSum):
        return Value(name, "f32", (op.groups,))
    assert isinstance(op, Reshape)
    return Value(name, inputs[0].dtype, op.shape)
