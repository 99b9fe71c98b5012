"""Arguments of the frontends' functions, checked alike, and what else may leave these functions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from lgir.errors import LgirError, LiftError, shown
from lgir.ir.types import Shape

MOST_ELEMENTS: Final = 1 << 24
"""Elements per sample of the largest input or layer that is lifted; memory grows with them."""


def sample_shape(value: Any, name: str = "input_shape") -> Shape:
    """Return the shape of one sample, given as a number or as a sequence of numbers.

    Raises LiftError if it does not hold positive integers, or has more than `MOST_ELEMENTS`.
    """
    sizes = value.tolist() if isinstance(value, np.ndarray) else value
    sizes = (sizes,) if _is_whole(sizes) else sizes
    given = isinstance(sizes, Sequence) and not isinstance(sizes, str | bytes) and len(sizes)
    if not given or not all(_is_whole(n) and n > 0 for n in sizes):
        raise LiftError(f"{name} {shown(value)} must hold positive integers")
    shape = tuple(int(n) for n in sizes)
    check_elements(math.prod(shape), f"{name} {shown(shape)}")
    return shape


def check_elements(count: int, where: str) -> None:
    """Raise LiftError if a layer has more than `MOST_ELEMENTS` per sample."""
    if count > MOST_ELEMENTS:
        raise LiftError(f"{where}: has {shown(count)} elements; at most {MOST_ELEMENTS:,} fit")


def whole_numbers(values: Any, where: str) -> Shape:
    """Return window sizes, strides or paddings; raise LiftError unless they are integers >= 0."""
    if not isinstance(values, Sequence) or not all(_is_whole(n) and n >= 0 for n in values):
        raise LiftError(f"{where}: {shown(values)} must hold whole numbers, one per axis")
    return tuple(int(n) for n in values)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


@contextmanager
def only_lgir_errors(what: str) -> Iterator[None]:
    """Turn any error within into a LiftError that names `what`.

    Bad input is refused by name where it is read. This is for what no check foresaw: objects of
    classes that raise when they are looked at, and damage in ways that nobody thought of.
    """
    try:
        yield
    except (LgirError, Warning):  # warnings are errors if the user wants them to be
        raise
    except Exception as error:
        raise LiftError(f"{what}: damaged ({type(error).__name__}: {error})") from error
