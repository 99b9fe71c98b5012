"""The backend that compiles exported C, against the reference."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import lgir
from c_library import needs_cc
from lgir.errors import BackendError, InputError
from lgir.zoo import dense_net
from random_graphs import random_graph, random_inputs

pytestmark = needs_cc


@pytest.mark.parametrize("seed", [4, 9, 12])
def test_it_matches_the_reference(seed: int) -> None:
    graph = random_graph(seed)
    samples = random_inputs(graph, 70, seed)
    compiled, reference = lgir.compile(graph, "c", optimize="0"), lgir.compile(graph, "reference")
    np.testing.assert_equal(compiled(*samples), reference(*samples))


@pytest.mark.parametrize("backend", ["c", "c-O1", "c-O3"])
def test_every_dtype_and_layout_of_bits(backend: str) -> None:
    graph = dense_net(2, 400, seed=1)
    exe = lgir.compile(graph, backend)
    x = np.random.default_rng(0).random((131, 784)) < 0.5
    expected = lgir.compile(graph, "reference")(x)
    for samples in (x, x.astype(np.uint8), x.astype(np.float32), np.asfortranarray(x)):
        np.testing.assert_array_equal(exe(samples), expected)
    assert exe(x[:0]).shape == (0, 10)
    with pytest.raises(InputError, match="takes bits; found 2"):
        exe(x.astype(np.uint8) * 2)


def test_its_source_can_be_read_and_its_gates_timed() -> None:
    exe = lgir.compile(dense_net(1, 100, inputs=100, classes=5), "c", optimize="0")
    assert "int net_predict_u8(" in exe.asm["c"]
    assert 0 < exe.time_gates(200, repeats=1) < 1


def test_it_pickles_with_its_options() -> None:
    exe = lgir.compile(dense_net(1, 100, inputs=100, classes=5), "c", style="statements")
    again = pickle.loads(pickle.dumps(exe))
    assert (again.backend, again.asm) == (exe.backend, exe.asm)
    x = np.random.default_rng(0).random((7, 100)) < 0.5
    np.testing.assert_array_equal(again(x), exe(x))


def test_without_a_compiler_it_says_what_to_do() -> None:
    with pytest.raises(BackendError, match=r"cannot run .* take backend 'llvm'"):
        lgir.compile(dense_net(1, 100, inputs=100, classes=5), "c", cc="no-such-cc")
