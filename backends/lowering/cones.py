"""Cones: trees of gates in a body, and the templates that they are evaluated by.

A cone is a tree of gates from one root down to taps or to roots of other cones; gates shared inside
a cone are recomputed. Two-input gates are classed only as AND-like or XOR-like: which inputs are
inverted is data (two masks per gate), because a tree absorbs every inner polarity into its parent.
So trees of one shape share one template whatever their operations, and the code does not grow with
the model. `cone_cutter` finds the cones of a body.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

T = TypeVar("T")


@dataclass(frozen=True)
class ConeExpr:
    """The expression tree of a template.

    Attributes:
        kind: "tap" or "cut" for a leaf, which is a tap or the root of another cone; "and" (two
            masks: see `and_masks`), "xor" (no masks), or "lut" (a mask for each of the 2**k table
            bits) for a gate.
        args: the operands of a gate.
    """

    kind: str
    args: tuple[ConeExpr, ...] = ()

    @property
    def masks(self) -> int:
        """The number of masks that this gate alone reads."""
        if self.kind == "lut":
            return 1 << len(self.args)
        return 2 if self.kind == "and" else 0

    def __str__(self) -> str:
        if not self.args:
            return {"tap": "t", "cut": "c"}[self.kind]
        sign = {"and": "&", "xor": "^", "lut": "L"}[self.kind]
        return f"{sign}({','.join(map(str, self.args))})"

    def leaves(self) -> list[str]:
        """Return the kinds of the leaves, from left to right."""
        return [self.kind] if not self.args else [k for arg in self.args for k in arg.leaves()]

    def num_masks(self) -> int:
        """Return the number of masks of the whole tree.

        Masks are in the order of the gates: operands first, from left to right, then the gate.
        """
        return self.masks + sum(arg.num_masks() for arg in self.args)

    def fold(
        self,
        leaf: Callable[[int, ConeExpr], T],
        gate: Callable[[ConeExpr, list[T], range], T],
    ) -> T:
        """Combine the tree bottom up, with leaves and masks numbered in the order of `num_masks`.

        Args:
            leaf: takes the number of a leaf, and the leaf.
            gate: takes a node, the values of its operands, and the numbers of its masks.
        """
        num_leaves = num_masks = 0

        def visit(expr: ConeExpr) -> T:
            nonlocal num_leaves, num_masks
            if not expr.args:
                num_leaves += 1
                return leaf(num_leaves - 1, expr)
            operands = [visit(arg) for arg in expr.args]
            masks = range(num_masks, num_masks + expr.masks)
            num_masks = masks.stop
            return gate(expr, operands, masks)

        return visit(self)


@dataclass(frozen=True)
class ConeGroup:
    """The cones of one template.

    Attributes:
        expr: the tree, evaluated at every position and, for a pool, at every shift.
        leaves: (n, L) the nets of taps and cut roots, in the order of `expr.leaves()`.
        masks: (n, M + 1) the tree's masks, then the inversion of the root.
        roots: (n,) the nets that are computed.
        shifts: (m, rank) the offsets of window copies relative to the first, which are ORed
            together.
        level: cones of a lower level come first; equal levels are independent.
    """

    expr: ConeExpr
    leaves: Ints
    masks: Bools
    roots: Ints
    shifts: Ints
    level: int


def and_masks(i: Bools, j: Bools) -> tuple[Bools, Bools, Bools]:
    """Return the masks (m1, m2) and the output inversion of an AND of inputs inverted by i and j.

    u = (a & (b ^ m1)) ^ (b & m2) gives a&b, a&~b, ~a&b and, if both inputs are inverted, a|b, the
    complement of the result: two three-input instructions for any AND-like gate.
    """
    return j, i, i & j
