"""Packed samples: 64 bits per word, to be stored and sent in an eighth of the bytes of bools.

The format is that of the C libraries' `predict_bits`: bit f of a sample, in row-major order of its
shape, is bit f % 64 of word f // 64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.errors import InputError


@dataclass(frozen=True, eq=False)
class Packed:
    """Samples of bits, for the bit inputs of an executable.

    Attributes:
        words: uint64 (N, ceil(bits per sample / 64)); bits after the last one of a sample are
            ignored.
        shape: shape of one sample.

    Raises InputError if words and shape do not fit each other.
    """

    words: npt.NDArray[np.uint64]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        needed = -(-math.prod(self.shape) // 64)
        words = self.words
        if words.dtype != np.uint64 or words.ndim != 2 or words.shape[1] != needed:
            raise InputError(
                f"packed samples of shape {tuple(self.shape)} are uint64 (N, {needed}), got "
                f"{words.dtype} {words.shape} (lgir.pack makes them from bools)"
            )

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, samples: slice) -> Packed:
        """Return the samples of a slice, without a copy."""
        return Packed(self.words[samples], self.shape)

    def unpack(self) -> npt.NDArray[np.bool_]:
        """Return the samples as bool (N, *shape)."""
        raw = np.ascontiguousarray(self.words.astype("<u8", copy=False)).view(np.uint8)
        size = math.prod(self.shape)
        bits = np.unpackbits(raw, axis=1, count=size, bitorder="little") if size else raw
        return bits.view(np.bool_).reshape(len(self), *self.shape)


def pack(samples: Any) -> Packed:
    """Pack bool or 0/1 samples (N, *shape), given as an array or a CPU tensor.

    Raises InputError if they hold anything but 0 and 1.
    """
    try:
        array = np.asarray(samples)
    except Exception as error:  # ragged, sparse, of a class that cannot be converted
        raise InputError(f"packed samples are an array of bits ({error})") from None
    if array.ndim == 0:
        raise InputError("give samples (N, ...), not one number")
    if array.dtype.kind not in "biuf":
        raise InputError(f"packed samples are bits, not {array.dtype}")
    bits = array.astype(np.bool_, copy=False)
    if array.dtype != np.bool_ and (array != bits).any():
        raise InputError("packed samples are bits, 0 or 1 (threshold the data first)")
    size = math.prod(array.shape[1:])
    packed = np.packbits(bits.reshape(len(array), size), axis=1, bitorder="little")
    raw = np.zeros((len(array), -(-size // 64) * 8), np.uint8)
    raw[:, : packed.shape[1]] = packed
    return Packed(raw.view("<u8").astype(np.uint64, copy=False), array.shape[1:])
