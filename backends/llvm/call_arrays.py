"""Arrays of a call as kernels take and give them."""

from __future__ import annotations

import math

import numpy as np

from lgir.backends.llvm.llvm_text import BLOCK, PLANE_BYTES
from lgir.ir.types import Value
from lgir.samples import Array


def sample_rows(array: Array) -> Array:
    """Return samples as (n, features) with adjacent features, and booleans as bytes.

    Samples are copied only if some sample is not contiguous.
    """
    contiguous = array if _samples_are_contiguous(array) else np.ascontiguousarray(array)
    rows = contiguous.reshape(len(array), math.prod(array.shape[1:]))
    return rows.view(np.uint8) if rows.dtype == np.bool_ else rows


def _samples_are_contiguous(array: Array) -> bool:
    expected = array.itemsize
    for size, stride in zip(array.shape[:0:-1], array.strides[:0:-1], strict=True):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


def sample_kind(array: Array) -> str:
    """Return the kind of checked samples: "u8", "f32", or "bits" for rows of 64-bit words."""
    if array.dtype == np.float32:
        return "f32"
    return "bits" if array.dtype == np.uint64 else "u8"


def empty_result(value: Value, n: int) -> Array:
    """Return the array that kernels fill for an output: planes per block for bits, or scores."""
    if value.dtype == "bit":
        return np.empty((-(-n // BLOCK), value.size, PLANE_BYTES), np.uint8)
    return np.empty((n, *value.shape), np.float32)


def finished_result(value: Value, result: Array, n: int) -> Array:
    """Return what a caller gets for a filled result: bool (n, *shape) for bits, or scores."""
    if value.dtype != "bit":
        return result
    bits = np.unpackbits(result, axis=-1, bitorder="little")
    return bits.transpose(0, 2, 1).reshape(len(bits) * BLOCK, *value.shape)[:n].astype(bool)
