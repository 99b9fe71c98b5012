"""Exported C is strict C99 and agrees with the reference; one compiler call builds many graphs."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import lgir
from c_library import (
    STRICT,
    Library,
    as_kind,
    assert_labels_and_counts_match,
    assert_matches,
    assert_prints,
    expected,
    kinds_of,
    needs_cc,
)
from lgir import Body, GraphBuilder
from lgir.backends.c.interface import BAD_ARGUMENT, BAD_VALUES, OK
from lgir.backends.c.source import emit_c, export_c
from lgir.cli import main
from lgir.errors import BackendError, UnknownNameError
from lgir.ir.graph import Graph
from lgir.zoo import dense_net, logictreenet
from paths import ROOT
from random_graphs import random_graph, random_inputs

BATCHES = (0, 1, 31, 32, 33, 63, 64, 65, 130)

EXAMPLE = ROOT / "examples" / "c" / "predict.c"

Build = Callable[..., list[Library]]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Return a function that exports graphs and compiles them by one call into one library.

    The functions of graph i are named `g<i>_...`.
    """

    def build_all(graphs: Sequence[Graph], flags: Sequence[str] = ("-O2",), **options: Any) -> Any:
        sources = []
        for i, graph in enumerate(graphs):
            sources.append(str(tmp_path / f"g{i}.c"))
            lgir.export(graph, sources[-1], prefix=f"g{i}", **options)
        path = tmp_path / "models.so"
        command = ["cc", *STRICT, *flags, "-shared", "-fPIC", "-o", str(path), *sources]
        subprocess.run(command, check=True)
        return [Library(graph, path, f"g{i}") for i, graph in enumerate(graphs)]

    return build_all


@needs_cc
@pytest.mark.parametrize("word", [32, 64])
def test_random_graphs_match_the_reference(build: Build, word: int) -> None:
    seeds = [1133, *range(word, word + 16)]  # the first has a table of six inputs beyond int64
    graphs = [random_graph(seed) for seed in seeds]
    flags = ["-O1", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    for seed, library in enumerate(build(graphs, flags, word=word)):
        workspace = library.workspace()
        for n in (1, 33, 65):
            samples = random_inputs(library.graph, n, seed)
            assert_matches(library, samples, workspace=workspace)
            assert_labels_and_counts_match(library, samples, workspace)
        assert_one_sample_matches(library, random_inputs(library.graph, 3, seed))


def assert_one_sample_matches(library: Library, samples: list[Any]) -> None:
    """Compare the functions that evaluate one sample, within their memory, with the reference."""
    header = str(export_c(library.graph, prefix="net").header)
    size = int(re.search(r"NET_ONE_WORKSPACE_BYTES (\d+)", header)[1])
    want = expected(library.graph, samples)
    for kind in kinds_of(library.graph):
        arrays = [as_kind(kind, x) for x in samples]
        one = library.function(f"one_{kind}" if kind else "one")
        for i in range(len(arrays[0])):
            results = [
                np.full_like(w[i], 7, np.uint8 if w.dtype == bool else w.dtype) for w in want
            ]
            guarded = np.full(size + 64, 99, np.uint8)
            rows = [np.ascontiguousarray(a[i]) for a in arrays]
            pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*rows, *results, guarded[32:])]
            assert one(*pointers) == OK
            for result, w in zip(results, want, strict=True):
                np.testing.assert_array_equal(result, w[i])
            assert (guarded[:32] == 99).all()
            assert (guarded[32 + size :] == 99).all()
            pointers[-1] = None
            assert one(*pointers) == BAD_ARGUMENT


@needs_cc
def test_one_sample_takes_a_byte_per_bit() -> None:
    graph = dense_net(2, 400, inputs=64, classes=10, seed=5)
    header = str(export_c(graph, prefix="net").header)
    one, batch = (
        int(re.search(rf"#define NET_{name}WORKSPACE_BYTES (\d+)", header)[1])
        for name in ("ONE_", "")
    )
    assert 8 * one <= batch < 8 * (one + 8)
    assert f"RAM: {one:,} bytes" in header


@needs_cc
def test_one_sample_of_wrong_bits_has_a_code(build: Build) -> None:
    (library,) = build([dense_net(1, 100, inputs=100, classes=5, seed=1)])
    x, scores = np.full(100, 2, np.uint8), np.zeros(5, np.float32)
    memory = library.workspace()
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (x, scores, memory)]
    assert library.function("one_u8")(*pointers) == BAD_VALUES


@needs_cc
@pytest.mark.slow
def test_many_random_graphs_match_the_reference(build: Build) -> None:
    graphs = [random_graph(seed) for seed in range(1000, 1150)]
    for seed, library in enumerate(build(graphs, ["-O1"])):
        workspace = library.workspace()
        assert_matches(library, random_inputs(library.graph, 65, seed), workspace=workspace)


@needs_cc
def test_statements_match_the_reference(build: Build) -> None:
    graphs = [random_graph(seed, rank=0) for seed in range(12)]
    for seed, library in enumerate(build(graphs, style="statements")):
        workspace = library.workspace()
        for n in (1, 65):
            samples = random_inputs(library.graph, n, seed)
            assert_matches(library, samples, workspace=workspace)
            assert_labels_and_counts_match(library, samples, workspace)
        assert_one_sample_matches(library, [x[:2] for x in samples])


@needs_cc
@pytest.mark.parametrize("options", [{}, {"word": 32}, {"style": "statements"}])
def test_a_dense_network_at_every_batch_size(build: Build, options: dict[str, Any]) -> None:
    (library,) = build([dense_net(2, 600, seed=3)], **options)
    assert kinds_of(library.graph) == ["u8", "f32", "bits"]
    workspace = library.workspace()
    for n in BATCHES:
        samples = [np.random.default_rng(n).random((n, 784)) < 0.4]
        assert_matches(library, samples, workspace=workspace)


@needs_cc
def test_a_convolution_at_every_batch_size(build: Build) -> None:
    graph, _ = lgir.optimize(logictreenet(8, seed=2), verify=None)
    (library,) = build([graph])
    workspace = library.workspace()
    x = np.random.default_rng(1).integers(0, 256, (130, 3, 32, 32), dtype=np.uint8)
    (scores_of_reference,) = expected(graph, [x])
    for n in BATCHES:
        code, (scores,) = library("u8", [x[:n].copy()], workspace)
        assert code == OK
        np.testing.assert_array_equal(scores, scores_of_reference[:n])


@needs_cc
def test_wrong_values_and_arguments_have_codes(build: Build) -> None:
    (library,) = build([dense_net(1, 100, inputs=100, classes=5, seed=1)])
    workspace = library.workspace()
    bad = np.zeros((70, 100), np.uint8)
    bad[69, 99] = 2
    assert library("u8", [bad], workspace)[0] == BAD_VALUES
    floats = np.zeros((70, 100), np.float32)
    floats[3, 3] = np.nan
    assert library("f32", [floats], workspace)[0] == BAD_VALUES
    assert library("u8", [bad * 0], None)[0] == BAD_ARGUMENT
    assert library("u8", [bad * 0], workspace)[0] == OK


@needs_cc
def test_the_c_example_links_with_the_source(tmp_path: Path) -> None:
    graph = dense_net(2, 400, inputs=64, classes=10, seed=5)
    source = tmp_path / "model.c"
    lgir.export(graph, source, header=tmp_path / "model.h", prefix="model")
    program = tmp_path / "predict"
    command = ["cc", *STRICT, f"-I{tmp_path}", "-o", program, EXAMPLE, source]
    subprocess.run(command, check=True)
    x = (np.random.default_rng(2).random((70, 64)) < 0.5).view(np.uint8)
    assert_prints([program], graph, x)


@pytest.mark.parametrize("machine", ["arm-linux-gnueabihf", "mips-linux-gnu"])
@pytest.mark.parametrize("word", [32, 64])
def test_32_bit_and_big_endian_machines(tmp_path: Path, machine: str, word: int) -> None:
    cc, emulator = f"{machine}-gcc", f"qemu-{machine.split('-')[0]}-static"
    if not (shutil.which(cc) and shutil.which(emulator)):
        pytest.skip(f"needs {cc} and {emulator}")
    graph, _ = lgir.optimize(logictreenet(8, seed=2), verify=None)
    source, program = tmp_path / "model.c", tmp_path / "predict"
    lgir.export(graph, source, header=tmp_path / "model.h", prefix="model", word=word)
    command = [cc, *STRICT, "-static", f"-I{tmp_path}", "-o", program, EXAMPLE, source]
    subprocess.run(command, check=True)
    x = np.random.default_rng(1).integers(0, 256, (33, 3, 32, 32), dtype=np.uint8)
    assert_prints([emulator, program], graph, x)


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_the_header_serves_c_plus_plus(tmp_path: Path) -> None:
    header = export_c(random_graph(3), prefix="net").header
    assert header is not None
    (tmp_path / "net.h").write_text(header)
    source = tmp_path / "use.cpp"
    source.write_text('#include "net.h"\nint main() { return net_abi_version() - 1; }\n')
    subprocess.run(["c++", "-Wall", "-Werror", "-pedantic", "-fsyntax-only", source], check=True)


def graph_of_inputs(names: Sequence[str]) -> Graph:
    """Return a graph with an input of one bit per name, and outputs of scores and of a bit."""
    b = GraphBuilder("9 lives!")
    inputs = [b.input(name, "bit", (1,)) for name in names]
    taps = np.array([[i, 0] for i in range(len(names))])
    body = Body.build(taps, np.zeros((0, 1)), np.zeros(0), np.arange(2, 2 + len(names)), rank=0)
    return b.build(b.group_sum(b.logic(inputs, body), 1, name="word"), inputs[0])


def assert_compiles(graph: Graph, folder: Path) -> str:
    """Compile the source and the header as C and C++ of several standards; return the header."""
    export = export_c(graph)
    header = str(export.header)
    source, header_path = folder / "net.c", folder / "net.h"
    source.write_bytes(export.data)
    header_path.write_text(header)
    flags = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    subprocess.run(["cc", *STRICT, "-fsyntax-only", source], check=True)
    for standard in ("gnu11", "gnu2x"):
        subprocess.run(["cc", f"-std={standard}", *flags, source], check=True)
    if shutil.which("c++"):
        for standard in ("c++11", "c++20", "gnu++20"):
            command = ["c++", f"-std={standard}", "-x", "c++", *flags, header_path]
            subprocess.run(command, check=True)
    return header


@needs_cc
def test_names_of_arrays_never_collide(tmp_path: Path) -> None:
    names = ["p", "sum", "rows_0", "class", "a b", "a_b", "A_B", "n", "workspace", "7", "memset"]
    header = assert_compiles(graph_of_inputs(names), tmp_path)
    assert "int v9_lives_predict_u8(const uint8_t *p_, const uint8_t *sum_," in header


@needs_cc
def test_names_of_arrays_are_neither_keywords_nor_macros(tmp_path: Path) -> None:
    names = "linux unix i386 typeof concept requires co_await constinit char8_t const_cast asm "
    names += "SIZE_MAX NULL INT8_MAX WCHAR_MAX HUGE_VALF LANES I x X Bits"
    header = assert_compiles(graph_of_inputs(names.split()), tmp_path)
    assert "const uint8_t *linux_, " in header
    assert "const uint8_t *x, " in header
    assert "const uint8_t *Bits, " in header


@needs_cc
@pytest.mark.parametrize("name", ["a /* b */ c", "*/*", "\u202eabc", "a\x1b[2J\r\0", "\\", "é"])
def test_names_of_graphs_stay_inside_comments(name: str, tmp_path: Path) -> None:
    b = GraphBuilder(name)
    assert_compiles(b.build(b.group_sum(b.input("x", "bit", (4,)), 2)), tmp_path)


def test_the_source_is_small_and_has_no_dependencies() -> None:
    text = emit_c(dense_net(2, 1000, seed=1))
    headers = {line.split()[1] for line in text.splitlines() if line.startswith("#include")}
    assert headers == {"<stddef.h>", "<stdint.h>", "<string.h>"}
    assert "malloc" not in text.split("#include <stdint.h>")[1].replace("as malloc aligns", "")
    assert text.count("\n") < 1000
    statements = emit_c(dense_net(2, 1000, seed=1), style="statements")
    assert 1000 < statements.count("const word g") <= 2000


def test_wrong_options() -> None:
    graph = random_graph(1, rank=2)
    with pytest.raises(UnknownNameError, match="did you mean 'tables'"):
        emit_c(graph, style="table")
    with pytest.raises(BackendError, match="choose 32 or 64"):
        emit_c(graph, word=16)
    with pytest.raises(BackendError, match=r"run pass 'unroll' last, or take tables"):
        emit_c(logictreenet(8), style="statements")
    with pytest.raises(UnknownNameError, match="format 'c' has no option 'cc'"):
        lgir.export(graph, "x.c", cc="gcc")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_export_writes_a_file_and_its_header_or_prints(tmp_path: Path) -> None:
    model = tmp_path / "tiny.lgir"
    model.write_text(lgir.dumps(random_graph(5, rank=0), full=True))
    result = run("export", model, "-o", tmp_path / "a.c", "--header", tmp_path / "a.h")
    assert result.exit_code == 0
    assert "a.c: <Graph" in result.stderr
    assert "RANDOM_5_H" in (tmp_path / "a.h").read_text()
    printed = run("export", model, "--format", "c")
    assert printed.stdout == (tmp_path / "a.c").read_text()
    narrow = run("export", model, "--format", "c", "--word", 32, "--prefix", "net")
    assert "typedef uint32_t word;" in narrow.stdout
    assert "int net_abi_version(void)" in narrow.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "d"), "unknown format 'd'"),
        ((), "give --format FORMAT, or -o FILE with an ending that says it"),
        (("-o", "model.xyz"), r"cannot tell the format of 'model.xyz'.*\.c, .*\.so"),
        (("--format", "so"), "format 'so' is not text; write it to a file with -o"),
        (("--format", "c", "--target", "aarch64"), "format 'c' has no option 'target'"),
        (("--format", "c", "--style", "loop"), "unknown style 'loop'"),
    ],
)
def test_what_export_cannot_do_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = run("export", "--net", "dense-2x400", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert re.search(message, result.stderr), result.stderr
