"""Layouts: the planes in which the elements of a value lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering.halos import Halo
from lgir.backends.lowering.steps import Planes


@dataclass(frozen=True)
class Walk:
    """How a template advances over a value: `strides`, the planes from one cell to the next per
    axis of space, and the `halo` of cells that stay False.
    """

    strides: tuple[int, ...]
    halo: Halo


@dataclass(frozen=True)
class PartialCount:
    """A bit-sliced count of elements whose own planes have been used again.

    Attributes:
        counts: (groups, width) planes of the counts; plane i is worth 2**i.
        is_counted: (elements,) whether each element is in the counts, in row-major order.
    """

    counts: Planes
    is_counted: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ValueLayout:
    """The planes of a value.

    Attributes:
        planes: (*shape) the plane of each element; of no meaning for elements in `partial_count`.
        walk: how a template walks the planes; None if they follow no affine layout.
        partial_count: the elements that are counted already; None if every element has a plane.
    """

    planes: Planes
    walk: Walk | None = None
    partial_count: PartialCount | None = None

    def first_cells(self) -> Planes:
        """Return the plane of each channel's first cell, (channels,)."""
        return self.planes.reshape(len(self.planes), -1)[:, 0]


def three_axes(axes: Sequence[int], fill: int) -> tuple[int, int, int]:
    """Return up to three numbers per axis, with `fill` for the leading axes that are missing."""
    a, b, c = (fill,) * (3 - len(axes)) + tuple(axes)
    return a, b, c
