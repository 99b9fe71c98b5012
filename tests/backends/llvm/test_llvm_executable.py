"""The LLVM backend against the reference: every batch size, target, dtype and layout."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import lgir
from lgir.backends.llvm.block_program import BlockProgram
from lgir.backends.llvm.options import LOWERING_OPTIONS
from lgir.backends.llvm.steps.pack import PackKind
from lgir.backends.llvm.steps.step_kind import CallForm
from lgir.backends.llvm.target import TARGETS
from lgir.backends.lowering.plan import make_plan
from lgir.errors import BackendError, InputError, UnknownNameError
from lgir.ir.graph import Graph
from lgir.zoo import build_net, dense_net, logictreenet
from random_graphs import random_graph, random_inputs
from targets import runnable, skip_unless_runnable

BATCHES = (0, 1, 31, 63, 64, 65, 511, 512, 513, 10_000)


def outputs(exe: lgir.Executable, samples: list[np.ndarray], **options: int) -> list[np.ndarray]:
    result = exe(*samples, **options)
    return list(result) if isinstance(result, tuple) else [result]


def assert_same(graph: Graph, samples: list[np.ndarray], exe: lgir.Executable) -> None:
    expected = outputs(lgir.compile(graph, "reference"), samples)
    for result, want in zip(outputs(exe, samples), expected, strict=True):
        assert result.dtype == want.dtype
        np.testing.assert_array_equal(result, want)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_match_the_reference(seed: int) -> None:
    graph = random_graph(seed)
    exe = lgir.compile(graph, "llvm")
    for n in (0, 1, 65, 513):
        assert_same(graph, random_inputs(graph, n, seed), exe)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_many_random_graphs_match_the_reference(target: str) -> None:
    skip_unless_runnable(target)
    for seed in range(300):
        graph = random_graph(seed)
        assert_same(graph, random_inputs(graph, 513, seed), lgir.compile(graph, target=target))


@pytest.mark.parametrize("target", ["avx512", "avx2", "generic"])
@pytest.mark.parametrize("seed", range(100, 108))
def test_targets_agree(target: str, seed: int) -> None:
    skip_unless_runnable(target)
    graph = random_graph(seed)
    exe = lgir.compile(graph, "llvm", target=target)
    assert_same(graph, random_inputs(graph, 65, seed), exe)


def test_feature_flags_select_code_without_avx512() -> None:
    graph = dense_net(2, 400, seed=1)
    exe = lgir.compile(graph, "llvm", features="-avx512f")
    assert "pternlog" not in exe.asm["llvm"]
    assert "zmm" not in exe.asm["asm"]
    assert_same(graph, [np.random.default_rng(0).random((600, 784)) < 0.5], exe)


@pytest.mark.parametrize("feature", ["avx", "avx2", "fma", "avx512bw", "avx512vl"])
def test_any_feature_can_be_taken_away(feature: str) -> None:
    graph = dense_net(1, 400, seed=1)
    exe = lgir.compile(graph, "llvm", features=f"-{feature}")
    assert_same(graph, [np.random.default_rng(0).random((600, 784)) < 0.5], exe)


@pytest.fixture(scope="module")
def dense() -> tuple[Graph, lgir.Executable, lgir.Executable]:
    graph = dense_net(3, 1000, seed=3)
    return graph, lgir.compile(graph, "llvm"), lgir.compile(graph, "reference")


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32])
def test_every_batch_size_and_dtype(dense, n: int, dtype: type) -> None:
    _, exe, reference = dense
    x = np.random.default_rng(n).random((n, 784)) < 0.4
    np.testing.assert_array_equal(exe(x.astype(dtype)), reference(x))


@pytest.mark.parametrize("n", BATCHES)
def test_every_batch_size_on_a_convolution(n: int) -> None:
    graph, _ = lgir.optimize(logictreenet(8, seed=2), verify=None)
    x = np.random.default_rng(n).integers(0, 256, (min(n, 1500), 3, 32, 32), dtype=np.uint8)
    assert_same(graph, [x], lgir.compile(graph, "llvm"))


def test_strided_samples(dense) -> None:
    _, exe, reference = dense
    x = np.random.default_rng(5).random((1400, 784)) < 0.5
    expected = reference(x)
    np.testing.assert_array_equal(exe(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(exe(x[::2]), expected[::2])
    np.testing.assert_array_equal(exe(x[::-1]), expected[::-1])
    wide = np.zeros((1400, 2000), bool)
    wide[:, 7:791] = x
    np.testing.assert_array_equal(exe(wide[:, 7:791]), expected)


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_threads_split_the_batch(dense, threads: int) -> None:
    _, exe, reference = dense
    x = np.random.default_rng(6).random((2600, 784)) < 0.5
    np.testing.assert_array_equal(exe(x, threads=threads), reference(x))


def test_one_executable_serves_many_threads(dense) -> None:
    _, exe, reference = dense
    batches = [np.random.default_rng(i).random((700, 784)) < 0.5 for i in range(6)]
    results: dict[int, np.ndarray] = {}

    def work(i: int) -> None:
        for _ in range(5):
            results[i] = exe(batches[i])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i, x in enumerate(batches):
        np.testing.assert_array_equal(results[i], reference(x))


def test_threads_may_be_the_first_to_need_a_kernel() -> None:
    graph = dense_net(2, 400, seed=4)
    exe = lgir.compile(graph, cache=False, latency=False)
    x = np.random.default_rng(0).random((600, 784)) < 0.5
    packed, floats = lgir.pack(x), x.astype(np.float32)
    scores = lgir.compile(graph, "reference")(x)
    calls = [
        (lambda: exe(packed), scores),
        (lambda: exe(floats), scores),
        (lambda: exe.predict(packed), scores.argmax(axis=1)),
        (lambda: exe.counts(x), np.rint(scores * 10).astype(np.int32)),
    ] * 2
    with ThreadPoolExecutor(len(calls)) as pool:
        jobs = [(pool.submit(call), want) for call, want in calls]
    for job, want in jobs:
        np.testing.assert_array_equal(job.result(), want)


def test_threads_that_lower_at_once_share_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    program = BlockProgram(make_plan(dense_net(1, 400), LOWERING_OPTIONS), ternary=True)
    both = threading.Barrier(2)
    records = PackKind.records

    def slowly(self: PackKind, *args: Any) -> Any:
        both.wait(10)
        return records(self, *args)

    monkeypatch.setattr(PackKind, "records", slowly)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(program.sequence, CallForm(("f32",))) for _ in range(2)]
    first, second = (job.result() for job in jobs)
    assert all(
        a is b for a, b in zip(first, second, strict=True)
    )  # The program keeps those of one.


def test_values_that_are_not_bits_are_named(dense) -> None:
    _, exe, _ = dense
    x = np.zeros((700, 784), np.uint8)
    x[600, 17] = 3
    with pytest.raises(InputError, match=r"%x takes bits; found 3 at \[600, 17\]"):
        exe(x)
    floats = np.zeros((4, 784), np.float32)
    floats[3, 783] = 0.5
    with pytest.raises(InputError, match=r"found 0\.5 at \[3, 783\]"):
        exe(floats)


def test_nan_is_named() -> None:
    b = lgir.GraphBuilder("floats")
    x = b.input("x", "f32", (5,))
    graph = b.build(b.threshold(x, [0.5]))
    exe = lgir.compile(graph, "llvm")
    samples = np.zeros((3, 5), np.float32)
    samples[1, 2] = np.nan
    with pytest.raises(InputError, match=r"%x holds NaN at \[1, 2\]"):
        exe(samples)


@pytest.mark.parametrize("levels", [[-1, 0, 254, 255, 256], [-0.5, 0.5, 254.5, 1e9, -1e9]])
def test_levels_outside_a_byte(levels: list[float]) -> None:
    b = lgir.GraphBuilder("levels")
    x = b.input("x", "u8", (70,))
    graph = b.build(b.threshold(x, levels))
    samples = np.random.default_rng(0).integers(0, 256, (100, 70), dtype=np.uint8)
    samples[0], samples[1] = 0, 255
    assert_same(graph, [samples], lgir.compile(graph, "llvm"))


def sums(groups: int, bits: int, tau: float = 3.0, beta: float = 0.25) -> Graph:
    b = lgir.GraphBuilder("sums")
    x = b.input("x", "bit", (groups * bits,))
    return b.build(b.group_sum(x, groups, tau=tau, beta=beta))


def samples_of_sums(groups: int, bits: int) -> np.ndarray:
    """Return samples whose groups have about equally many bits, for ties, and extreme samples."""
    rng = np.random.default_rng(bits)
    samples = rng.random((530, groups * bits)) < rng.random((530, 1))
    samples[0], samples[1] = True, False
    return samples


@pytest.mark.parametrize("bits", [1, 16, 17, 255, 256])
@pytest.mark.parametrize("groups", [1, 3, 4, 8, 9, 17])
def test_group_sums_of_any_size(groups: int, bits: int) -> None:
    samples = samples_of_sums(groups, bits)
    exe = lgir.compile(sums(groups, bits))
    reference = lgir.compile(exe.graph, "reference")
    np.testing.assert_array_equal(exe(samples), reference(samples))
    np.testing.assert_array_equal(exe.predict(samples), reference.predict(samples))
    np.testing.assert_array_equal(exe.counts(samples), reference.counts(samples))


def test_a_group_sum_of_more_bits_than_a_short_counts() -> None:
    samples = samples_of_sums(3, 70_000)[:60]
    exe = lgir.compile(sums(3, 70_000), latency=False)
    np.testing.assert_array_equal(exe(samples), lgir.compile(exe.graph, "reference")(samples))
    np.testing.assert_array_equal(exe.counts(samples), samples.reshape(60, 3, -1).sum(axis=2))


@pytest.mark.parametrize("target", ["avx2", "generic"])
def test_counts_and_labels_without_avx512(target: str) -> None:
    skip_unless_runnable(target)
    samples = samples_of_sums(9, 300)
    exe = lgir.compile(sums(9, 300), target=target)
    counts = samples.reshape(530, 9, 300).sum(axis=2)
    np.testing.assert_array_equal(exe.counts(samples), counts)
    np.testing.assert_array_equal(exe.predict(samples), counts.argmax(axis=1))


@pytest.mark.parametrize(("tau", "beta"), [(-2.0, 0.0), (1.0, 1e9), (1e-3, -7.5), (1e-30, 1e9)])
def test_labels_are_of_scores_and_not_of_counts(tau: float, beta: float) -> None:
    samples = samples_of_sums(5, 40)
    exe = lgir.compile(sums(5, 40, tau, beta))
    want = lgir.compile(exe.graph, "reference").predict(samples)
    np.testing.assert_array_equal(exe.predict(samples), want)


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_have_the_labels_of_the_reference(seed: int) -> None:
    graph = random_graph(seed)
    exe, reference = lgir.compile(graph), lgir.compile(graph, "reference")
    for n in (0, 1, 65, 1025):
        samples = random_inputs(graph, n, seed)
        labels = exe.predict(*samples, threads=2)
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels, reference.predict(*samples))


def test_numbers_passed_through_are_refused() -> None:
    b = lgir.GraphBuilder("numbers")
    x = b.input("x", "u8", (4,))
    with pytest.raises(BackendError, match="output %x is an input passed through"):
        lgir.compile(b.build(x), "llvm")


def test_unknown_targets_are_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'avx512'"):
        lgir.compile(dense_net(1, 400), "llvm", target="avx51")


@pytest.mark.parametrize("flag", ["-sse", "-sse2", "-64bit", "+soft-float"])
def test_features_of_every_cpu_cannot_be_taken_away(flag: str) -> None:
    with pytest.raises(BackendError, match=f"{re.escape(flag)}' takes away what every x86-64"):
        lgir.compile(dense_net(1, 20, inputs=20), features=f"-avx512f,{flag}")


@pytest.mark.parametrize("features", ["avx512f", "-avx512f, +gfni", "-", "+gfni;-avx2"])
def test_malformed_features_are_refused_before_they_end_the_process(features: str) -> None:
    with pytest.raises(BackendError, match=r"feature '.*' must be a name after \+"):
        lgir.compile(dense_net(1, 400), "llvm", features=features)


def test_a_number_of_threads_is_checked_when_it_is_given() -> None:
    with pytest.raises(InputError, match="threads=0 must be at least 1"):
        lgir.compile(dense_net(1, 400), "llvm", threads=0)


def test_stages_can_be_read(dense) -> None:
    _, exe, _ = dense
    assert "define void @lgir_run" in exe.asm["llvm"]
    assert "lgir_run:" in exe.asm["asm"]
    assert exe.asm["code"] == ""


def test_planes_out_of_reach_leave_trees_their_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = lgir.optimize(build_net("logictreenet-8"))
    x = np.random.default_rng(0).integers(0, 256, (600, 3, 32, 32), dtype=np.uint8)
    expected = lgir.compile(graph, "reference")(x)
    planes = lgir.compile(graph, "llvm").plan.num_planes
    for most in (planes - 1, planes):
        monkeypatch.setattr("lgir.backends.llvm.block_program.MAX_PLANES", most)
        exe = lgir.compile(graph, "llvm")
        assert bool(exe.asm["code"]) == (exe.target.ternary and planes <= most)
        np.testing.assert_array_equal(exe(x), expected)


def test_only_avx512_has_code_for_trees() -> None:
    graph, _ = lgir.optimize(build_net("logictreenet-8"))
    for target in filter(runnable, ("native", "avx512", "avx2", "generic")):
        exe = lgir.compile(graph, "llvm", target=target)
        code = bytes.fromhex(exe.asm["code"])
        assert code.endswith(b"\xc5\xf8\x77\xc3") if exe.target.ternary else not code


def test_code_does_not_grow_with_the_model() -> None:
    small = lgir.compile(dense_net(2, 400), "llvm").asm["llvm"]
    large = lgir.compile(dense_net(4, 4000), "llvm").asm["llvm"]
    assert len(large) <= len(small) * 1.05


def test_gates_are_timed(dense) -> None:
    _, exe, _ = dense
    assert 0 < exe.time_gates(1024, repeats=1) < 1e-3


def test_logictreenet_matches_the_reference() -> None:
    graph = build_net("logictreenet-32")
    optimized, _ = lgir.optimize(graph, verify=None)
    x = np.random.default_rng(0).integers(0, 256, (130, 3, 32, 32), dtype=np.uint8)
    expected = lgir.compile(graph, "reference")(x)
    for g in (graph, optimized):
        np.testing.assert_array_equal(lgir.compile(g, "llvm")(x), expected)


@pytest.mark.parametrize(("offset", "stride"), [(2**31 - 1, 1), (-(2**31), 1), (0, 2**31 - 1)])
def test_reads_too_far_outside_to_lay_out_are_named(offset: int, stride: int) -> None:
    body = lgir.Body.build([[0, 0, offset, 0]], np.zeros((0, 1)), [], [2], rank=2)
    b = lgir.GraphBuilder("far")
    x = b.input("x", "bit", (1, 3, 3))
    graph = b.build(b.logic([x], body, (2, 2), (stride, 1)))
    with pytest.raises(BackendError, match=r"%x takes [\d,]+ planes with all cells"):
        lgir.compile(graph)
    if offset:
        folded, _ = lgir.optimize(graph, "fold,dce")
        assert not lgir.compile(folded)(np.ones((1, 1, 3, 3), bool)).any()
