"""Libraries with code for several CPUs: which level runs, on this CPU and on emulated ones."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

import lgir
from c_library import (
    STRICT,
    Library,
    assert_labels_and_counts_match,
    assert_matches,
    expected,
    needs_cc,
)
from lgir.backends.c.interface import BAD_ARGUMENT, OK, UNSUPPORTED_CPU
from lgir.backends.llvm.aot import compile_object
from lgir.backends.llvm.cpu_features import needed_features
from lgir.errors import BackendError
from lgir.ir.graph import Graph
from lgir.zoo import dense_net

LEVELS = ("x86-64", "x86-64-v3", "x86-64-v4")
needs_x86 = pytest.mark.skipif(
    not llvm.get_process_triple().startswith("x86_64"), reason="levels are those of x86-64"
)
QEMU = "qemu-x86_64"
needs_qemu = pytest.mark.skipif(
    shutil.which(QEMU) is None, reason=f"needs {QEMU} (Debian: apt-get install qemu-user)"
)


def small_net() -> Graph:
    return dense_net(2, 200, inputs=100, classes=5, seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with net.so, net.a and net.h, which have code for all levels."""
    path = tmp_path_factory.mktemp("portable")
    code = compile_object(small_net(), prefix="net")
    (path / "net.so").write_bytes(code.shared_library())
    (path / "net.a").write_bytes(code.archive())
    (path / "net.h").write_text(code.header)
    return path


@pytest.fixture
def library(folder: Path) -> Library:
    return Library(small_net(), folder / "net.so", "net")


def use(library: Library, level: int) -> int:
    code: int = library.function("use_level", ctypes.c_int, ctypes.c_int)(level)
    return code


def best_level() -> int:
    """Return the last level that this CPU has, as LLVM tells its features."""
    host = llvm.get_host_cpu_features()
    has = [all(host.get(name) for name in needed_features(level, "")) for level in LEVELS]
    return has.index(False) if False in has else len(has)


@needs_cc
@needs_x86
def test_every_level_computes_the_reference_results(library: Library) -> None:
    workspace = library.workspace()
    for level in (3, 1, 2):
        code = use(library, level)
        assert code == (OK if level <= best_level() else UNSUPPORTED_CPU)
        if code == OK:
            assert library.function("level")() == level
            for n in (0, 1, 65, 513):
                samples = [np.random.default_rng(n).random((n, 100)) < 0.4]
                assert_matches(library, samples, workspace=workspace)  # one for all levels
                assert_labels_and_counts_match(library, samples, workspace)
    use(library, best_level())


@needs_cc
@needs_x86
def test_the_first_call_takes_the_best_level(folder: Path) -> None:
    program = f"import ctypes; print(ctypes.CDLL({str(folder / 'net.so')!r}).net_level())"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True
    ).stdout
    assert int(printed) == best_level()


@needs_cc
@needs_x86
@pytest.mark.parametrize("level", [-1, 0, 4])
def test_a_level_that_does_not_exist_is_refused(library: Library, level: int) -> None:
    assert use(library, level) == BAD_ARGUMENT
    assert library.function("level")() == best_level()


@needs_cc
@needs_x86
@pytest.mark.skipif(bool(llvm.get_host_cpu_features().get("xop")), reason="needs a CPU without XOP")
def test_every_function_of_a_library_for_another_cpu_returns_a_code(tmp_path: Path) -> None:
    path = tmp_path / "net.so"
    lgir.export(small_net(), path, prefix="net", target="x86-64", features="+xop", latency=False)
    library = Library(small_net(), path, "net")
    samples = [np.zeros((1, 100), np.uint8)]
    assert library.function("level")() == 0
    assert use(library, 1) == UNSUPPORTED_CPU
    assert library("u8", samples)[0] == UNSUPPORTED_CPU
    assert library.first_sum("labels", "u8", samples)[0] == UNSUPPORTED_CPU
    assert library.first_sum("counts", "u8", samples)[0] == UNSUPPORTED_CPU
    assert library.function("workspace_bytes", ctypes.c_size_t)() > 0


MAIN = """\
#include <stdio.h>
#include "net.h"

int main(void)
{
    static uint8_t x[70 * NET_INPUT_ELEMENTS];
    static float scores[70 * NET_OUTPUT_ELEMENTS];
    const int64_t n = (int64_t)fread(x, NET_INPUT_ELEMENTS, 70, stdin);
    const int code = net_predict_u8(x, n, scores, NULL);
    printf("%d %d", net_level(), code);
    for (int64_t i = 0; code == NET_OK && i < n * NET_OUTPUT_ELEMENTS; i++)
        printf(" %.9g", scores[i]);
    return 0;
}
"""


def emulate(folder: Path, library: Path, cpu: str) -> tuple[int, int, list[float]]:
    """Return the level, the code and the scores of a program that runs on an emulated CPU."""
    source, program = folder / "main.c", folder / f"main-{library.name}"
    source.write_text(MAIN)
    command = ["cc", *STRICT, f"-I{library.parent}", f"-Wl,-rpath,{library.parent}"]
    subprocess.run([*command, "-o", program, source, library], check=True)
    x = (np.random.default_rng(0).random((70, 100)) < 0.5).view(np.uint8)
    process = subprocess.run(
        [QEMU, "-cpu", cpu, program], input=x.tobytes(), capture_output=True, check=True
    )
    level, code, *scores = process.stdout.split()
    return int(level), int(code), list(map(float, scores))


@needs_cc
@needs_x86
@needs_qemu
@pytest.mark.parametrize("ending", ["so", "a"])
@pytest.mark.parametrize(("cpu", "level"), [("Nehalem", 1), ("SandyBridge", 1), ("Haswell", 2)])
def test_emulated_cpus_compute_equal_scores(
    folder: Path, tmp_path: Path, cpu: str, level: int, ending: str
) -> None:
    """A CPU with AVX but without AVX2 takes the baseline, and no level ends in a signal."""
    found, code, scores = emulate(tmp_path, folder / f"net.{ending}", cpu)
    assert (found, code) == (level, OK)
    x = np.random.default_rng(0).random((70, 100)) < 0.5
    np.testing.assert_array_equal(np.float32(scores), expected(small_net(), [x])[0].ravel())


@needs_cc
@needs_x86
@needs_qemu
def test_an_emulated_cpu_without_the_only_level_gets_a_code(tmp_path: Path) -> None:
    library = tmp_path / "net.so"
    lgir.export(small_net(), library, header=tmp_path / "net.h", prefix="net", target="x86-64-v4")
    for cpu in ("Nehalem", "Haswell"):
        assert emulate(tmp_path, library, cpu) == (0, UNSUPPORTED_CPU, [])


def test_levels_share_their_tables() -> None:
    portable, baseline = (
        compile_object(small_net(), target=target, latency=False).llvm
        for target in ("portable", "x86-64")
    )
    sizes = [
        sorted(re.findall(r"^@table\.\d+ = constant \[(\d+) x i8\]", text, re.MULTILINE))
        for text in (portable, baseline)
    ]
    assert sizes[0] == sizes[1] != []


@pytest.mark.parametrize(
    ("cpu", "flags", "some", "none"),
    [
        ("x86-64", "", (), ("sse3", "avx")),
        ("x86-64-v3", "", ("avx2", "fma", "lzcnt", "movbe", "sahf"), ("avx512f", "gfni")),
        ("x86-64-v4", "", ("avx2", "avx512bw", "avx512vl"), ("avx512vbmi",)),
        ("x86-64-v4", "-avx512f,+gfni", ("avx2", "gfni"), ("avx512f", "avx512bw")),
        ("x86-64-v3", "-avx2,+rdseed", ("avx", "fma"), ("avx2", "rdseed")),
        ("sapphirerapids", "+sse3,+avx512fp16,-amx-tile", ("sse3", "avx512fp16"), ("avx512f",)),
    ],
)
def test_needed_features(cpu: str, flags: str, some: Sequence[str], none: Sequence[str]) -> None:
    features = needed_features(cpu, flags)
    assert features >= set(some)
    assert not features & set(none)


FOREIGN = {
    "x86-64-macos": ("x86_64-apple", b"\xcf\xfa\xed\xfe\x07\x00\x00\x01"),
    "aarch64-macos": ("aarch64-apple", b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01"),
    "x86-64-windows": ("x86_64-pc-windows", b"\x64\x86"),
    "aarch64-windows": ("aarch64-pc-windows", b"\x64\xaa"),
}


@pytest.mark.parametrize("target", FOREIGN)
def test_objects_for_other_systems(target: str) -> None:
    code = compile_object(small_net(), target=target, prefix="net", latency=False)
    triple, magic = FOREIGN[target]
    assert code.triple.startswith(triple)
    assert code.data.startswith(magic)
    symbol = b"_net_predict_u8\0" if "macos" in target else b"net_predict_u8\0"
    assert symbol in code.data
    with pytest.raises(BackendError, match=r"another form .* write an object \(-o model.o\)"):
        code.archive()
    with pytest.raises(
        BackendError, match=r"needs a linker for it: .*cc=.* .*-o model\.\w+ model\.o"
    ):
        code.shared_library()


MINGW = "x86_64-w64-mingw32-gcc"


@pytest.mark.skipif(shutil.which(MINGW) is None, reason=f"needs {MINGW}")
def test_a_windows_library_exports_the_c_functions(tmp_path: Path) -> None:
    path = tmp_path / "net.dll"
    lgir.export(small_net(), path, prefix="net", latency=False, cc=MINGW)
    data = path.read_bytes()
    assert data[:2] == b"MZ"
    symbols = compile_object(small_net(), target="x86-64", prefix="net", latency=False).symbols
    assert all(symbol.encode() + b"\0" in data for symbol in symbols)


def test_endings_of_libraries_are_formats_before_anything_is_compiled() -> None:
    program = "import lgir; from lgir.registry import EXPORTERS; print(*EXPORTERS.names())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert {"so", "a", "o", "dylib", "dll"} <= set(done.stdout.decode().split())


@pytest.mark.parametrize("ending", ["dylib", "dll"])
def test_libraries_of_other_systems_need_a_linker(tmp_path: Path, ending: str) -> None:
    with pytest.raises(BackendError, match=rf"needs a linker .* -o model\.{ending} model\.o"):
        lgir.export(small_net(), tmp_path / f"net.{ending}", latency=False)
