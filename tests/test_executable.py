"""What an executable takes, what it refuses and what it returns, on the reference backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import lgir
from lgir.errors import BackendError, InputError
from lgir.ir.body import Body
from random_graphs import random_graph, random_inputs


def bit_net() -> lgir.Executable:
    b = lgir.GraphBuilder("bits")
    x = b.input("x", "bit", (2, 3))
    hidden = b.dense(b.flatten(x), a=range(6), b=[1, 2, 3, 4, 5, 0], ops=[6, 7, 1, 14, 9, 8])
    return lgir.compile(b.build(b.group_sum(hidden, 3, tau=2.0)), backend="reference")


def level_net(dtype: str) -> lgir.Executable:
    b = lgir.GraphBuilder("levels")
    bits = b.threshold(b.input("x", dtype, (4,)), [0, 100.5])
    return lgir.compile(b.build(b.group_sum(bits, 2)), backend="reference")


BITS = np.random.default_rng(0).random((70, 2, 3)) < 0.5


@pytest.mark.parametrize(
    "dtype", ["bool", "u1", "i1", "i4", "u8", "i8", "f2", "f4", "f8", ">f4", ">i4", "g"]
)
def test_bits_may_come_as_any_real_dtype(dtype: str) -> None:
    exe = bit_net()
    scores = exe(BITS.astype(dtype))
    assert scores.dtype == np.float32
    assert np.array_equal(scores, exe(BITS))


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8"])
def test_u8_may_come_as_any_integer(dtype: str) -> None:
    x = np.array([[0, 1, 100, 101]], dtype)
    assert level_net("u8")(x).tolist() == [[1, 3]]


@pytest.mark.parametrize("dtype", ["bool", "u1", "i8", "f2", "f4", "f8"])
def test_f32_may_come_as_any_real_dtype(dtype: str) -> None:
    x = np.array([[0, 1, 0, 1]]).astype(dtype)
    assert level_net("f32")(x).tolist() == [[1, 1]]


def test_infinities_are_ordered() -> None:
    assert level_net("f32")(np.float32([[np.inf, -np.inf, 1e-45, -0.0]])).tolist() == [[2, 1]]
    assert level_net("f32")(np.array([[1e300, -1e300, 0, 0]])).tolist() == [[2, 0]]


VIEWS = {
    "every-other": lambda x: np.repeat(x, 2, axis=0)[::2],
    "reversed": lambda x: x[::-1].copy()[::-1],
    "transposed": lambda x: x.transpose(2, 1, 0).copy().transpose(2, 1, 0),
    "fortran": np.asfortranarray,
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "inner": lambda x: np.pad(x, ((0, 0), (1, 1), (0, 1)))[:, 1:-1, :-1],
    "list": lambda x: x.tolist(),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}


@pytest.mark.parametrize("view", VIEWS)
def test_strided_views(view: str) -> None:
    exe, x = bit_net(), VIEWS[view](BITS)
    assert np.array_equal(exe(x), exe(np.ascontiguousarray(x)))


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65])
@pytest.mark.parametrize("seed", range(12))
def test_a_batch_of_any_size_is_its_samples_one_by_one(seed: int, n: int) -> None:
    graph = random_graph(seed)
    exe = lgir.compile(graph, backend="reference")
    samples = random_inputs(graph, 65, seed)
    whole, part = as_tuple(exe(*samples)), as_tuple(exe(*[x[:n] for x in samples]))
    for all_, partial, name in zip(whole, part, graph.outputs, strict=True):
        value = graph.values[name]
        assert partial.shape == (n, *value.shape)
        assert partial.dtype == (bool if value.dtype == "bit" else np.float32)
        assert np.array_equal(partial, all_[:n])


def as_tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def test_numbers_may_be_reshaped_before_they_are_thresholded() -> None:
    b = lgir.GraphBuilder("g")
    image = b.input("image", "u8", (2, 3, 5))
    flat = b.flatten(image)
    bits = b.threshold(flat, np.arange(30)[:, None], name="bits")
    exe = lgir.compile(b.build(b.group_sum(bits, 30)), backend="reference")
    x = np.random.default_rng(0).integers(0, 60, size=(65, 2, 3, 5), dtype=np.uint8)
    assert np.array_equal(exe(x), x.reshape(65, 30) > np.arange(30))


def test_scores_may_be_reshaped() -> None:
    b = lgir.GraphBuilder("g")
    scores = b.group_sum(b.input("x", "bit", (6,)), 6, tau=2.0)
    exe = lgir.compile(b.build(b.reshape(scores, (2, 3))), backend="reference")
    assert np.array_equal(exe(BITS.reshape(70, 6)), BITS / np.float32(2))


def test_inputs_may_be_outputs() -> None:
    b = lgir.GraphBuilder("g")
    x, y = b.input("x", "bit", (2, 3)), b.input("y", "f32", (1,))
    exe = lgir.compile(b.build(x, y), backend="reference")
    floats = np.arange(70, dtype=np.float32)[:, None]
    bits, numbers = exe(BITS, floats)
    assert np.array_equal(bits, BITS)
    assert np.array_equal(numbers, floats)


def test_predict_is_the_first_of_the_best() -> None:
    labels = level_net("u8").predict(np.array([[0, 0, 9, 9], [9, 9, 9, 0], [9, 0, 9, 0]], np.uint8))
    assert labels.dtype == np.int64
    assert labels.tolist() == [1, 0, 0]
    assert level_net("u8").predict(np.zeros((0, 4), np.uint8)).shape == (0,)


@pytest.mark.parametrize(("tau", "beta"), [(1.0, 0.0), (2.0, -0.75), (-0.1, 3.0)])
def test_counts_are_found_again_in_scores(tau: float, beta: float) -> None:
    b = lgir.GraphBuilder("sums")
    graph = b.build(b.group_sum(b.input("x", "bit", (30,)), 3, tau=tau, beta=beta))
    x = np.random.default_rng(1).random((50, 30)) < 0.5
    counts = lgir.compile(graph, backend="reference").counts(x)
    assert counts.dtype == np.int32
    np.testing.assert_array_equal(counts, x.reshape(50, 3, 10).sum(axis=2))


def test_counts_that_scores_do_not_tell_apart_are_refused() -> None:
    b = lgir.GraphBuilder("sums")
    graph = b.build(b.group_sum(b.input("x", "bit", (4,)), 2, tau=1.0, beta=1e9))
    with pytest.raises(BackendError, match="different counts have the same score"):
        lgir.compile(graph, backend="reference").counts(np.zeros((1, 4), bool))


def test_bits_have_no_counts() -> None:
    b = lgir.GraphBuilder("bits")
    exe = lgir.compile(b.build(b.threshold(b.input("x", "u8", (4,)), [0])), backend="reference")
    with pytest.raises(BackendError, match="is no GroupSum's, so it has no counts"):
        exe.counts(np.zeros((1, 4), np.uint8))


# Torch


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "bfloat16", "float64"])
def test_torch_tensors_in_and_out(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    exe = bit_net()
    x = torch.from_numpy(BITS).to(getattr(torch, dtype))
    scores = exe(x)
    assert isinstance(scores, torch.Tensor)
    assert scores.dtype == torch.float32
    assert np.array_equal(scores.numpy(), exe(BITS))
    assert torch.equal(exe.predict(x), torch.from_numpy(exe.predict(BITS)))


def test_torch_views_and_gradients_are_taken() -> None:
    torch = pytest.importorskip("torch")
    exe = bit_net()
    x = torch.from_numpy(BITS).float().repeat(2, 1, 1)[::2].requires_grad_()
    assert np.array_equal(exe(x).numpy(), exe(x.detach().numpy()))


def test_torch_tensors_that_are_no_arrays_are_refused() -> None:
    torch = pytest.importorskip("torch")
    for x in (torch.zeros(1, 2, 3).to_sparse(), torch.zeros(1, 2, 3, device="meta")):
        with pytest.raises(InputError, match=r"input %x: .*give a dense tensor of real numbers"):
            bit_net()(x)


# Refused


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], r"the graph takes 1 arrays \(%x\), 0 given"),
        ([BITS, BITS], r"the graph takes 1 arrays \(%x\), 2 given"),
        ([BITS[0]], r"input %x expects \(N, 2, 3\), got \(2, 3\) \(add a batch axis\)"),
        ([BITS[:, :, :2]], r"input %x expects \(N, 2, 3\), got \(70, 2, 2\)"),
        ([BITS.reshape(70, 6)], r"input %x expects \(N, 2, 3\), got \(70, 6\)"),
        ([np.bool_(True)], r"input %x expects \(N, 2, 3\), got \(\)"),
        ([BITS * 2], r"input %x takes bits; found 2 at \[\d+, \d, \d\] \(threshold the data"),
        ([BITS.astype(np.uint8) * 255], "input %x takes bits; found 255 at"),
        ([BITS - 0.5], r"input %x takes bits; found -?0\.5 at \[0, 0, 0\]"),
        ([np.where(BITS, np.nan, 0)], "input %x takes bits; found nan at"),
        ([np.where(BITS, np.float32(np.nan), 0)], "input %x takes bits; found nan at"),
        ([np.where(BITS, -1, 0)], "input %x takes bits; found -1 at"),
        ([BITS + 0j], "input %x has dtype complex128; give real numbers"),
        ([BITS.astype(str)], "input %x has dtype <U5; give real numbers"),
        ([BITS.astype(object)], "input %x has dtype object; give real numbers"),
        ([[[1, 2], [3]]], "input %x: .*inhomogeneous"),
        ([None], r"input %x expects \(N, 2, 3\), got \(\)"),
    ],
)
def test_samples_of_a_bit_input_are_refused(samples: Sequence[Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        bit_net()(*samples)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "sample", "message"),
    [
        ("u8", [[0, 256, 0, 0]], r"input %x takes 0\.\.255, got 0\.\.256"),
        ("u8", [[0, -1, 0, 0]], r"input %x takes 0\.\.255, got -1\.\.0"),
        ("u8", [[0.0, 1, 2, 3]], r"takes integers 0\.\.255 \(dtype uint8\), got float64"),
        ("u8", [[True] * 4], r"takes integers 0\.\.255 \(dtype uint8\), got bool"),
        ("f32", [[0, 0, np.nan, 0]], r"input %x holds NaN at \[0, 2\]; clean the data first"),
    ],
)
def test_numbers_are_refused(dtype: str, sample: list[list[float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        level_net(dtype)(np.array(sample))


def test_batches_of_different_sizes_are_refused() -> None:
    b = lgir.GraphBuilder("g")
    x, y = b.input("x", "bit", (1,)), b.input("y", "bit", (1,))
    body = Body.build([[0, 0], [1, 0]], [[2, 3]], [0b0110], [4])
    exe = lgir.compile(b.build(b.logic([x, y], body)), backend="reference")
    assert exe(np.eye(2, dtype=bool)[:, :1], np.ones((2, 1))).tolist() == [[False], [True]]
    with pytest.raises(InputError, match=r"input arrays differ in batch size: \[2, 3\]"):
        exe(np.zeros((2, 1)), np.zeros((3, 1)))
