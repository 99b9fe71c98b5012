"""Small batches, evaluated one sample after another in this process, against the reference."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lgir
from lgir.backends.llvm.object_cache import ObjectCache
from lgir.backends.llvm.records import link_records
from lgir.backends.llvm.single_sample.crossover import MAX_SAMPLES
from lgir.backends.llvm.single_sample.program import SingleSampleProgram
from lgir.backends.llvm.single_sample.runner import SingleSampleRunner
from lgir.backends.llvm.target import TARGETS, resolve_target
from lgir.errors import InputError
from lgir.ir.graph import Graph
from lgir.zoo import build_net, dense_net, logictreenet
from paths import ROOT
from random_graphs import random_body, random_graph, random_inputs
from targets import skip_unless_runnable


def assert_same(
    graph: Graph, samples: list[np.ndarray], cache: Path, target: str = "native"
) -> None:
    """The runner has the reference's outputs, whether or not a block is estimated to be faster."""
    runner = SingleSampleRunner(graph, resolve_target(target), ObjectCache(cache))
    outputs = lgir.compile(graph, "reference")(*samples)
    expected = outputs if isinstance(outputs, tuple) else (outputs,)
    packed = [lgir.pack(a).words if a.dtype == np.bool_ else a for a in samples]
    for arrays, n in ((samples, len(samples[0])), (samples, 1), (packed, 2)):
        results = runner([a[:n] for a in arrays], n)
        assert results is not None
        for result, output in zip(results, expected, strict=True):
            assert result.dtype == output.dtype
            np.testing.assert_array_equal(result, output[:n])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of object code that the tests of this module share."""
    return tmp_path_factory.mktemp("kernels")


@pytest.mark.parametrize("seed", range(80))
def test_random_graphs_match_the_reference(seed: int, cache: Path) -> None:
    graph = random_graph(seed)
    assert_same(graph, random_inputs(graph, 5, seed), cache)


@pytest.mark.parametrize("target", [t for t in TARGETS if t != "native"])
@pytest.mark.parametrize("seed", range(100, 112))
def test_targets_agree(target: str, seed: int, cache: Path) -> None:
    skip_unless_runnable(target)
    graph = random_graph(seed)
    assert_same(graph, random_inputs(graph, 3, seed), cache, target)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_many_random_graphs_match_the_reference(target: str, cache: Path) -> None:
    skip_unless_runnable(target)
    for seed in range(1000, 1150):
        graph = random_graph(seed)
        for g in (graph, lgir.optimize(graph, verify=None)[0]):
            assert_same(g, random_inputs(g, 3, seed), cache, target)


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("target", ["native", "avx2"])
def test_logictreenet_matches_the_reference(target: str, optimized: bool, cache: Path) -> None:
    skip_unless_runnable(target)
    graph = logictreenet(8, seed=2)
    if optimized:
        graph, _ = lgir.optimize(graph, verify=None)
    x = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    assert_same(graph, [x], cache, target)


@pytest.mark.parametrize("net", ["dense-6x8000", "dense-3x20000-op16", "logictreenet-32"])
def test_known_networks_match_the_reference(net: str, cache: Path) -> None:
    graph, _ = lgir.optimize(build_net(net), verify=None)
    assert_same(graph, random_inputs(graph, 3), cache)


@pytest.mark.parametrize(
    ("window", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (2, 1, 0), (3, 3, 0)]
)
@pytest.mark.parametrize("shape", [(2, 9, 40), (1, 21, 5), (3, 6, 6)])
def test_pooled_convolutions_of_any_shape(
    shape: tuple[int, ...], window: int, stride: int, padding: int, cache: Path
) -> None:
    rng = np.random.default_rng(window + stride)
    b = lgir.GraphBuilder("pooled")
    x = b.input("x", "u8", shape)
    bits = b.threshold(x, [60, 120, 200])
    body = random_body([bits.shape[0]], 2, rng, gates=30, k=2, outputs=5, depth_bias=0.7)
    y = b.or_pool(b.logic([bits], body, shape[1:], (1, 1)), (window,) * 2, (stride,) * 2,
                  (padding,) * 2)  # fmt: skip
    body = random_body([5], 2, rng, gates=12, k=3, outputs=4)
    y = b.logic([y], body, y.shape[1:], (1, 1))
    graph = b.build(b.group_sum(b.flatten(y), y.size, 1.0), y)
    samples = random_inputs(graph, 4)
    for g in (graph, lgir.optimize(graph, verify=None)[0]):
        assert_same(g, samples, cache)


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 8])
def test_strides(stride: int, cache: Path) -> None:
    rng = np.random.default_rng(stride)
    b = lgir.GraphBuilder("strides")
    x = b.input("x", "bit", (3, 11, 37))
    body = random_body([3], 2, rng, gates=20, k=2, outputs=6)
    y = b.logic([x], body, (-(-11 // stride), -(-37 // stride)), (stride, stride))
    graph = b.build(y)
    assert_same(graph, random_inputs(graph, 4), cache)


def test_trees_deeper_and_shallower_than_a_template(cache: Path) -> None:
    rng = np.random.default_rng(7)
    for depth in range(1, 8):
        b = lgir.GraphBuilder("deep")
        x = b.input("x", "bit", (2, 5, 5))
        body = random_body([2], 2, rng, gates=6 * depth, k=2, outputs=3, depth_bias=1.0)
        flat = b.flatten(b.logic([x], body, (5, 5), (1, 1)))
        body = random_body([flat.size], 0, rng, gates=9 * depth, k=2, outputs=8, depth_bias=1.0)
        graph = b.build(b.logic([flat], body))
        assert_same(graph, random_inputs(graph, 8), cache)


def test_levels_below_and_above_all_bytes(cache: Path) -> None:
    b = lgir.GraphBuilder("levels")
    x = b.input("x", "u8", (70,))
    graph = b.build(b.threshold(x, [-1.5, -0.5, 0, 0.5, 254, 254.5, 255, 300]))
    samples = np.random.default_rng(0).integers(0, 256, (5, 70), dtype=np.uint8)
    samples[0], samples[1] = 0, 255
    assert_same(graph, [samples], cache)


@pytest.mark.parametrize("bits", [1, 17, 64, 100, 1000])
def test_sums_of_any_size(bits: int, cache: Path) -> None:
    b = lgir.GraphBuilder("sums")
    x = b.input("x", "bit", (7 * bits,))
    graph = b.build(b.group_sum(x, 7, tau=3.0, beta=0.25))
    samples = np.random.default_rng(bits).random((5, 7 * bits)) < 0.7
    samples[0], samples[1] = True, False
    assert_same(graph, [samples], cache)


@pytest.fixture(scope="module")
def dense() -> tuple[lgir.Executable, lgir.Executable]:
    graph = dense_net(3, 4000, seed=3)
    return lgir.compile(graph, "llvm", latency=True), lgir.compile(graph, "reference")


def test_the_batch_size_chooses(dense) -> None:
    exe, reference = dense
    assert 1 <= exe.crossover <= MAX_SAMPLES
    for n in (0, 1, exe.crossover, exe.crossover + 1, MAX_SAMPLES + 1):
        x = np.random.default_rng(n).random((n, 784)) < 0.5
        np.testing.assert_array_equal(exe(x), reference(x))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float32, np.float64])
def test_every_dtype_and_layout(dense, dtype: type) -> None:
    exe, reference = dense
    x = np.random.default_rng(1).random((5, 784)) < 0.4
    expected = reference(x)
    np.testing.assert_array_equal(exe(lgir.pack(x)[:3]), expected[:3])
    x = x.astype(dtype)
    np.testing.assert_array_equal(exe(np.asfortranarray(x)[:2]), expected[:2])
    np.testing.assert_array_equal(exe(x[::-4]), expected[::-4])
    x.flags.writeable = False
    np.testing.assert_array_equal(exe(x[:1]), expected[:1])


@pytest.mark.parametrize("latency", [None, True, False])
def test_code_is_compiled_with_the_first_small_batch_or_at_once_or_never(
    latency: bool | None, tmp_path: Path
) -> None:
    def num_kernels() -> int:
        return sum(path.is_file() for path in tmp_path.rglob("*"))

    graph = dense_net(1, 400, seed=1)
    x = np.random.default_rng(0).random((MAX_SAMPLES + 1, 784)) < 0.5
    lgir.compile(graph, latency=False, cache_dir=tmp_path)
    block_kernels = num_kernels()
    exe = lgir.compile(graph, latency=latency, cache_dir=tmp_path)
    assert (num_kernels() > block_kernels) == (latency is True)
    exe(x)
    assert (num_kernels() > block_kernels) == (latency is True)
    np.testing.assert_array_equal(exe(x[:1]), exe(x)[:1])
    assert (num_kernels() > block_kernels) == (latency is not False)
    assert (exe.crossover > 0) == (latency is not False)


def test_a_value_that_is_not_a_bit_is_an_error_that_names_it(dense) -> None:
    exe, _ = dense
    x = np.zeros((2, 784), np.uint8)
    x[1, 783] = 3
    with pytest.raises(InputError, match=r"%x takes bits; found 3 at \[1, 783\]"):
        exe(x)
    with pytest.raises(InputError, match=r"found 0\.5 at \[0, 0\]"):
        exe(np.full((1, 784), 0.5, np.float32))
    assert exe(x[:1]).shape == (1, 10)  # The next call is not affected.


def test_nan_is_an_error_that_names_its_place() -> None:
    b = lgir.GraphBuilder("floats")
    x = b.input("x", "f32", (5,))
    graph = b.build(b.threshold(x, [0.5]))
    exe = lgir.compile(graph, "llvm", latency=True)
    values = np.array([[0.5, np.inf, -np.inf, 0.6, -0.0]], np.float32)
    np.testing.assert_array_equal(exe(values), lgir.compile(graph, "reference")(values))
    values[0, 4] = np.nan
    with pytest.raises(InputError, match="NaN at"):
        exe(values)


def test_one_executable_serves_many_threads(dense) -> None:
    exe, reference = dense
    batches = [np.random.default_rng(i).random((1 + i % 3, 784)) < 0.5 for i in range(6)]
    failures: list[int] = []

    def work(i: int) -> None:
        expected = reference(batches[i])
        for _ in range(50):
            if not np.array_equal(exe(batches[i]), expected):
                failures.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_threads_that_link_at_once_share_what_they_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    exe = lgir.compile(dense_net(2, 400, seed=1), latency=True)
    barrier = threading.Barrier(2)

    def link_together(*args: Any) -> Any:
        barrier.wait(10)
        return link_records(*args)

    monkeypatch.setattr("lgir.backends.llvm.single_sample.runner.link_records", link_together)
    x = np.random.default_rng(0).random((1, 784)) < 0.5
    workers = [threading.Thread(target=exe, args=(x,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    (records,) = exe._single_samples._linked.values()
    (idle,) = exe._single_samples._idle.values()
    assert {buffers.addresses[0] for buffers in idle} == {records.ctypes.data}


def test_results_are_the_callers(dense) -> None:
    exe, reference = dense
    x = np.random.default_rng(8).random((2, 1, 784)) < 0.5
    first = exe(x[0])
    copy = first.copy()
    exe(x[1])
    np.testing.assert_array_equal(first, copy)
    first[:] = 0
    np.testing.assert_array_equal(exe(x[0]), reference(x[0]))


def test_a_pickle_keeps_the_option() -> None:
    exe = lgir.compile(dense_net(1, 400, seed=1), latency=False)
    assert pickle.loads(pickle.dumps(exe)).options.latency is False


def test_the_benchmark_compares_and_times(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "latency.py"
    figures = tmp_path / "figures.json"
    args = ["--net", "dense-2x400", "--no-torch", "--repeats", "3", "--json", str(figures)]
    subprocess.run([sys.executable, str(script), *args], check=True, capture_output=True)
    (row,) = json.loads(figures.read_text())["rows"]
    assert row["alone"] > 0
    assert row["block"] > 0
    assert row["crossover"] >= 1


def test_kernels_do_not_depend_on_the_network() -> None:
    nets = logictreenet(8), logictreenet(24, seed=5), dense_net(2, 400), dense_net(3, 9000)
    texts: dict[str, str] = {}
    for graph in nets:
        for name, text in SingleSampleProgram(graph, resolve_target("native")).modules.items():
            assert texts.setdefault(name, text) == text
    assert len(texts) <= 16


def test_kernels_come_from_the_cache(tmp_path: Path) -> None:
    first = lgir.compile(dense_net(2, 400, seed=1), latency=True, cache_dir=tmp_path)
    entries = sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    again = lgir.compile(dense_net(2, 400, seed=2), latency=True, cache_dir=tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == entries
    x = np.random.default_rng(0).random((1, 784)) < 0.5
    np.testing.assert_array_equal(again(x), lgir.compile(again.graph, "reference")(x))
    assert first.crossover == again.crossover
