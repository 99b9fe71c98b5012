"""Sets of numbers as arrays, ascending and distinct."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", bound=np.integer)


def distinct(numbers: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Return the distinct numbers of an array of any shape, ascending.

    `np.unique` returns the same, but hashes since numpy 2.3, which is ten to thirty times as slow
    if most numbers differ.
    """
    ordered = np.sort(numbers, axis=None)
    first = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def without(numbers: npt.NDArray[Number], others: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Return the distinct `numbers` that are not among `others`, in their order."""
    return numbers[np.isin(numbers, others, invert=True)]
