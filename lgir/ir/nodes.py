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
    """Base of the operators. Equality compares every attribute, arrays by content."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        for f in fields(self):
            a, b = getattr(self, f.name), getattr(other, f.name)
            same = np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
            if not same:
                return False
        return True

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Threshold(Op):
    """Thermometer encoding: the bit of a feature and a level l is `x > levels[..., l]`, strict.

    An input [C, ...] gives bits [C*L, ...], feature major: bit channel c*L + l is that of channel c
    and level l.

    Attributes:
        levels: float32, (L,) for all features, or (*lead, L) if `lead` is a prefix of the input's
            shape, so that channels or elements have their own levels.
    """

    levels: npt.NDArray[np.float32]

    @property
    def num_levels(self) -> int:
        """Return the number of levels per feature, L."""
        return int(self.levels.shape[-1])


@dataclass(frozen=True, eq=False)
class Logic(Op):
    """One body of gates, evaluated at every position of an iteration space.

    At position p, tap (i, c, *d) reads `inputs[i][c, *(p * stride + d)]`, or False outside the
    input. The output is bit[C, *space]; its channel c is the net `body.outputs[c]`.

    Attributes:
        body: the gates.
        space: sizes of the iteration space: () for a dense layer, (H', W') for images, (D', H', W')
            for volumes.
        stride: the step between positions along each axis of `space`.
    """

    body: Body
    space: Shape = ()
    stride: Shape = ()

    @property
    def positions(self) -> int:
        """Return the number of positions of the iteration space."""
        return math.prod(self.space)


@dataclass(frozen=True, eq=False)
class GroupSum(Op):
    """Class scores from counts of contiguous groups of the input bits: (count + beta) / tau.

    The arithmetic is float32, in that order, as torch computes it.
    """

    groups: int
    tau: float = 1.0
    beta: float = 0.0


@dataclass(frozen=True, eq=False)
class Reshape(Op):
    """The same elements in row-major order under another shape. It costs nothing."""

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
        """Return the name of the operator's type, for example "Logic"."""
        return type(self.op).__name__

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the values that the node defines, which is one."""
        return (self.output,)

    @property
    def attributes(self) -> dict[str, Any]:
        """Return the operator's attributes by name."""
        return {f.name: getattr(self.op, f.name) for f in fields(self.op)}


def infer_value(op: Op, inputs: tuple[Value, ...], name: str) -> Value:
    """Return the output value of `op` on `inputs`, which must fit as `lgir.ir.verifier` checks."""
    if isinstance(op, Threshold):
        channels, *rest = inputs[0].shape
        return Value(name, "bit", (channels * op.num_levels, *rest))
    if isinstance(op, Logic):
        return Value(name, "bit", (len(op.body.outputs), *op.space))
    if isinstance(op, GroupSum):
        return Value(name, "f32", (op.groups,))
    assert isinstance(op, Reshape)
    return Value(name, inputs[0].dtype, op.shape)
