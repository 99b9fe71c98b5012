"""Executables in other processes: pickled, forked, spawned, through joblib and cloudpickle."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lgir
from lgir.backends.llvm import LlvmExecutable
from lgir.backends.llvm import target as target_module
from lgir.backends.llvm.target import Target
from lgir.errors import BackendError
from lgir.zoo import dense_net, logictreenet
from targets import runnable

# Python 3.12 warns of forking while threads run. These tests show that it works for executables.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

METHODS = [method for method in ("fork", "spawn") if method in get_all_start_methods()]
needs_fork = pytest.mark.skipif("fork" not in METHODS, reason="no fork on this system")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one cache of object code for all processes."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=["llvm", "reference"])
def exe(request: pytest.FixtureRequest, folder: Path) -> lgir.Executable:
    options = {"cache_dir": folder} if request.param == "llvm" else {}
    return lgir.compile(dense_net(2, 400), request.param, **options)


@pytest.fixture
def parts() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.random((n, 784)) < 0.5 for n in (600, 1, 0, 513, 64)]


def assert_same(
    results: Iterator[np.ndarray], exe: lgir.Executable, parts: list[np.ndarray]
) -> None:
    for scores, part in zip(results, parts, strict=True):
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(scores, exe(part))


@pytest.mark.parametrize("method", METHODS)
def test_process_pools_map_an_executable(exe, parts, method):
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
        assert_same(pool.map(exe, parts), exe, parts)


@pytest.mark.parametrize("method", METHODS)
def test_process_pools_split_by_threads_as_well(folder, parts, method):
    exe = lgir.compile(dense_net(2, 400), threads=2, cache_dir=folder)
    exe(parts[0])  # Threads have run before the fork.
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
        assert_same(pool.map(exe, parts), exe, parts)


def test_executables_of_convolutions_travel(folder):
    exe = lgir.compile(logictreenet(8), "llvm", cache_dir=folder)
    parts = list(np.random.default_rng(0).integers(0, 256, (2, 70, 3, 32, 32), dtype=np.uint8))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert_same(pool.map(exe, parts), exe, parts)


def describe(exe: LlvmExecutable) -> tuple[Any, Target, int, int]:
    return exe.options, exe.target, exe.threads, exe.compiled_kernels


def test_options_travel_and_code_comes_from_the_cache(folder):
    options = {"features": "-avx512f", "threads": 3, "cache_dir": folder}
    first = lgir.compile(dense_net(2, 400), "llvm", **options)
    plain = lgir.compile(dense_net(2, 400), "llvm", cache_dir=folder, cache=False)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        described = pool.submit(describe, first).result()
        assert described == (first.options, first.target, 3, 0)
        assert described[0].features == "-avx512f"
        described = pool.submit(describe, plain).result()
        assert described == (plain.options, plain.target, plain.threads, plain.compiled_kernels)


def use(exe: lgir.Executable) -> int:
    """Return how often this process has used that object."""
    exe.uses = getattr(exe, "uses", 0) + 1
    return exe.uses


def test_a_worker_compiles_once_for_all_its_tasks(folder):
    exe = lgir.compile(dense_net(2, 400), "llvm", cache_dir=folder)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(use, [exe] * 3)) == [1, 2, 3]


@needs_fork
def test_a_forked_process_does_not_compile(folder, parts, monkeypatch):
    exe = lgir.compile(dense_net(2, 400), "llvm", cache_dir=folder)

    def fail(*_args: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(LlvmExecutable, "__init__", fail)
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        assert_same(pool.map(exe, parts), exe, parts)


@needs_fork
def test_forking_amid_calls_of_other_threads(folder, parts):
    exe = lgir.compile(dense_net(2, 400), "llvm", threads=2, cache_dir=folder)
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            exe(parts[0])

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(3):
            with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
                assert_same(pool.map(exe, parts), exe, parts)
    finally:
        stop.set()
        for caller in callers:
            caller.join()


def test_copies_give_the_same_scores(exe, parts):
    for copied in (copy.copy(exe), copy.deepcopy(exe), pickle.loads(pickle.dumps(exe))):
        assert copied.graph == exe.graph
        assert_same(map(copied, parts), exe, parts)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_restores_the_graph(exe, protocol):
    assert pickle.loads(pickle.dumps(exe.graph, protocol)) == exe.graph


def test_a_file_outlives_its_process(exe, parts, tmp_path):
    path = tmp_path / "exe.pickle"
    path.write_bytes(pickle.dumps(exe))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert_same(pool.map(call_from_file, [path] * len(parts), parts), exe, parts)


def call_from_file(path: Path, part: np.ndarray) -> np.ndarray:
    return pickle.loads(path.read_bytes())(part)


def test_a_machine_without_the_target_says_so(folder, monkeypatch):
    target = next(filter(runnable, ("avx512", "avx2")), None)
    if target is None:
        pytest.skip("this CPU has generic code only")
    exe = lgir.compile(dense_net(1, 400), "llvm", target=target, cache_dir=folder)
    data = pickle.dumps(exe)
    del exe  # A process that has it would not compile.
    features = target_module.llvm.FeatureMap()
    monkeypatch.setattr(target_module.llvm, "get_host_cpu_features", lambda: features)
    with pytest.raises(BackendError, match=f"target '{target}' needs an x86-64 CPU with"):
        pickle.loads(data)


def test_joblib_maps_and_stores_an_executable(exe, parts, tmp_path):
    joblib = pytest.importorskip("joblib")
    results = joblib.Parallel(n_jobs=2)(joblib.delayed(exe)(part) for part in parts)
    assert_same(iter(results), exe, parts)
    joblib.dump(exe, tmp_path / "exe.joblib")
    assert_same(map(joblib.load(tmp_path / "exe.joblib"), parts), exe, parts)


def test_cloudpickle_carries_a_closure_over_an_executable(exe, parts):
    cloudpickle = pytest.importorskip("cloudpickle")
    data = cloudpickle.dumps(lambda part: (os.getpid(), exe(part)))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        results = [pool.submit(call_pickled, data, part).result() for part in parts]
    assert os.getpid() not in {pid for pid, _ in results}
    assert_same((scores for _, scores in results), exe, parts)


def call_pickled(data: bytes, part: np.ndarray) -> Any:
    return pickle.loads(data)(part)
