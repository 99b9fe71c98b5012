"""What nvcc makes of the CUDA source: no warnings, and registers, spills and LOP3s as recorded."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lgir
from cuda_host.host import joined
from lgir.backends.cuda import emit_cuda
from lgir.backends.cuda.toolchain import compile_kernels
from lgir.errors import BackendError
from lgir.ir.graph import Graph
from lgir.zoo import build_net, dense_net, logictreenet
from random_graphs import random_graph

ARCHITECTURES = ("sm_80", "sm_90")
GOLDEN_NVCC = "13.0"
STRICT = ("-std=c++17", "-O3", "-Werror", "all-warnings")

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not here")


def nvcc(*arguments: str) -> str:
    """Run nvcc and return its messages."""
    process = subprocess.run(["nvcc", *arguments], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr or process.stdout
    return process.stderr + process.stdout


def compile_all(graphs: list[Graph], folder: Path) -> str:
    """Compile the host part, and device code for every architecture; return the messages."""
    source = folder / "nets.cu"
    source.write_text(joined(graphs))
    codes = [f"-gencode=arch={a.replace('sm', 'compute')},code={a}" for a in ARCHITECTURES]
    return nvcc(*STRICT, *codes, "-c", str(source), "-o", str(folder / "nets.o"))


def test_no_warnings(tmp_path: Path) -> None:
    graphs = [random_graph(seed) for seed in range(3)]
    graphs += [dense_net(2, 400), lgir.optimize(logictreenet(8), verify=None)[0]]
    assert "warning" not in compile_all(graphs, tmp_path)


def test_kernels_alone_keep_their_names() -> None:
    """The Python side loads kernels by name, compiled by NVRTC if it is installed or by nvcc."""
    source = emit_cuda(dense_net(1, 400))
    assert b".entry gates2" in compile_kernels(source, "sm_90", "ptx")
    assert {"gates2", "sum6"} < set(dict(sections(compile_kernels(source, "sm_100", "cubin"))))
    with pytest.raises(BackendError, match=r"cannot compile for sm_90: .*nonsense"):
        compile_kernels("nonsense", "sm_90", "cubin")


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 200, 25))
def test_no_warnings_on_many_random_graphs(first: int, tmp_path: Path) -> None:
    graphs = [random_graph(seed) for seed in range(first, first + 25)]
    assert "warning" not in compile_all(graphs, tmp_path)


@pytest.mark.parametrize("name", ["dense-6x8000", "logictreenet-32"])
def test_kernels_are_as_recorded(
    name: str, tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    if f"release {GOLDEN_NVCC}," not in nvcc("--version"):
        pytest.skip(f"the figures are those of nvcc {GOLDEN_NVCC}")
    graph, _ = lgir.optimize(build_net(name), verify=None)
    source = tmp_path / "model.cu"
    source.write_text(emit_cuda(graph))
    lines = ["arch   kernel         registers  spilled  LOP3  loads  instructions"]
    for arch in ARCHITECTURES:
        cubin = tmp_path / f"{arch}.cubin"
        options = (*STRICT, "-DLGIR_KERNELS_ONLY", "-Xptxas", "-v", f"-arch={arch}", "-cubin")
        report = nvcc(*options, str(source), "-o", str(cubin))
        for kernel, figures in sorted(figures_of(report, cubin.read_bytes())):
            lines.append(f"{arch:<6} {kernel:<14} " + "  ".join(figures))
    golden(f"cuda-{name}.txt", "\n".join(lines) + "\n")


def figures_of(report: str, cubin: bytes) -> Iterator[tuple[str, list[str]]]:
    """Yield each kernel with its registers and spills, as ptxas says, and its instructions."""
    code = dict(sections(cubin))
    for part in report.split("Compiling entry function '")[1:]:
        kernel = part.partition("'")[0]
        spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill", part))
        (registers,) = re.findall(r"Used (\d+) registers", part)
        opcodes = list(opcodes_of(code[kernel]))
        counts = [sum(op & 0x1FF == code for op in opcodes) for code in (LOP3, LDG)]
        widths = (9, 7, 4, 5, 12)
        figures = (registers, spilled, *counts, len(opcodes))
        yield kernel, [f"{f:>{w}}" for f, w in zip(figures, widths, strict=True)]


LOP3, LDG = 0x012, 0x181
"""Opcodes by the low nine bits of an instruction of sm_70 and later; further bits say the kinds of
its operands.
"""


def opcodes_of(code: bytes) -> Iterator[int]:
    for offset in range(0, len(code), 16):
        yield struct.unpack_from("<Q", code, offset)[0] & 0xFFF


def sections(elf: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the machine code of each kernel in a cubin."""
    (table,) = struct.unpack_from("<Q", elf, 40)
    size, count, names_index = struct.unpack_from("<HHH", elf, 58)
    heads = [struct.unpack_from("<IIQQQQ", elf, table + i * size) for i in range(count)]
    for name_offset, _, _, _, start, length in heads:
        position = heads[names_index][4] + name_offset
        name = elf[position : elf.index(b"\0", position)].decode()
        if name.startswith(".text."):
            yield name.removeprefix(".text."), elf[start : start + length]
