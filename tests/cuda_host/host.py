"""Exported .cu files, built by g++ with the stand-in for the CUDA runtime, and called."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lgir.backends.cuda import emit_cuda
from lgir.ir.graph import Graph

FOLDER = Path(__file__).parent
GXX = ["g++", "-std=c++17", "-O0", "-Wall", "-Werror", "-Wno-unknown-pragmas", "-shared", "-fPIC"]
GXX += ["-x", "c++"]


def joined(graphs: Sequence[Graph]) -> str:
    """Return several networks as one source, with network i under the prefix `net<i>`."""
    parts = [
        "#include <cuda_runtime.h>",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "#include <new>",
    ]
    for i, graph in enumerate(graphs):
        parts.append(f"namespace net{i} {{\n{emit_cuda(graph, prefix=f'net{i}')}\n}}")
    return "\n".join(parts) + "\n"


def build(graphs: Sequence[Graph], folder: Path) -> list[HostNetwork]:
    """Compile networks for the CPU, together because most of a compilation is its start."""
    source, library = folder / "nets.cu", folder / "nets.so"
    source.write_text(joined(graphs))
    subprocess.run([*GXX, "-I", str(FOLDER), str(source), "-o", str(library)], check=True)
    code = ctypes.CDLL(str(library))
    return [HostNetwork(graph, code, f"net{i}") for i, graph in enumerate(graphs)]


class HostNetwork:
    """One network of a library. Each call creates it, runs it and destroys it."""

    def __init__(self, graph: Graph, code: ctypes.CDLL, prefix: str) -> None:
        self.graph = graph
        self.code = code
        self.prefix = prefix

    def function(self, name: str) -> Any:
        return getattr(self.code, f"{self.prefix}_{name}")

    def __call__(
        self, samples: Sequence[np.ndarray], batch: int = 0, packed: bool = False
    ) -> list[np.ndarray]:
        """Return the outputs for numpy samples or packed planes, `batch` samples at a time."""
        results, codes = self.try_run(samples, batch, packed)
        assert codes == [0, 0, 0]
        return results

    def try_run(
        self, samples: Sequence[np.ndarray], batch: int = 0, packed: bool = False, n: int = -1
    ) -> tuple[list[np.ndarray], list[int]]:
        """Return outputs, and the codes of create, run (unless create fails) and destroy."""
        n = len(samples[0]) if n < 0 else n
        inputs = [np.ascontiguousarray(x.view(np.uint8) if x.dtype == bool else x) for x in samples]
        values = [self.graph.values[name] for name in self.graph.outputs]
        results = [
            np.full((n, *v.shape), 7, np.uint8 if v.dtype == "bit" else np.float32) for v in values
        ]
        network = ctypes.c_void_p()
        codes = [self.function("create")(ctypes.byref(network), ctypes.c_size_t(batch))]
        if codes == [0]:
            run = self.function("run_packed" if packed else "run")
            codes.append(
                run(network, _pointers(inputs), _pointers(results), ctypes.c_size_t(n), None)
            )
        codes.append(self.function("destroy")(network))
        assert self.code.host_allocations() == 0, "device memory was not freed"
        return [r.view(bool) if r.dtype == np.uint8 else r for r in results], codes


def _pointers(arrays: Sequence[np.ndarray]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
