"""The levels of a Threshold as each consumer needs them: per element, and for bytes as integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.ir.nodes import Threshold
from lgir.ir.types import Shape

Levels = npt.NDArray[np.float32]


def element_levels(op: Threshold, shape: Shape) -> Levels:
    """Return the levels of every element of an input: float32 (*shape, L), a read-only view."""
    lead = op.levels.shape[:-1]
    levels = op.levels.reshape(*lead, *(1,) * (len(shape) - len(lead)), op.num_levels)
    return np.broadcast_to(levels, (*shape, op.num_levels))


def byte_levels(levels: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """Return int16 levels that bytes exceed exactly if they exceed the float32 `levels`.

    An integer exceeds t exactly if it exceeds floor(t). Every byte exceeds -1 and none exceeds 255,
    so the results lie in -1..255.
    """
    integers: npt.NDArray[np.int16] = np.clip(np.floor(levels), -1, 255).astype(np.int16)
    return integers


def distinct_levels(levels: Levels, dtype: str) -> Levels:
    """Return float32 levels of which two have equal bits if numbers of `dtype` pass the same ones.

    `dtype` is u8 or f32. Levels of bytes become integers from -1 to 255, and -0.0 becomes 0.0.
    """
    if dtype == "u8":
        levels = byte_levels(levels).astype(np.float32)
    return levels + np.float32(0)


def always_exceeded(levels: Levels, dtype: str) -> npt.NDArray[np.bool_]:
    """Return which of some `distinct_levels` every number of `dtype` exceeds, of equal shape."""
    return levels < 0 if dtype == "u8" else np.zeros(levels.shape, bool)


def never_exceeded(levels: Levels, dtype: str) -> npt.NDArray[np.bool_]:
    """Return which of some `distinct_levels` no number of `dtype` exceeds, of equal shape."""
    return levels >= (255 if dtype == "u8" else np.inf)
