"""Samples mean the same to every backend: rounding of doubles, NaN, infinities, bad arguments."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import lgir
from lgir.errors import InputError

BACKENDS_HERE = ["reference", "llvm", *(["c"] if shutil.which("cc") else [])]

LEVELS = [0.7, -0.7, 0.0, 3e38, -3e38, np.inf, -np.inf, 1e-45, np.finfo(np.float32).max]


def thresholds(*levels: float) -> lgir.Graph:
    b = lgir.GraphBuilder("levels")
    bits = b.threshold(b.input("x", "f32", (1,)), list(levels))
    return b.build(bits)


def around(levels: list[float]) -> np.ndarray:
    """Doubles at and beside the float32 levels, and at and beside the doubles of the same text."""
    x = np.array([*levels, *np.array(levels, np.float32).astype(np.float64), 1e300, -1e300, 1e-320])
    return np.concatenate([x, np.nextafter(x, np.inf), np.nextafter(x, -np.inf)])[:, None]


@pytest.mark.parametrize("backend", BACKENDS_HERE)
@pytest.mark.parametrize("dtype", [np.float64, np.longdouble, np.float32, np.float16])
def test_floats_of_any_size_are_compared_as_they_are(backend, dtype):
    with np.errstate(over="ignore"):
        x = around(LEVELS).astype(dtype)
    expected = x > np.array(LEVELS, np.float32).astype(np.longdouble)
    assert np.array_equal(lgir.compile(thresholds(*LEVELS), backend)(x), expected)


def test_tensors_of_doubles_are_compared_as_torch_does():
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(around(LEVELS))
    expected = x > torch.tensor(LEVELS, dtype=torch.float32)
    assert torch.equal(lgir.compile(thresholds(*LEVELS), "reference")(x), expected)


@pytest.mark.parametrize("backend", BACKENDS_HERE)
@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("n", [1, 3, 700])
def test_nan_is_refused_whether_or_not_anything_reads_it(backend, optimize, n):
    b = lgir.GraphBuilder("unread")
    x = b.input("x", "f32", (3,))
    y = b.input("y", "f32", (3,))
    b.input("z", "f32", (3,))
    b.threshold(y, [0.5], name="dead")
    never = b.threshold(x, [0.5, np.inf])
    graph = b.build(never)
    if optimize:
        graph, _ = lgir.optimize(graph)
    exe = lgir.compile(graph, backend)
    good = [np.zeros((n, 3), np.float32) for _ in range(3)]
    exe(*good)
    for i, name in enumerate("xyz"):
        bad = [x.copy() for x in good]
        bad[i][n - 1, 1] = np.nan
        with pytest.raises(InputError, match=rf"input %{name} holds NaN at \[{n - 1}, 1\]"):
            exe(*bad)


@pytest.mark.parametrize("method", ["sim", "sat", "exhaustive"])
@pytest.mark.parametrize("levels", [[np.inf], [-np.inf, np.inf], [3e38, -3e38], [3.4e38]])
def test_graphs_with_thresholds_at_the_limits_are_verified(levels, method):
    if method == "sat":
        pytest.importorskip("pysat")
    graph = thresholds(*levels)
    assert lgir.verify(graph, graph, method=method).equivalent is True
    after, _ = lgir.optimize(graph)
    assert lgir.verify(graph, after).equivalent is True


def self_containing() -> list:
    loop: list = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (self_containing(), "%x"),
        ([[10**5000]], "%x has dtype object"),
        (np.ma.masked_array([[1.0]], [[True]]), "%x is a masked array"),
        (np.zeros((1, 1), np.complex64), "%x has dtype complex64"),
        ("text", "%x expects"),
        (None, "%x expects"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(x, match):
    with pytest.raises(InputError, match=match):
        lgir.compile(thresholds(0.5), "reference")(x)
