"""Tables that records point to: plane offsets and masks, as 32-bit words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.llvm_text import PLANE_BYTES

Offsets = npt.NDArray[np.uint32]
Masks = npt.NDArray[np.uint32]


def plane_offsets(planes: npt.NDArray[np.int64]) -> Offsets:
    """Return the offsets of planes in bytes."""
    return np.ascontiguousarray((planes * PLANE_BYTES).astype(np.uint32))


def mask_words(masks: npt.NDArray[np.bool_]) -> Masks:
    """Return masks as words of all zeros or all ones."""
    return np.where(masks, np.uint32(0xFFFF_FFFF), np.uint32(0))


def aligned_masks(masks: npt.NDArray[np.bool_]) -> Masks:
    """Return `mask_words` in memory that begins a cache line.

    An entry of whole lines that straddled others would cost more loads.
    """
    memory = np.empty(masks.size + PLANE_BYTES // 4, np.uint32)
    table = memory[-memory.ctypes.data % PLANE_BYTES // 4 :][: masks.size].reshape(masks.shape)
    table[:] = mask_words(masks)
    return table
