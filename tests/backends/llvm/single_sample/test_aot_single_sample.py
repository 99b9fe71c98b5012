"""Libraries evaluate small batches one sample after another, and others in blocks."""

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

import lgir
from c_library import STRICT, Library, as_kind, assert_matches, expected, kinds_of, needs_cc
from lgir.backends.c.interface import BAD_VALUES, OK
from lgir.backends.llvm import aot
from lgir.backends.llvm.aot import compile_object
from lgir.backends.llvm.single_sample.crossover import MAX_SAMPLES
from lgir.errors import BackendError
from lgir.ir.graph import Graph
from lgir.zoo import dense_net, logictreenet
from random_graphs import random_graph, random_inputs
from targets import skip_unless_runnable

pytestmark = needs_cc
TARGETS = {"native": "native", "avx512": "avx512", "avx2": "avx2", "x86-64": "generic"}

Build = Callable[..., tuple[Library, int]]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Return a function that builds a library and returns it with its crossover."""

    def build_one(graph: Graph, target: str = "native") -> tuple[Library, int]:
        skip_unless_runnable(TARGETS[target])
        code = compile_object(graph, target=target)
        path = tmp_path / f"{graph.name}-{target}.so"
        path.write_bytes(code.shared_library())
        return Library(graph, path), code.crossover

    return build_one


def numbers(size: int = 60) -> Graph:
    b = lgir.GraphBuilder("numbers")
    x = b.input("x", "f32", (size,))
    bits = b.threshold(x, [-0.5, 0.0, 0.5])
    return b.build(b.group_sum(b.flatten(bits), 3, 2.0), bits)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "graph",
    [
        dense_net(3, 700, seed=3),
        logictreenet(8, seed=2),
        numbers(),
        *(random_graph(seed) for seed in (5, 13, 18, 25, 31)),  # Several inputs, several outputs.
    ],
    ids=lambda graph: graph.name,
)
def test_every_batch_size_in_one_workspace(build: Build, graph: Graph, target: str) -> None:
    graph, _ = lgir.optimize(graph, verify=None)
    library, crossover = build(graph, target)
    assert 1 <= crossover <= MAX_SAMPLES
    samples = random_inputs(graph, 600, 1)
    outputs = expected(graph, samples)
    workspace = library.workspace()
    batches = (0, 1, 2, 600, 1, crossover, crossover + 1, 31, 511, 512, 513, 1)
    for n in batches:
        for kind in kinds_of(graph):
            batch = [as_kind(kind, x[600 - n :]) for x in samples]
            for memory in (workspace, None):
                code, results = library(kind, batch, memory)
                assert code == OK
                for result, output in zip(results, outputs, strict=True):
                    np.testing.assert_array_equal(result, output[600 - n :])


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_match_the_reference(build: Build, seed: int) -> None:
    graph = random_graph(seed)
    library, _ = build(graph, list(TARGETS)[seed % len(TARGETS)])
    workspace = library.workspace()
    for n in (1, 3, 70, 1):
        assert_matches(library, random_inputs(graph, n, n), workspace=workspace)


def test_samples_of_another_kind_leave_no_values_behind(build: Build) -> None:
    library, _ = build(dense_net(1, 100, inputs=37, classes=5, seed=1))
    x = np.random.default_rng(0).random((1, 37)) < 0.5
    words = as_kind("bits", x) | np.uint64(1 << 63)  # Set bits behind the sample.
    floats = np.full((1, 37), 0.3, np.float32)
    workspace = library.workspace()
    scores_of_x = expected(library.graph, [x])[0]
    for kind in ("f32", "u8", "bits", "u8", "bits", "f32", "bits"):
        samples = words if kind == "bits" else as_kind(kind, x)
        code, (scores,) = library(kind, [samples], workspace)
        assert code == OK
        np.testing.assert_array_equal(scores, scores_of_x)
        assert library("f32", [floats], workspace)[0] == BAD_VALUES


@pytest.mark.parametrize("n", [1, 2])
def test_samples_are_read_and_results_written_within_their_arrays(build: Build, n: int) -> None:
    b = lgir.GraphBuilder("both")
    x = b.input("x", "bit", (37,))
    graph = b.build(b.group_sum(x, 1, 1.0), x)
    library, _ = build(graph)
    rng = np.random.default_rng(n)
    for dtype in (np.uint8, np.float32):
        padded = np.full(37 * n + 256, 99, dtype)  # Not a bit.
        samples = padded[128 : 128 + 37 * n].reshape(n, 37)
        samples[:] = rng.random((n, 37)) < 0.5
        scores, bits = np.full(n + 32, 77, np.float32), np.full(37 * n + 128, 77, np.uint8)
        pointer = ctypes.c_void_p
        types = (pointer, ctypes.c_int64, pointer, pointer, pointer)
        name = "predict_u8" if dtype == np.uint8 else "predict_f32"
        predict = library.function(name, ctypes.c_int, *types)
        arrays = (scores[16:], bits[64:])
        results = [a.ctypes.data for a in arrays]
        assert predict(samples.ctypes.data, n, *results, None) == OK
        np.testing.assert_array_equal(scores[16 : 16 + n], samples.sum(axis=1))
        np.testing.assert_array_equal(bits[64 : 64 + 37 * n], samples.ravel())
        assert (np.delete(scores, np.s_[16 : 16 + n]) == 77).all()
        assert (np.delete(bits, np.s_[64 : 64 + 37 * n]) == 77).all()


def test_bad_values_have_their_code_and_leave_nothing_behind(build: Build) -> None:
    library, crossover = build(dense_net(2, 300, inputs=100, classes=5, seed=1))
    x = (np.random.default_rng(0).random((crossover, 100)) < 0.5).view(np.uint8)
    workspace = library.workspace()
    for malformed in ({"u8": 2}, {"f32": 0.5}, {"f32": np.nan}, {"f32": -1.0}):
        ((kind, value),) = malformed.items()
        bad = x.astype(np.uint8 if kind == "u8" else np.float32)
        bad[crossover - 1, 99] = value
        for n in (1, crossover):
            assert library(kind, [bad[crossover - n :].copy()], workspace)[0] == BAD_VALUES
        assert_matches(library, [x.view(np.bool_)], workspace=workspace)
    floats, _ = build(numbers())
    values = np.array([[np.inf, -np.inf, -0.0, 0.5] * 15], np.float32)
    assert_matches(floats, [values])
    values[0, 59] = np.nan
    assert floats("f32", [values])[0] == BAD_VALUES


def test_a_workspace_may_serve_two_models_in_turn(build: Build) -> None:
    first, _ = build(dense_net(2, 300, inputs=100, classes=5, seed=1))
    second, _ = build(lgir.optimize(logictreenet(8, seed=2), verify=None)[0])
    workspace = max(first.workspace(), second.workspace(), key=len)
    order = [(first, 1), (first, 70), (second, 70), (first, 1), (second, 1), (first, 70)]
    order += [(second, 70), (second, 1), (first, 70), (second, 70), (first, 1), (second, 1)]
    for library, n in order:
        assert_matches(library, random_inputs(library.graph, n), workspace=workspace)


def test_threads_with_separate_workspaces_are_independent(build: Build) -> None:
    library, _ = build(dense_net(3, 1000, seed=3))
    x = np.random.default_rng(0).random((600, 784)) < 0.5
    scores_of_x = expected(library.graph, [x])[0]
    failures: list[int] = []

    def call(first: int) -> None:
        workspace = library.workspace()
        for i in range(first, 600, 7):
            code, (scores,) = library("u8", [x[i : i + 1].view(np.uint8)], workspace)
            if code != OK or (scores != scores_of_x[i : i + 1]).any():
                failures.append(i)
        code, (scores,) = library("u8", [x.view(np.uint8)], workspace)
        if code != OK or (scores != scores_of_x).any():
            failures.append(-1)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


PROGRAM = """\
#include <stdio.h>
#include <stdlib.h>
#include "model.h"

enum { IN = MODEL_INPUT_ELEMENTS, OUT = MODEL_OUTPUT_ELEMENTS, ALL = 70 };
static uint8_t samples[ALL * IN];
static float scores[ALL * OUT];

int main(int argc, char **argv)
{
    void *workspace = malloc(MODEL_WORKSPACE_BYTES);
    int at = 0, i = 1;

    if (!workspace || fread(samples, IN, ALL, stdin) != ALL)
        return EXIT_FAILURE;
    for (; at < ALL; i = i % (argc - 1) + 1) {
        int n = atoi(argv[i]);
        n = n < ALL - at ? n : ALL - at;
        if (model_predict_u8(samples + at * IN, n, scores + at * OUT, i % 2 ? workspace : NULL))
            return EXIT_FAILURE;
        at += n;
    }
    for (i = 0; i < ALL * OUT; i++)
        printf("%.9g%c", scores[i], (i + 1) % OUT ? ' ' : '\\n');
    free(workspace);
    return EXIT_SUCCESS;
}
"""
COMPILERS = {"native": "cc", "x86-64": "cc", "aarch64": "aarch64-linux-gnu-gcc"}
EMULATOR = "qemu-aarch64-static"


@pytest.mark.parametrize("target", COMPILERS)
@pytest.mark.parametrize("net", ["dense", "logictreenet"])
def test_a_c_program_calls_with_any_number_of_samples(
    tmp_path: Path, target: str, net: str
) -> None:
    foreign = target == "aarch64"
    if foreign and not (shutil.which(COMPILERS[target]) and shutil.which(EMULATOR)):
        pytest.skip(f"needs {COMPILERS[target]} and {EMULATOR}")
    graph = dense_net(2, 400, seed=5) if net == "dense" else logictreenet(8, seed=2)
    graph, _ = lgir.optimize(graph, verify=None)
    model, source, program = (tmp_path / name for name in ("model.o", "main.c", "main"))
    lgir.export(graph, model, header=tmp_path / "model.h", prefix="model", target=target)
    source.write_text(PROGRAM)
    link = ["-static"] if foreign else []
    subprocess.run(
        [COMPILERS[target], *STRICT, *link, f"-I{tmp_path}", "-o", program, source, model],
        check=True,
    )
    samples = random_inputs(graph, 70)
    arguments = ["1", "2", "3", "40"]
    process = subprocess.run(
        [*([EMULATOR] if foreign else []), program, *arguments],
        input=samples[0].tobytes(),
        capture_output=True,
        check=True,
    )
    printed = [[float(s) for s in line.split()] for line in process.stdout.decode().splitlines()]
    np.testing.assert_array_equal(np.array(printed, np.float32), expected(graph, samples)[0])


def test_nothing_is_written_to_but_the_number_of_the_level() -> None:
    text = compile_object(logictreenet(8, seed=2), target="native").llvm
    globals_ = re.findall(r"^(@\S+) = (.*?) [\[<{]", text, re.MULTILINE)
    assert len(globals_) > 10
    assert {linkage for _, linkage in globals_} == {"internal constant", "constant"}
    variables = re.findall(r"^(@\S+) = .*\bglobal\b", text, re.MULTILINE)
    assert variables == ["@lgir_level_in_use"]


def test_without_latency_a_library_has_blocks_alone() -> None:
    graph = dense_net(2, 400, seed=5)
    both, blocks = (
        compile_object(graph, target="native", latency=latency) for latency in (True, False)
    )
    assert both.crossover > 0
    assert blocks.crossover == 0
    assert len(blocks.data) < len(both.data)
    assert "sample_" in both.llvm
    assert "sample_" not in blocks.llvm
    sizes = [re.search(r"WORKSPACE_BYTES (\d+)", code.header) for code in (blocks, both)]
    assert int(sizes[0][1]) < int(sizes[1][1])  # type: ignore[index]


def test_a_network_too_large_for_it_is_evaluated_in_blocks(monkeypatch: Any) -> None:
    graph = dense_net(2, 400, seed=5)
    blocks = compile_object(graph, target="native", latency=False)
    tables = sum(map(int, re.findall(r"^@table\.\d+ = .*? \[(\d+) x i8\]", blocks.llvm, re.M)))
    with monkeypatch.context() as patch:
        patch.setattr("lgir.backends.llvm.library._MAX_TABLES", tables + 100)
        assert compile_object(graph, target="native") == blocks
        patch.setattr("lgir.backends.llvm.library._MAX_TABLES", tables - 100)
        with pytest.raises(BackendError, match=r"tables have .* compile it for one CPU"):
            compile_object(graph, target="native")
    with monkeypatch.context() as patch:
        patch.setattr(aot, "crossover", lambda graph, plan: 0)
        assert compile_object(graph, target="native") == blocks

    def fail(*args: Any) -> None:
        raise BackendError("one sample takes too much")

    monkeypatch.setattr(aot, "SingleSampleProgram", fail)
    assert compile_object(graph, target="native") == blocks
