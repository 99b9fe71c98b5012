"""Ahead-of-time libraries: loaded by ctypes, linked by gcc, compared with the reference."""

from __future__ import annotations

import ctypes
import math
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from random_graphs import random_graph, random_inputs

import lgir
from lgir.backends.c_interface import BAD_ARGUMENT, BAD_VALUES, OK, Interface
from lgir.backends.llvm.aot import compile_object
from lgir.backends.llvm.jit import resolve_target
from lgir.errors import BackendError, UnknownNameError
from lgir.graph import Graph
from lgir.zoo import dense_net, logictreenet

BATCHES = (0, 1, 31, 63, 64, 65, 511, 512, 513)
MACHINES = {"x86-64": 62, "x86-64-v3": 62, "x86-64-v4": 62, "avx2": 62, "aarch64": 183}
"""The machine field of an ELF header, by target."""

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


class Library:
    """A shared library of `graph`, called as C calls it."""

    def __init__(self, graph: Graph, path: Path, prefix: str | None = None) -> None:
        self.graph = graph
        self.interface = Interface(graph, prefix)
        self.lib = ctypes.CDLL(str(path))

    def function(self, name: str, result: Any = ctypes.c_int, *arguments: Any) -> Any:
        found = self.lib[f"{self.interface.prefix}_{name}"]
        found.restype, found.argtypes = result, arguments
        return found

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
    found = lgir.compile(graph, "reference")(*samples)
    return list(found) if isinstance(found, tuple) else [found]


def assert_matches(library: Library, samples: list[npt.NDArray[Any]], **options: Any) -> None:
    want = expected(library.graph, samples)
    for kind in kinds_of(library.graph):
        code, got = library(kind, [as_kind(kind, x) for x in samples], **options)
        assert code == OK
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Library]:
    def build_one(graph: Graph, **options: Any) -> Library:
        path = tmp_path / f"{graph.name}.so"
        lgir.export(graph, path, **options)
        return Library(graph, path, options.get("prefix"))

    return build_one


@needs_cc
@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_match_the_reference(build: Callable[..., Library], seed: int) -> None:
    library = build(random_graph(seed))
    workspace = library.workspace()
    for n in (1, 65, 513):
        samples = random_inputs(library.graph, n, seed)
        assert_matches(library, samples)
        assert_matches(library, samples, workspace=workspace)


@needs_cc
def test_every_batch_size_and_kind_of_bits(build: Callable[..., Library]) -> None:
    library = build(dense_net(2, 600, seed=3))
    assert kinds_of(library.graph) == ["u8", "f32", "bits"]
    for n in BATCHES:
        assert_matches(library, [np.random.default_rng(n).random((n, 784)) < 0.4])


@needs_cc
@pytest.mark.parametrize("target", ["x86-64", "avx2", "avx512"])
def test_every_batch_size_on_a_convolution(build: Callable[..., Library], target: str) -> None:
    try:
        resolve_target({"x86-64": "generic"}.get(target, target))
    except BackendError:
        pytest.skip(f"this CPU cannot run {target}")
    graph, _ = lgir.optimize(logictreenet(8, seed=2), verify=None)
    library = build(graph, target=target)
    workspace = library.workspace()
    x = np.random.default_rng(1).integers(0, 256, (513, 3, 32, 32), dtype=np.uint8)
    want = lgir.compile(graph)(x)
    for n in BATCHES:
        code, (scores,) = library("u8", [x[:n].copy()], workspace)
        assert code == OK
        np.testing.assert_array_equal(scores, want[:n])


@needs_cc
def test_narrow_samples_are_read_within_their_array(build: Callable[..., Library]) -> None:
    library = build(dense_net(2, 100, inputs=10, classes=5, seed=1))
    x = np.random.default_rng(0).random((37, 10)) < 0.5
    workspace = library.workspace()
    for dtype, kind in ((np.float32, "f32"), (np.uint8, "u8")):  # one workspace for both
        around = np.full(37 * 10 + 256, 99, dtype)
        around[128 : 128 + 370] = x.ravel()
        samples = around[128 : 128 + 370].reshape(37, 10)
        code, (scores,) = library(kind, [samples], workspace)
        assert code == OK
        np.testing.assert_array_equal(scores, expected(library.graph, [x])[0])


@needs_cc
def test_wrong_values_and_arguments_have_codes(build: Callable[..., Library]) -> None:
    library = build(dense_net(1, 100, inputs=100, classes=5, seed=1))
    bad = np.zeros((600, 100), np.uint8)
    bad[599, 99] = 2
    assert library("u8", [bad])[0] == BAD_VALUES
    floats = np.zeros((600, 100), np.float32)
    floats[3, 3] = np.nan
    assert library("f32", [floats])[0] == BAD_VALUES
    pointer = ctypes.c_void_p
    predict = library.function(
        "predict_u8", ctypes.c_int, pointer, ctypes.c_int64, pointer, pointer
    )
    good, scores = np.zeros((1, 100), np.uint8), np.zeros((1, 5), np.float32)
    assert predict(good.ctypes.data, -1, scores.ctypes.data, None) == BAD_ARGUMENT
    assert predict(None, 1, scores.ctypes.data, None) == BAD_ARGUMENT
    assert predict(good.ctypes.data, 1, None, None) == BAD_ARGUMENT
    assert predict(None, 0, None, None) == OK


@needs_cc
def test_a_workspace_may_serve_two_models_in_turn(build: Callable[..., Library]) -> None:
    first, second = build(random_graph(4)), build(random_graph(21))
    workspace = max(first.workspace(), second.workspace(), key=len)
    for library in (first, second, first, second):
        assert_matches(library, random_inputs(library.graph, 70), workspace=workspace)


@needs_cc
def test_calls_with_their_own_workspaces_run_in_parallel(build: Callable[..., Library]) -> None:
    library = build(dense_net(3, 1000, seed=3))
    x = (np.random.default_rng(0).random((4000, 784)) < 0.5).view(np.uint8)
    want = lgir.compile(library.graph, "reference")(x)
    results: list[Any] = [None] * 4

    def call(i: int) -> None:
        workspace = library.workspace()
        for _ in range(5):
            results[i] = library("u8", [x], workspace)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for code, (scores,) in results:
        assert code == OK
        np.testing.assert_array_equal(scores, want)


@needs_cc
def test_the_library_describes_its_arrays(build: Callable[..., Library]) -> None:
    class Value(ctypes.Structure):
        _fields_ = (
            ("name", ctypes.c_char_p),
            ("type", ctypes.c_char_p),
            ("elements", ctypes.c_int64),
            ("rank", ctypes.c_int64),
            ("shape", ctypes.POINTER(ctypes.c_int64)),
        )

    library = build(logictreenet(8, seed=2), prefix="net")
    for role, value in (
        ("input", library.graph.inputs[0]),
        ("output", library.graph.values[library.graph.outputs[0]]),
    ):
        get = library.function(role, ctypes.POINTER(Value), ctypes.c_int64)
        found = get(0).contents
        assert found.name.decode() == value.name
        assert found.type.decode() == value.dtype
        assert found.elements == value.size
        assert tuple(found.shape[: found.rank]) == value.shape
        assert not get(1)
        assert not get(-1)
    assert library.function("abi_version")() == 1


@pytest.mark.parametrize(("target", "machine"), MACHINES.items())
def test_objects_for_other_machines(target: str, machine: int) -> None:
    code = compile_object(dense_net(1, 200, inputs=100, classes=5, seed=1), target=target)
    assert code.data[:4] == b"\x7fELF"
    assert int.from_bytes(code.data[18:20], "little") == machine
    assert ("pternlog" in code.llvm) == (target == "x86-64-v4")


def test_what_compiles_is_the_same_every_time() -> None:
    graph = random_graph(7)
    assert compile_object(graph).archive() == compile_object(graph).archive()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": "aarch65"}, UnknownNameError, "did you mean 'aarch64'"),
        ({"prefix": "my-net"}, BackendError, "for example 'my_net'"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        compile_object(dense_net(1, 100, inputs=100, classes=5), **options)


def test_what_stands_in_the_way_of_linking_is_said() -> None:
    graph = dense_net(1, 100, inputs=100, classes=5)
    with pytest.raises(BackendError, match="aarch64-linux-gnu-gcc"):
        compile_object(graph, target="aarch64").shared_library()
    with pytest.raises(BackendError, match=r"cannot run the C compiler 'no-such-cc' .*archive"):
        compile_object(graph).shared_library("no-such-cc")
    with pytest.raises(BackendError, match="cannot link the shared library"):
        compile_object(graph).shared_library("false")


EXAMPLE = Path(__file__).parents[1] / "examples" / "c" / "predict.c"


@needs_cc
@pytest.mark.parametrize("ending", ["so", "o", "a"])
def test_the_c_example_prints_the_reference_scores(tmp_path: Path, ending: str) -> None:
    graph = dense_net(2, 400, inputs=64, classes=10, seed=5)
    library = tmp_path / f"model.{ending}"
    lgir.export(graph, library, header=tmp_path / "model.h", prefix="model")
    program = tmp_path / "predict"
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    command = ["cc", *warnings, f"-I{tmp_path}", f"-Wl,-rpath,{tmp_path}", "-o", str(program)]
    subprocess.run([*command, str(EXAMPLE), str(library)], check=True)
    x = (np.random.default_rng(2).random((70, 64)) < 0.5).view(np.uint8)
    done = subprocess.run([str(program)], input=x.tobytes(), capture_output=True, check=True)
    printed = [[float(s) for s in line.split()] for line in done.stdout.decode().splitlines()]
    np.testing.assert_array_equal(np.array(printed, np.float32), expected(graph, [x])[0])


@needs_cc
def test_the_header_is_valid_c_and_says_sizes(tmp_path: Path) -> None:
    graph = logictreenet(8, seed=2)
    code = compile_object(graph, prefix="net")
    assert re.search(r"#define NET_INPUT_ELEMENTS 3072 /\* u8\[3,32,32\] \*/", code.header)
    (tmp_path / "net.h").write_text(code.header)
    source = tmp_path / "use.c"
    source.write_text('#include "net.h"\n#include "net.h"\nint main(void) { return NET_OK; }\n')
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]
    subprocess.run(["cc", *flags, str(source)], check=True)
