"""A compiled model as C programs see it, through ctypes, and its comparison with the reference."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import lgir
from lgir.backends.c.interface import OK, Interface
from lgir.ir.graph import Graph

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


class Library:
    """A shared library of `graph`, called as C calls it."""

    def __init__(self, graph: Graph, path: Path, prefix: str | None = None) -> None:
        self.graph = graph
        self.interface = Interface(graph, prefix)
        self.lib = ctypes.CDLL(str(path))

    def function(self, name: str, result: Any = ctypes.c_int, *arguments: Any) -> Any:
        symbol = self.lib[f"{self.interface.prefix}_{name}"]
        symbol.restype, symbol.argtypes = result, arguments
        return symbol

    def workspace(self) -> npt.NDArray[np.uint8]:
        """Garbage, as malloc may give."""
        size = self.function("workspace_bytes", ctypes.c_size_t)()
        return np.random.default_rng(9).integers(1, 255, size, dtype=np.uint8)

    def __call__(
        self,
        kind: str,
        samples: list[npt.NDArray[Any]],
        workspace: npt.NDArray[np.uint8] | None = None,
    ) -> tuple[int, list[npt.NDArray[Any]]]:
        """The return code and results of `predict_<kind>`, or of `predict` for kind ""."""
        n = len(samples[0])
        results: list[npt.NDArray[Any]] = []
        for name in self.graph.outputs:
            value = self.graph.values[name]
            dtype = np.uint8 if value.dtype == "bit" else np.float32
            results.append(np.full((n, *value.shape), 77, dtype))
        pointer = ctypes.c_void_p
        name = f"predict_{kind}" if kind else "predict"
        types = [*[pointer] * len(samples), ctypes.c_int64, *[pointer] * len(results), pointer]
        code = self.function(name, ctypes.c_int, *types)(
            *(x.ctypes.data for x in samples),
            n,
            *(r.ctypes.data for r in results),
            None if workspace is None else workspace.ctypes.data,
        )
        return code, results

    def first_sum(
        self,
        verb: str,
        kind: str,
        samples: list[npt.NDArray[Any]],
        workspace: npt.NDArray[np.uint8] | None = None,
    ) -> tuple[int, npt.NDArray[Any]]:
        """The return code and results of `labels_<kind>` or `counts_<kind>`."""
        n, shape = len(samples[0]), self.graph.values[self.graph.outputs[0]].shape
        results = (
            np.full(n, -7, np.int64) if verb == "labels" else np.full((n, *shape), -7, np.int32)
        )
        pointer = ctypes.c_void_p
        name = f"{verb}_{kind}" if kind else verb
        types = [*[pointer] * len(samples), ctypes.c_int64, pointer, pointer]
        code = self.function(name, ctypes.c_int, *types)(
            *(x.ctypes.data for x in samples),
            n,
            results.ctypes.data,
            None if workspace is None else workspace.ctypes.data,
        )
        return code, results


def as_kind(kind: str, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bits as an entry of `kind` takes them; other samples as they are."""
    if x.dtype != np.bool_:
        return x
    if kind == "f32":
        return x.astype(np.float32)
    if kind != "bits":
        return x.view(np.uint8)
    flat = x.reshape(len(x), math.prod(x.shape[1:]))
    rows = np.zeros((len(x), -(-flat.shape[1] // 64) * 8), np.uint8)
    packed = np.packbits(flat, axis=1, bitorder="little")
    rows[:, : packed.shape[1]] = packed
    return rows.view(np.uint64)


def kinds_of(graph: Graph) -> list[str]:
    names = [entry.name for entry in Interface(graph, "x").entries]
    return [name.removeprefix("x_predict").removeprefix("_") for name in names]


def expected(graph: Graph, samples: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    results = lgir.compile(graph, "reference")(*samples)
    return list(results) if isinstance(results, tuple) else [results]


def assert_matches(library: Library, samples: list[npt.NDArray[Any]], **options: Any) -> None:
    want = expected(library.graph, samples)
    for kind in kinds_of(library.graph):
        code, result = library(kind, [as_kind(kind, x) for x in samples], **options)
        assert code == OK
        for a, b in zip(result, want, strict=True):
            np.testing.assert_array_equal(a, b)


def assert_labels_and_counts_match(
    library: Library,
    samples: list[npt.NDArray[Any]],
    workspace: npt.NDArray[np.uint8] | None = None,
) -> None:
    """Compare with the reference the functions that the interface has."""
    reference = lgir.compile(library.graph, "reference")
    for verb, entries, want in (
        ("labels", library.interface.label_entries, reference.predict),
        ("counts", library.interface.count_entries, reference.counts),
    ):
        for entry in entries:
            kind = entry.name.removeprefix(f"{library.interface.prefix}_{verb}").removeprefix("_")
            code, got = library.first_sum(
                verb, kind, [as_kind(kind, x) for x in samples], workspace
            )
            assert code == OK
            np.testing.assert_array_equal(got, want(*samples))


def assert_prints(command: list[Any], graph: Graph, x: npt.NDArray[np.uint8]) -> None:
    """The example program, given `x`, prints the scores of the reference."""
    process = subprocess.run(command, input=x.tobytes(), capture_output=True, check=True)
    printed = [[float(s) for s in line.split()] for line in process.stdout.decode().splitlines()]
    np.testing.assert_array_equal(np.array(printed, np.float32), expected(graph, [x])[0])
