"""The Python side of the CUDA backend, here with a stand-in for the device, and on a GPU."""

from __future__ import annotations

import gc
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lgir
from cuda_host.device import HostDevice, host_code
from lgir.backends.cuda import compile_cuda, executable, export_cuda
from lgir.backends.cuda.device import CudaDevice
from lgir.backends.cuda.executable import CudaExecutable
from lgir.backends.cuda.toolchain import check_arch, compile_kernels
from lgir.errors import BackendError, InputError
from lgir.frontend.digits import demo_checkpoint
from lgir.ir.graph import Graph
from lgir.zoo import build_net, dense_net, logictreenet
from paths import ROOT
from random_graphs import random_graph, random_inputs

EXAMPLE = ROOT / "examples" / "cuda" / "predict.cu"
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not here")


def has_gpu() -> bool:
    try:
        CudaDevice()
    except BackendError:
        return False
    return True


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    def compiled(source: str, arch: str, stage: str) -> bytes:
        check_arch(arch)
        return host_code(source) if stage == "cubin" else b"// ptx\0"

    monkeypatch.setattr(executable, "compile_kernels", compiled)
    return HostDevice()


def compile_on(device: Any, graph: Graph, workspace: int = 1 << 20, **options: Any) -> Any:
    return CudaExecutable(graph, device, options.get("arch"), workspace)


def assert_same(graph: Graph, exe: lgir.Executable, samples: list[np.ndarray]) -> None:
    expected = lgir.compile(graph, "reference")(*samples)
    results = exe(*samples)
    many = isinstance(expected, tuple)
    for result, reference in zip(
        results if many else [results], expected if many else [expected], strict=True
    ):
        assert result.dtype == reference.dtype
        np.testing.assert_array_equal(result, reference)


@needs_compiler
@pytest.mark.parametrize("seed", [0, 4, 9])
def test_launches_are_those_of_the_source(device: HostDevice, seed: int) -> None:
    graph = random_graph(seed)
    exe = compile_on(device, graph)
    for n in (0, 1, 65, 513):
        assert_same(graph, exe, random_inputs(graph, n, seed))
    del exe
    gc.collect()
    assert not device.memory


@needs_compiler
def test_batches_are_split_by_the_workspace(device: HostDevice) -> None:
    graph, _ = lgir.optimize(logictreenet(8), verify=None)
    exe = compile_on(device, graph, workspace=0)
    x = np.random.default_rng(0).integers(0, 256, (1100, 3, 32, 32), dtype=np.uint8)
    assert_same(graph, exe, [x[:40]])
    launches = device.launches
    assert_same(graph, exe, [x])
    assert device.launches == 3 * launches


@needs_compiler
def test_one_executable_serves_many_threads(device: HostDevice) -> None:
    graph = dense_net(1, 400)
    exe, reference = compile_on(device, graph), lgir.compile(graph, "reference")
    batches = [np.random.default_rng(i).random((70, 784)) < 0.5 for i in range(4)]
    scores: dict[int, np.ndarray] = {}

    def work(i: int) -> None:
        scores[i] = exe(batches[i])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i, x in enumerate(batches):
        np.testing.assert_array_equal(scores[i], reference(x))


@needs_compiler
def test_it_pickles_with_its_options(device: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executable, "CudaDevice", HostDevice)
    graph = dense_net(1, 20, inputs=8, classes=2)
    for options in ({}, {"arch": "sm_90"}):
        exe = compile_on(device, graph, 1 << 16, **options)
        again = pickle.loads(pickle.dumps(exe))
        assert (again.source, list(again.asm)) == (exe.source, list(exe.asm))
        assert_same(graph, again, random_inputs(graph, 70, 0))


@needs_compiler
def test_bad_values_are_named(device: HostDevice) -> None:
    exe = compile_on(device, dense_net(1, 400))
    x = np.zeros((3, 784), np.uint8)
    x[2, 5] = 2
    with pytest.raises(InputError, match=r"%x takes bits; found 2 at \[2, 5\]"):
        exe(x)


class FakeArray:
    """An array "on the GPU": numpy memory behind the CUDA array interface."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.array.__array_interface__, "version": 3}

    def argmax(self, axis: int) -> FakeArray:
        return FakeArray(self.array.argmax(axis))


FakeArray.__module__ = "cupy"


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = SimpleNamespace(
        __name__="cupy",
        bool_=np.bool_,
        float32=np.float32,
        empty=lambda shape, dtype: FakeArray(np.zeros(shape, dtype)),
        cuda=SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=77)),
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@needs_compiler
def test_arrays_on_the_gpu_are_not_copied(device: HostDevice, cupy: Any) -> None:
    graph = dense_net(2, 400)
    exe = compile_on(device, graph)
    x = np.random.default_rng(3).random((100, 784)) < 0.5
    scores = exe(FakeArray(x))
    assert isinstance(scores, FakeArray)
    np.testing.assert_array_equal(scores.array, lgir.compile(graph, "reference")(x))
    labels = exe.predict(FakeArray(x.view(np.uint8)))
    np.testing.assert_array_equal(labels.array, scores.array.argmax(-1))
    assert device.streams == {77}
    assert len(device.memory) == 2  # tables and one workspace


@needs_compiler
def test_arrays_on_the_gpu_are_checked(device: HostDevice, cupy: Any) -> None:
    exe = compile_on(device, dense_net(1, 400))
    with pytest.raises(InputError, match=r"expects \(N, 784\), got \(4, 783\)"):
        exe(FakeArray(np.zeros((4, 783), bool)))
    with pytest.raises(InputError, match="takes bool or uint8, got <f4; convert it"):
        exe(FakeArray(np.zeros((4, 784), np.float32)))
    with pytest.raises(InputError, match="must be contiguous"):
        exe(FakeArray(np.zeros((784, 4), bool).T))


@needs_compiler
def test_stages_can_be_read(device: HostDevice) -> None:
    exe = compile_on(device, dense_net(1, 400))
    assert list(exe.asm) == ["cuda", "ptx"]
    assert exe.asm["ptx"] == "// ptx"
    exe = compile_on(device, dense_net(1, 400), arch="sm_80")
    assert bytes.fromhex(exe.asm["cubin"]) == exe.cubin


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_without_a_gpu_the_error_says_what_is_missing() -> None:
    with pytest.raises(BackendError, match=r"backend 'cuda' .*; the source needs neither"):
        lgir.compile(dense_net(1, 400), "cuda")


@pytest.mark.parametrize("arch", ["sm_75", "90", "compute_90", "sm_"])
def test_unknown_architectures_are_refused(arch: str) -> None:
    with pytest.raises(BackendError, match="must be sm_80 or newer"):
        compile_cuda(dense_net(1, 400), arch=arch)


# -- on a GPU ------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="no GPU")
class TestOnGpu:
    @pytest.mark.parametrize("seed", range(40))
    def test_random_graphs_match_the_reference(self, seed: int) -> None:
        graph = random_graph(seed)
        exe = compile_cuda(graph)
        for n in (0, 1, 65, 513, 5000):
            assert_same(graph, exe, random_inputs(graph, n, seed))

    @pytest.mark.parametrize("name", ["dense-6x8000", "logictreenet-32"])
    def test_networks_match_the_reference(self, name: str) -> None:
        graph, _ = lgir.optimize(build_net(name), verify=None)
        assert_same(graph, compile_cuda(graph), random_inputs(graph, 2000))

    def test_torch_tensors_stay_on_the_gpu(self) -> None:
        torch = pytest.importorskip("torch")
        graph = dense_net(3, 1000)
        x = np.random.default_rng(0).random((3000, 784)) < 0.5
        scores = compile_cuda(graph)(torch.from_numpy(x).cuda())
        assert scores.is_cuda
        np.testing.assert_array_equal(scores.cpu().numpy(), lgir.compile(graph, "reference")(x))

    @pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
    def test_the_sanitizer_finds_nothing(self, tool: str, tmp_path: Path) -> None:
        if shutil.which("compute-sanitizer") is None or shutil.which("nvcc") is None:
            pytest.skip("compute-sanitizer or nvcc is not here")
        graph, _ = lgir.optimize(lgir.lift(demo_checkpoint()), verify=None)
        export = export_cuda(graph, prefix="model")
        export.write(tmp_path / "model.cu", tmp_path / "model.h")
        program = str(tmp_path / "predict")
        sources = [str(EXAMPLE), str(tmp_path / "model.cu")]
        nvcc = ["nvcc", "-O3", "-arch=native", "-lineinfo", "-I", str(tmp_path)]
        subprocess.run([*nvcc, *sources, "-o", program], check=True)
        check = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "1", program]
        subprocess.run(check, input=bytes(64 * 1000), check=True)

    def test_the_stages_are_those_of_a_compiler(self) -> None:
        exe = compile_cuda(dense_net(1, 400), arch=None)
        assert ".entry gates2" in exe.asm["ptx"]
        assert compile_kernels(exe.source, exe.arch, "cubin")[:4] == b"\x7fELF"
