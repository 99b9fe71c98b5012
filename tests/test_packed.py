"""Packed samples: the format, and that every backend reads them as it reads bools."""

from __future__ import annotations

import numpy as np
import pytest

import lgir
from lgir.errors import InputError
from lgir.zoo import dense_net
from random_graphs import random_graph, random_inputs


@pytest.mark.parametrize("shape", [(1,), (63,), (64,), (65,), (3, 5, 7), (1, 28, 28)])
def test_packing_can_be_undone(shape: tuple[int, ...]) -> None:
    bits = np.random.default_rng(0).random((9, *shape)) < 0.5
    packed = lgir.pack(bits)
    assert packed.words.dtype == np.uint64
    assert packed.words.shape == (9, -(-bits[0].size // 64))
    assert len(packed) == 9
    np.testing.assert_array_equal(packed.unpack(), bits)
    np.testing.assert_array_equal(packed[2:5].unpack(), bits[2:5])
    assert np.shares_memory(packed[2:5].words, packed.words)


def test_bit_f_is_bit_f_mod_64_of_word_f_div_64() -> None:
    bits = np.zeros((2, 2, 50), bool)
    bits[0, 0, 3] = bits[1, 1, 49] = True
    assert lgir.pack(bits).words.tolist() == [[1 << 3, 0], [0, 1 << 35]]


@pytest.mark.parametrize("dtype", ["u1", "i8", "f4"])
def test_zeros_and_ones_of_any_dtype_are_packed(dtype: str) -> None:
    bits = np.random.default_rng(1).random((4, 70)) < 0.5
    np.testing.assert_array_equal(lgir.pack(bits.astype(dtype)).words, lgir.pack(bits).words)


def test_no_samples_are_packed() -> None:
    packed = lgir.pack(np.zeros((0, 2, 50), bool))
    assert packed.words.shape == (0, 2)
    assert packed.unpack().shape == (0, 2, 50)


def test_values_that_are_not_bits_are_refused() -> None:
    with pytest.raises(InputError, match="packed samples are bits, 0 or 1"):
        lgir.pack(np.array([[0.0, 0.5]]))
    with pytest.raises(InputError, match=r"give samples \(N, ...\)"):
        lgir.pack(True)


@pytest.mark.parametrize(
    "words", [np.zeros((3, 1), np.uint64), np.zeros(2, np.uint64), np.zeros((3, 2), np.int64)]
)
def test_words_that_do_not_fit_the_shape_are_refused(words: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"packed samples of shape \(100,\) are uint64 \(N, 2\)"):
        lgir.Packed(words, (100,))


@pytest.mark.parametrize("backend", ["reference", "llvm"])
@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_take_packed_samples(backend: str, seed: int) -> None:
    graph = random_graph(seed, dtype="bit")
    exe = lgir.compile(graph, backend)
    for n in (0, 1, 65, 513):
        samples = random_inputs(graph, n, seed)
        packed = [
            lgir.pack(x) if v.dtype == "bit" else x
            for v, x in zip(graph.inputs, samples, strict=True)
        ]
        result, want = exe(*packed), lgir.compile(graph, "reference")(*samples)
        for a, b in zip(
            *((x if isinstance(x, tuple) else (x,)) for x in (result, want)), strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("target", ["native", "generic"])
def test_words_may_be_strided_and_have_idle_bits(target: str) -> None:
    graph = dense_net(2, 600, seed=1)
    x = np.random.default_rng(2).random((700, 784)) < 0.5
    words = lgir.pack(x).words.copy()
    words[:, -1] |= np.uint64(0xFFFF_0000_0000_0000)  # bits 784 and up
    wide = np.zeros((1400, 20), np.uint64)
    wide[::2, 3:16] = words
    exe = lgir.compile(graph, target=target)
    want = exe(x)
    np.testing.assert_array_equal(exe(lgir.Packed(words, (784,))), want)
    np.testing.assert_array_equal(exe(lgir.Packed(wide[::2, 3:16], (784,)), threads=2), want)
    np.testing.assert_array_equal(exe.predict(lgir.pack(x)), want.argmax(axis=1))


def test_packed_samples_of_another_shape_or_input_are_refused() -> None:
    exe = lgir.compile(dense_net(1, 400), "reference")
    with pytest.raises(InputError, match=r"input %x is bit\[784\], got packed samples of shape"):
        exe(lgir.pack(np.zeros((2, 28, 28), bool)))
    b = lgir.GraphBuilder("levels")
    exe = lgir.compile(b.build(b.threshold(b.input("x", "u8", (4,)), [0])), "reference")
    with pytest.raises(InputError, match=r"input %x is u8\[4\], got packed samples"):
        exe(lgir.pack(np.zeros((2, 4), bool)))


@pytest.mark.parametrize("x", [[[1], [1, 0]], [["a"]], [[None]], [[1j]], [[10**5000]], "text"])
def test_what_is_no_array_of_bits_is_refused(x):
    with pytest.raises(InputError):
        lgir.pack(x)
