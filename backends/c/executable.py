"""Exported C, compiled by the system's C compiler and loaded: the baseline of benchmarks.

Backends "c-O1" and "c-O3" compile what other exporters write, a C statement on a 64-bit word for
each gate. Backend "c" compiles the export as it is meant, loops over tables. All run on one thread.
"""

from __future__ import annotations

import ctypes
import statistics
import time

import numpy as np

from lgir.backends.c.compiler import link_shared
from lgir.backends.c.interface import BAD_VALUES, OK, Interface
from lgir.backends.c.source import emit_c
from lgir.errors import BackendError
from lgir.executable import Executable
from lgir.files import temporary_folder, write_atomically
from lgir.ir.graph import Graph
from lgir.ir.types import Value
from lgir.registry import register_backend
from lgir.samples import Array, check_bits, refuse_samples


class CExecutable(Executable):
    """A shared library of exported C, called as a C program calls it.

    It pickles as its graph and options, and is compiled again when it is loaded.

    Args:
        backend: the name under which the backend is registered.
        style: "tables" or "statements", see `lgir.backends.c.source.emit_c`.
        optimize: the compiler's level, which follows -O.
        cc: the compiler, a command that may have arguments.
    """

    def __init__(
        self, graph: Graph, backend: str, style: str, optimize: str, cc: str = "cc"
    ) -> None:
        super().__init__(graph)
        self.backend = backend
        self._options = backend, style, optimize, cc
        self._text = emit_c(graph, style=style, prefix="net", gates=True)
        library = link_shared(
            "net.c",
            self._text.encode(),
            cc=cc,
            flags=["-std=c99", "-fPIC", f"-O{optimize}"],
            instead="take backend 'llvm', which needs none",
        )
        with temporary_folder() as folder:
            path = folder / "net.so"
            write_atomically(path, library)
            self._library = ctypes.CDLL(str(path))  # stays loaded when the file is gone
        self._entries = {entry.kinds: entry for entry in Interface(graph, "net").entries}
        self._library.net_workspace_bytes.restype = ctypes.c_size_t
        self._workspace_bytes = int(self._library.net_workspace_bytes())

    def __reduce__(self) -> tuple[type[CExecutable], tuple[Graph | str, ...]]:
        return CExecutable, (self.graph, *self._options)

    @property
    def asm(self) -> dict[str, str]:
        """Return the text that was compiled, under "c"."""
        return {"c": self._text}

    def _run(self, samples: list[Array], n: int, threads: int | None) -> list[Array]:
        arrays = [_as_c_array(a) for a in samples]
        if _kinds(arrays) not in self._entries:  # an entry for mixed kinds takes bits as bytes
            pairs = zip(self.graph.inputs, arrays, strict=True)
            arrays = [_as_bytes(v, a) if v.dtype == "bit" else a for v, a in pairs]
        entry = self._entries[_kinds(arrays)]
        results = [
            np.empty((n, *y.value.shape), np.uint8 if y.kind == "u8" else np.float32)
            for y in entry.outputs
        ]
        workspace = np.empty(self._workspace_bytes, np.uint8)
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*arrays, *results, workspace)]
        inputs, outputs = pointers[: len(arrays)], pointers[len(arrays) :]
        code = self._library[entry.name](*inputs, ctypes.c_int64(n), *outputs)
        if code == BAD_VALUES:
            refuse_samples(self.graph.inputs, samples)
        if code != OK:
            raise BackendError(f"{entry.name} returned {code}")
        return [r.view(np.bool_) if r.dtype == np.uint8 else r for r in results]

    def time_gates(self, samples: int, repeats: int) -> float:
        """Return the seconds per sample that gates take, without packing and scores.

        The figure is the median of `repeats` runs over `samples`, in whole words of 64.
        """
        words = max(1, samples // 64)
        workspace = np.zeros(self._workspace_bytes, np.uint8)
        pointer = ctypes.c_void_p(workspace.ctypes.data)
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            for _ in range(words):
                self._library.net_gates(pointer)
            times.append(time.perf_counter() - start)
        return statistics.median(times) / (64 * words)


def _kinds(arrays: list[Array]) -> tuple[str, ...]:
    return tuple("f32" if a.dtype == np.float32 else "u8" for a in arrays)


def _as_bytes(value: Value, bits: Array) -> Array:
    check_bits(value, bits)
    return bits.astype(np.uint8)


def _as_c_array(array: Array) -> Array:
    """Return the array C-contiguous, with booleans as bytes."""
    contiguous = np.ascontiguousarray(array)
    return contiguous.view(np.uint8) if contiguous.dtype == np.bool_ else contiguous


@register_backend("c")
def compile_c(
    graph: Graph, *, style: str = "tables", optimize: str = "2", cc: str = "cc"
) -> CExecutable:
    """Compile exported C with the system's C compiler, for one thread.

    Args:
        style: "tables" or "statements", see `lgir.backends.c.source.emit_c`.
        optimize: the compiler's level, which follows -O.
        cc: the compiler, a command that may have arguments.

    Raises:
        BackendError: there is no such compiler, it fails, or the graph cannot be exported.
    """
    return CExecutable(graph, "c", style, optimize, cc)


@register_backend("c-O1")
def compile_statements_o1(graph: Graph) -> CExecutable:
    """Compile a C statement for each gate at -O1, as other exporters do, for comparison."""
    return CExecutable(graph, "c-O1", "statements", "1")


@register_backend("c-O3")
def compile_statements_o3(graph: Graph) -> CExecutable:
    """Compile a C statement for each gate at -O3, as other exporters do, for comparison."""
    return CExecutable(graph, "c-O3", "statements", "3")
