"""The executable of the CUDA backend: arrays in and out, on the GPU without copies."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from lgir.backends.cuda.driver import Device
from lgir.backends.cuda.program import LOWERING_OPTIONS, Program
from lgir.backends.cuda.runtime import Network
from lgir.backends.cuda.source import max_words, source
from lgir.backends.cuda.toolchain import compile_kernels
from lgir.backends.lowering.plan import make_plan
from lgir.errors import InputError
from lgir.executable import Array, Executable, check_bits, check_floats
from lgir.ir.graph import Graph
from lgir.ir.types import Value

_TYPES = {"bit": ("|b1", "|u1"), "u8": ("|u1",), "f32": ("<f4",)}
_NAMES = {"bit": "bool or uint8", "u8": "uint8", "f32": "float32"}


def _restore(graph: Graph, arch: str | None, workspace: int) -> CudaExecutable:
    return CudaExecutable(graph, Device(), arch, workspace)


class CudaExecutable(Executable):
    """Kernels on one device. Calls may come from many threads.

    Takes numpy arrays and CPU tensors as every executable does, and arrays on the GPU (torch
    tensors, CuPy arrays, anything with `__cuda_array_interface__` or DLPack) without a copy: these
    must be contiguous, are not checked for values, and give results of torch or CuPy, on the
    library's current stream and not waited for.

    It pickles as its graph and options, and is compiled for the device where it is loaded.
    """

    backend = "cuda"

    def __init__(self, graph: Graph, device: Device, arch: str | None, workspace: int) -> None:
        super().__init__(graph)
        self.plan = make_plan(graph, LOWERING_OPTIONS)
        self.arch = arch or device.arch
        self._names_arch = arch is not None
        self._workspace = workspace
        program = Program(self.plan)
        self.source = source(program, workspace=workspace)
        self.cubin = compile_kernels(self.source, self.arch, "cubin")
        self._network = Network(program, self.cubin, device, max_words(program, workspace))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _restore, (self.graph, self.arch if self._names_arch else None, self._workspace)

    @cached_property
    def _ptx(self) -> str:
        return compile_kernels(self.source, self.arch, "ptx").rstrip(b"\0").decode()

    @property
    def asm(self) -> dict[str, str]:
        """Texts of the stages: "cuda", "ptx", and where an architecture was asked for "cubin", the
        code object in hexadecimal (`cubin` holds its bytes).
        """
        stages = {"cuda": self.source, "ptx": self._ptx}
        return {**stages, "cubin": self.cubin.hex()} if self._names_arch else stages

    def __call__(self, *samples: Any, threads: int | None = None) -> Any:
        if len(samples) != len(self.graph.inputs) or not all(map(_on_device, samples)):
            return super().__call__(*samples, threads=threads)
        views = [_view(v, x) for v, x in zip(self.graph.inputs, samples, strict=True)]
        counts = {n for _, n in views}
        if len(counts) != 1:
            raise InputError(f"input arrays differ in batch size: {[n for _, n in views]}")
        n = counts.pop()
        library = _Library(samples[0])
        values = [self.graph.values[name] for name in self.graph.outputs]
        results = [library.empty((n, *v.shape), v.dtype == "bit") for v in values]
        outputs = [r.__cuda_array_interface__["data"][0] for r in results]
        self._network.run([pointer for pointer, _ in views], outputs, n, library.stream)
        return results[0] if len(results) == 1 else tuple(results)

    def predict(self, *samples: Any, threads: int | None = None) -> Any:
        if not all(map(_on_device, samples)):
            return super().predict(*samples, threads=threads)
        scores = self(*samples)
        return (scores[0] if isinstance(scores, tuple) else scores).argmax(-1)

    def _run(self, samples: list[Array], n: int, threads: int | None) -> list[Array]:
        arrays = []
        for value, array in zip(self.graph.inputs, samples, strict=True):
            if value.dtype == "bit":
                check_bits(value, array)
                array = array.astype(bool).view(np.uint8)
            elif value.dtype == "f32":
                check_floats(value, array)
            arrays.append(np.ascontiguousarray(array))
        values = [self.graph.values[name] for name in self.graph.outputs]
        results: list[Array] = [
            np.empty((n, *v.shape), np.bool_ if v.dtype == "bit" else np.float32) for v in values
        ]
        self._network.run_on_host(arrays, results)
        return results


def _on_device(x: Any) -> bool:
    if isinstance(x, np.ndarray):
        return False
    if getattr(x, "is_cuda", None) is False:  # a torch tensor, whose interface raises on the CPU
        return False
    if hasattr(x, "__cuda_array_interface__"):
        return True
    return hasattr(x, "__dlpack_device__") and int(x.__dlpack_device__()[0]) == 2  # kDLCUDA


def _view(value: Value, x: Any) -> tuple[int, int]:
    """Pointer and number of samples of an array on the device."""
    if not hasattr(x, "__cuda_array_interface__"):
        x = _Library(x).module.from_dlpack(x)
    view = (x.detach() if hasattr(x, "detach") else x).__cuda_array_interface__
    shape, kind = tuple(view["shape"]), view["typestr"]
    if shape[1:] != value.shape:
        wanted = ", ".join(["N", *map(str, value.shape)])
        raise InputError(f"input %{value.name} expects ({wanted}), got {shape}")
    if kind not in _TYPES[value.dtype]:
        raise InputError(
            f"input %{value.name} on the GPU takes {_NAMES[value.dtype]}, got {kind}; convert it"
        )
    strides = view.get("strides")
    if strides is not None and math.prod(shape) and not _contiguous(shape, strides, int(kind[2])):
        raise InputError(f"input %{value.name} on the GPU must be contiguous; copy it first")
    return int(view["data"][0] or 0), shape[0]


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...], size: int) -> bool:
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length > 1 and stride != size:
            return False
        size *= length
    return True


class _Library:
    """The array library that results are made with: that of the first sample array."""

    def __init__(self, x: Any) -> None:
        name = type(x).__module__.partition(".")[0]
        found = sys.modules.get(name if name in ("torch", "cupy") else "torch")
        if found is None:
            found = sys.modules.get("cupy")
        if found is None:
            raise InputError("arrays on the GPU need torch or CuPy, for the results: import one")
        self.module: Any = found
        self._torch = found.__name__ == "torch"

    @property
    def stream(self) -> int:
        """The handle of the library's current stream."""
        if self._torch:
            return int(self.module.cuda.current_stream().cuda_stream)
        return int(self.module.cuda.get_current_stream().ptr)

    def empty(self, shape: tuple[int, ...], bits: bool) -> Any:
        dtype = self.module.bool if self._torch else self.module.bool_
        kind = dtype if bits else self.module.float32
        if self._torch:
            return self.module.empty(shape, dtype=kind, device="cuda")
        return self.module.empty(shape, dtype=kind)
