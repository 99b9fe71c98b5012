"""Modules in many styles are lifted with no option but the shape and dtype of their input."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import lgir
from lgir.equivalence.sampling import draw_samples

torch = pytest.importorskip("torch")

from traced_modules import MODULES  # noqa: E402


def lifted(name: str) -> tuple[Any, lgir.Graph]:
    kind, shape, dtype = MODULES[name]
    torch.manual_seed(1)
    module = kind()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.export itself
        graph = lgir.lift(module, input_shape=shape, input_dtype=dtype)
    return module.eval(), graph


@pytest.mark.parametrize("name", MODULES)
def test_graph_gives_the_modules_outputs_on_a_thousand_samples(name: str) -> None:
    module, graph = lifted(name)
    samples = draw_samples(graph, 1000, seed=7)
    tensors = [
        torch.from_numpy(x.astype(np.float32) if v.dtype == "bit" else x)
        for v, x in zip(graph.inputs, samples, strict=True)
    ]
    with torch.no_grad():
        expected = module(*tensors)
    executable = lgir.compile(graph, backend="reference")
    if graph.metadata.get("head") == "argmax":
        assert (executable.predict(*samples) == expected.numpy()).all()
        return
    given = executable(*samples)
    given = given if isinstance(given, tuple) else (given,)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for ours, theirs in zip(given, expected, strict=True):
        assert np.array_equal(ours.reshape(1000, -1), theirs.numpy().reshape(1000, -1))
