"""The executable of the CUDA backend, for arrays in host memory and, without copies, on the GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from lgir.backends.cuda.device import CudaDevice
from lgir.backends.cuda.device_arrays import ArrayLibrary, device_samples, is_on_device
from lgir.backends.cuda.program import build_program
from lgir.backends.cuda.runtime import LoadedProgram
from lgir.backends.cuda.source import max_words, program_text
from lgir.backends.cuda.toolchain import compile_kernels
from lgir.errors import InputError
from lgir.executable import Executable
from lgir.ir.graph import Graph
from lgir.samples import Array, check_values


def _restore(graph: Graph, arch: str | None, workspace: int) -> CudaExecutable:
    return CudaExecutable(graph, CudaDevice(), arch, workspace)


class CudaExecutable(Executable):
    """Kernels on one device. Calls may come from many threads.

    It takes numpy arrays and CPU tensors as every executable does. It takes arrays on the GPU
    (torch tensors, CuPy arrays, anything with `__cuda_array_interface__` or DLPack) without a copy:
    these must be contiguous, their values are not checked, and the results are arrays of torch or
    CuPy that the library's current stream computes, without waiting.

    It pickles as its graph and options, and is compiled for the device on which it is loaded.

    Args:
        arch: the architecture to compile for. None takes the device's own.
        workspace: bytes of GPU memory for planes.

    Attributes:
        source: the .cu file.
        cubin: the compiled kernels.
    """

    backend = "cuda"

    def __init__(self, graph: Graph, device: CudaDevice, arch: str | None, workspace: int) -> None:
        super().__init__(graph)
        self.arch = arch or device.arch
        self._options = arch, workspace
        program = build_program(graph)
        self.source = program_text(program, workspace=workspace)
        self.cubin = compile_kernels(self.source, self.arch, "cubin")
        self._program = LoadedProgram(program, self.cubin, device, max_words(program, workspace))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _restore, (self.graph, *self._options)

    @cached_property
    def _ptx(self) -> str:
        return compile_kernels(self.source, self.arch, "ptx").rstrip(b"\0").decode()

    @property
    def asm(self) -> dict[str, str]:
        """Return the texts of the stages "cuda" and "ptx".

        If an architecture was asked for, "cubin" is the code object in hexadecimal.
        """
        stages = {"cuda": self.source, "ptx": self._ptx}
        requested_arch, _ = self._options
        return {**stages, "cubin": self.cubin.hex()} if requested_arch else stages

    def __call__(self, *samples: Any, threads: int | None = None) -> Any:
        if len(samples) != len(self.graph.inputs) or not all(map(is_on_device, samples)):
            return super().__call__(*samples, threads=threads)
        inputs = [device_samples(v, x) for v, x in zip(self.graph.inputs, samples, strict=True)]
        counts = [x.count for x in inputs]
        if len(set(counts)) != 1:
            raise InputError(f"input arrays differ in batch size: {counts}")
        library = ArrayLibrary(samples[0])
        results = [library.empty(self.graph.values[y], counts[0]) for y in self.graph.outputs]
        outputs = [y.__cuda_array_interface__["data"][0] for y in results]
        self._program.run([x.pointer for x in inputs], outputs, counts[0], library.stream)
        return results[0] if len(results) == 1 else tuple(results)

    def predict(self, *samples: Any, threads: int | None = None) -> Any:
        if not all(map(is_on_device, samples)):
            return super().predict(*samples, threads=threads)
        scores = self(*samples)
        return (scores[0] if isinstance(scores, tuple) else scores).argmax(-1)

    def _run(self, samples: list[Array], n: int, threads: int | None) -> list[Array]:
        check_values(self.graph.inputs, samples)
        arrays = []
        for value, array in zip(self.graph.inputs, samples, strict=True):
            if value.dtype == "bit":
                array = array.astype(bool).view(np.uint8)
            arrays.append(np.ascontiguousarray(array))
        outputs = [self.graph.values[name] for name in self.graph.outputs]
        results: list[Array] = [
            np.empty((n, *y.shape), np.bool_ if y.dtype == "bit" else np.float32) for y in outputs
        ]
        self._program.run_on_host(arrays, results)
        return results
