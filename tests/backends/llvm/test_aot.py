"""Ahead-of-time libraries: loaded by ctypes, linked by gcc, compared with the reference."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import lgir
from c_library import (
    STRICT,
    Library,
    assert_labels_and_counts_match,
    assert_matches,
    assert_prints,
    expected,
    kinds_of,
    needs_cc,
)
from lgir.backends.c.interface import BAD_ARGUMENT, BAD_VALUES, OK
from lgir.backends.llvm.aot import compile_object
from lgir.cli import main
from lgir.errors import BackendError, UnknownNameError
from lgir.ir.graph import Graph
from lgir.zoo import dense_net, logictreenet
from paths import ROOT
from random_graphs import random_graph, random_inputs
from targets import skip_unless_runnable

BATCHES = (0, 1, 31, 63, 64, 65, 511, 512, 513)
MACHINES = {"x86-64": 62, "x86-64-v3": 62, "x86-64-v4": 62, "avx2": 62, "aarch64": 183}
"""The machine field of an ELF header, by target."""


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Library]:
    def build_one(graph: Graph, **options: Any) -> Library:
        path = tmp_path / f"{graph.name}.so"
        lgir.export(graph, path, **{"target": "native"} | options)
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
        assert_labels_and_counts_match(library, samples, workspace)


@needs_cc
@pytest.mark.slow
@pytest.mark.parametrize("target", ["native", "avx2", "x86-64"])
def test_many_random_graphs_match_the_reference(build: Callable[..., Library], target: str) -> None:
    for seed in range(1000, 1100):
        library = build(random_graph(seed), target=target)
        assert_matches(library, random_inputs(library.graph, 513, seed))


@needs_cc
def test_every_batch_size_and_kind_of_bits(build: Callable[..., Library]) -> None:
    library = build(dense_net(2, 600, seed=3))
    assert kinds_of(library.graph) == ["u8", "f32", "bits"]
    for n in BATCHES:
        assert_matches(library, [np.random.default_rng(n).random((n, 784)) < 0.4])


@needs_cc
@pytest.mark.parametrize("target", ["x86-64", "avx2", "avx512"])
def test_every_batch_size_on_a_convolution(build: Callable[..., Library], target: str) -> None:
    skip_unless_runnable({"x86-64": "generic"}.get(target, target))
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
        guarded = np.full(37 * 10 + 256, 99, dtype)
        guarded[128 : 128 + 370] = x.ravel()
        samples = guarded[128 : 128 + 370].reshape(37, 10)
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
        info = get(0).contents
        assert info.name.decode() == value.name
        assert info.type.decode() == value.dtype
        assert info.elements == value.size
        assert tuple(info.shape[: info.rank]) == value.shape
        assert not get(1)
        assert not get(-1)
    assert library.function("abi_version")() == 1


@pytest.mark.parametrize(("target", "machine"), MACHINES.items())
def test_objects_for_other_machines(target: str, machine: int) -> None:
    code = compile_object(dense_net(1, 200, inputs=100, classes=5, seed=1), target=target)
    assert code.data[:4] == b"\x7fELF"
    assert int.from_bytes(code.data[18:20], "little") == machine
    assert ("pternlog" in code.llvm) == (target == "x86-64-v4")


def test_compilation_is_deterministic() -> None:
    graph = random_graph(7)
    first, second = (compile_object(graph, target="native") for _ in range(2))
    assert first.archive() == second.archive()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": "aarch65"}, UnknownNameError, "did you mean 'aarch64'"),
        ({"prefix": "my-net"}, BackendError, "for example 'my_net'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        compile_object(dense_net(1, 100, inputs=100, classes=5), **options)


def test_errors_of_linking_name_their_cause() -> None:
    graph = dense_net(1, 100, inputs=100, classes=5)
    with pytest.raises(BackendError, match="aarch64-linux-gnu-gcc"):
        compile_object(graph, target="aarch64").shared_library()
    with pytest.raises(BackendError, match=r"cannot run the C compiler 'no-such-cc' .*archive"):
        compile_object(graph, target="native").shared_library("no-such-cc")
    with pytest.raises(BackendError, match="cannot make a shared library"):
        compile_object(graph, target="native").shared_library("false")


EXAMPLE = ROOT / "examples" / "c" / "predict.c"


@needs_cc
@pytest.mark.parametrize("ending", ["so", "o", "a"])
def test_the_c_example_prints_the_reference_scores(tmp_path: Path, ending: str) -> None:
    graph = dense_net(2, 400, inputs=64, classes=10, seed=5)
    library = tmp_path / f"model.{ending}"
    lgir.export(graph, library, header=tmp_path / "model.h", prefix="model")
    program = tmp_path / "predict"
    command = ["cc", *STRICT, f"-I{tmp_path}", f"-Wl,-rpath,{tmp_path}", "-o", str(program)]
    subprocess.run([*command, str(EXAMPLE), str(library)], check=True)
    x = (np.random.default_rng(2).random((70, 64)) < 0.5).view(np.uint8)
    assert_prints([program], graph, x)


CROSS_CC, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64-static"


@pytest.mark.skipif(
    not (shutil.which(CROSS_CC) and shutil.which(EMULATOR)),
    reason=f"needs {CROSS_CC} and {EMULATOR}",
)
def test_objects_for_aarch64_compute_the_reference_scores(tmp_path: Path) -> None:
    graph, _ = lgir.optimize(logictreenet(8, seed=2), verify=None)
    model, program = tmp_path / "model.o", tmp_path / "predict"
    lgir.export(graph, model, header=tmp_path / "model.h", prefix="model", target="aarch64")
    subprocess.run(
        [CROSS_CC, "-std=c99", "-static", f"-I{tmp_path}", "-o", program, EXAMPLE, model],
        check=True,
    )
    x = np.random.default_rng(1).integers(0, 256, (70, 3, 32, 32), dtype=np.uint8)
    assert_prints([EMULATOR, program], graph, x)
    lgir.export(graph, tmp_path / "model.so", target="aarch64", cc=CROSS_CC)


@needs_cc
def test_the_header_is_valid_c_and_says_sizes(tmp_path: Path) -> None:
    graph = logictreenet(8, seed=2)
    code = compile_object(graph, prefix="net", target="native")
    assert re.search(r"#define NET_INPUT_ELEMENTS 3072 /\* u8\[3,32,32\] \*/", code.header)
    (tmp_path / "net.h").write_text(code.header)
    source = tmp_path / "use.c"
    source.write_text('#include "net.h"\n#include "net.h"\nint main(void) { return NET_OK; }\n')
    subprocess.run(["cc", *STRICT, "-fsyntax-only", source], check=True)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@needs_cc
@pytest.mark.parametrize("ending", ["so", "a", "o"])
def test_compile_writes_a_library_and_its_header(tmp_path: Path, ending: str) -> None:
    output, header = tmp_path / f"net.{ending}", tmp_path / "net.h"
    result = run("compile", "--net", "dense-2x400", "-o", output, "--header", header)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert f"net.{ending}: <Graph 'dense-2x400'" in result.stderr
    assert output.read_bytes()[:4] == (b"!<ar" if ending == "a" else b"\x7fELF")
    assert "int dense_2x400_predict_bits(" in header.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "model.x"), "-o needs --emit STAGE.* ending"),
        (("--header", "model.h"), "--header, --prefix and --cc belong to a library"),
        (("-o", "model.so", "-b", "reference"), "'reference' writes no libraries"),
        (("-o", "model.o", "--target", "arch64"), "did you mean 'aarch64'"),
        (("-o", "model.so", "--cc", "no-such-cc"), "cannot run the C compiler 'no-such-cc'"),
    ],
)
def test_errors_of_the_compile_command_are_one_line(
    arguments: tuple[str, ...], message: str
) -> None:
    result = run("compile", "--net", "dense-2x400", *arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert re.search(message, result.stderr), result.stderr
