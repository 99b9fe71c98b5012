"""Arrays on the GPU: their pointers, and results made by the library that they come from."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lgir.errors import InputError
from lgir.ir.types import Value

_DLPACK_CUDA: Final = 2
_TYPESTRS: Final = {"bit": ("|b1", "|u1"), "u8": ("|u1",), "f32": ("<f4",)}
_TYPE_NAMES: Final = {"bit": "bool or uint8", "u8": "uint8", "f32": "float32"}


@dataclass(frozen=True)
class DeviceSamples:
    """Samples on the device: their pointer and their number."""

    pointer: int
    count: int


def is_on_device(x: Any) -> bool:
    """Return whether `x` is an array on a CUDA device."""
    if isinstance(x, np.ndarray):
        return False
    if getattr(x, "is_cuda", None) is False:  # a torch tensor, whose interface raises on the CPU
        return False
    if hasattr(x, "__cuda_array_interface__"):
        return True
    return hasattr(x, "__dlpack_device__") and int(x.__dlpack_device__()[0]) == _DLPACK_CUDA


def device_samples(value: Value, x: Any) -> DeviceSamples:
    """Return where the samples of a graph input lie.

    Raises:
        InputError: the array's shape or dtype is not the input's, or it is not contiguous.
    """
    if not hasattr(x, "__cuda_array_interface__"):
        x = ArrayLibrary(x).module.from_dlpack(x)
    interface = (x.detach() if hasattr(x, "detach") else x).__cuda_array_interface__
    shape, typestr = tuple(interface["shape"]), interface["typestr"]
    if shape[1:] != value.shape:
        expected = ", ".join(["N", *map(str, value.shape)])
        raise InputError(f"input %{value.name} expects ({expected}), got {shape}")
    if typestr not in _TYPESTRS[value.dtype]:
        raise InputError(
            f"input %{value.name} on the GPU takes {_TYPE_NAMES[value.dtype]}, got {typestr}; "
            "convert it"
        )
    strides = interface.get("strides")
    if strides is not None and math.prod(shape) and not _contiguous(shape, strides, typestr):
        raise InputError(f"input %{value.name} on the GPU must be contiguous; copy it first")
    return DeviceSamples(int(interface["data"][0] or 0), shape[0])


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...], typestr: str) -> bool:
    size = int(typestr[2])
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length > 1 and stride != size:
            return False
        size *= length
    return True


class ArrayLibrary:
    """The library that results are made with: torch or CuPy, that of the first sample array.

    Raises:
        InputError: neither library is imported.
    """

    def __init__(self, x: Any) -> None:
        name = type(x).__module__.partition(".")[0]
        module = sys.modules.get(name if name in ("torch", "cupy") else "torch")
        if module is None:
            module = sys.modules.get("cupy")
        if module is None:
            raise InputError("arrays on the GPU need torch or CuPy, for the results: import one")
        self.module: Any = module
        self._is_torch = module.__name__ == "torch"

    @property
    def stream(self) -> int:
        """Return the handle of the library's current stream."""
        if self._is_torch:
            return int(self.module.cuda.current_stream().cuda_stream)
        return int(self.module.cuda.get_current_stream().ptr)

    def empty(self, value: Value, n: int) -> Any:
        """Return an array on the device for `n` results of a graph output."""
        module, shape = self.module, (n, *value.shape)
        if self._is_torch:
            dtype = module.bool if value.dtype == "bit" else module.float32
            return module.empty(shape, dtype=dtype, device="cuda")
        return module.empty(shape, dtype=module.bool_ if value.dtype == "bit" else module.float32)
