"""Elements of stored tensors: their bytes in files, and the dtypes of numpy that they become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def _bfloat16(bits: Array) -> Array:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _float8_e5m2(bits: Array) -> Array:
    return (bits.astype(np.uint16) << np.uint16(8)).view(np.float16).astype(np.float32)


def _float8_e4m3(bits: Array) -> Array:
    """Return float32 of a sign, four bits of exponent with bias 7, and three bits of fraction."""
    codes = np.arange(256)
    exponent, fraction = codes >> 3 & 15, codes & 7
    size = np.where(exponent > 0, np.ldexp(8.0 + fraction, exponent - 10), np.ldexp(fraction, -9))
    size[codes & 127 == 127] = np.nan
    values: Array = np.where(codes > 127, -size, size).astype(np.float32)
    return values[bits]


@dataclass(frozen=True)
class Element:
    """One kind of element: how it is stored, and what it becomes if numpy lacks it.

    Attributes:
        stored: dtype of the bytes.
        convert: turns an array of the stored dtype into one of a dtype that numpy has.
    """

    stored: np.dtype[Any]
    convert: Callable[[Array], Array] = lambda array: array

    @property
    def bytes_in_memory(self) -> int:
        """Return an upper bound on the bytes of one element, converted or not."""
        return max(self.stored.itemsize, 4)


ELEMENTS: Final = {
    "float64": Element(np.dtype("<f8")),
    "float32": Element(np.dtype("<f4")),
    "float16": Element(np.dtype("<f2")),
    "bfloat16": Element(np.dtype("<u2"), _bfloat16),
    "float8_e5m2": Element(np.dtype("u1"), _float8_e5m2),
    "float8_e4m3fn": Element(np.dtype("u1"), _float8_e4m3),
    "int64": Element(np.dtype("<i8")),
    "int32": Element(np.dtype("<i4")),
    "int16": Element(np.dtype("<i2")),
    "int8": Element(np.dtype("i1")),
    "uint64": Element(np.dtype("<u8")),
    "uint32": Element(np.dtype("<u4")),
    "uint16": Element(np.dtype("<u2")),
    "uint8": Element(np.dtype("u1")),
    "bool": Element(np.dtype("?")),
    "complex64": Element(np.dtype("<c8")),
    "complex128": Element(np.dtype("<c16")),
}
"""Elements by the names of their dtypes in torch."""
