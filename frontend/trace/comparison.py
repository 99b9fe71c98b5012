"""Compare a lifted graph with what it was traced from, exactly, on random and on given samples."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from lgir.equivalence.sampling import draw_samples
from lgir.errors import LiftError
from lgir.frontend.trace.target import Target
from lgir.ir.graph import Graph
from lgir.registry import BACKENDS

_SAMPLES: Final = 64
_CHUNK: Final = 8
_SECONDS: Final = 5.0

Array = npt.NDArray[Any]


def compare(
    graph: Graph,
    target: Target,
    kinds: Sequence[torch.dtype],
    heads: Sequence[Any],
    samples: Any,
    label: str,
) -> None:
    """Raises LiftError with a sample on which the graph's outputs differ from the target's."""
    drawn = draw_samples(graph, _SAMPLES)
    least = 0
    if samples is not None:
        given = samples if isinstance(samples, list | tuple) else [samples]
        if len(given) != len(graph.inputs):
            raise LiftError(f"samples= holds {len(given)} arrays for {len(graph.inputs)} inputs")
        drawn = [
            np.concatenate([_like(x, d, value.name), d])
            for d, x, value in zip(drawn, given, graph.inputs, strict=True)
        ]
        least = len(given[0])
    drawn, expected = _within_time(target, drawn, kinds, least)
    scores = BACKENDS.get("reference")(graph)(*drawn)
    results = list(scores) if isinstance(scores, tuple) else [scores]
    for result, value, head in zip(results, expected, heads, strict=True):
        actual = headed(result, head)
        left = np.asarray(actual).reshape(len(drawn[0]), -1).astype(np.float64)
        right = value.reshape(len(drawn[0]), -1).astype(np.float64)
        if left.shape != right.shape:
            raise LiftError(
                f"{label}: its output has shape {list(value.shape[1:])} per sample on a batch, the "
                f"traced one {list(result.shape[1:])}; its forward depends on the batch size"
            )
        wrong = np.flatnonzero((left != right).any(axis=1))
        if len(wrong):
            raise _difference(label, target, drawn, kinds, value, actual, int(wrong[0]), len(wrong))


def _within_time(
    target: Target, samples: list[Array], kinds: Sequence[torch.dtype], least: int
) -> tuple[list[Array], list[Array]]:
    """The samples that the target evaluates in a few seconds, or `least`, and its outputs."""
    start = perf_counter()
    parts: list[list[Array]] = []
    count, total = 0, len(samples[0])
    step = 1 if target.one_by_one else _CHUNK
    while count < total and (count < max(least, step) or perf_counter() - start < _SECONDS):
        parts.append(target.evaluate([x[count : count + step] for x in samples], kinds))
        count += step
    outputs = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return [x[:count] for x in samples], outputs


def _like(x: Any, drawn: Array, name: str) -> Array:
    array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    if array.shape[1:] != drawn.shape[1:]:
        raise LiftError(
            f"samples of input %{name} have shape {array.shape[1:]}, not {drawn.shape[1:]}"
        )
    return array.astype(drawn.dtype)


def headed(result: Array, head: Any) -> Array:
    """The graph's scores with what the module does to them at the very end."""
    if head is None:
        return result
    shape = tuple(head.scores.shape[1:])
    with torch.no_grad():
        applied = head.apply(torch.from_numpy(np.ascontiguousarray(result)).reshape(-1, *shape))
    return np.asarray(applied.numpy())


def _difference(
    label: str,
    target: Target,
    samples: Sequence[Array],
    kinds: Sequence[torch.dtype],
    expected: Array,
    actual: Array,
    at: int,
    count: int,
) -> LiftError:
    one = target.evaluate([x[at : at + 1] for x in samples], kinds)[0]
    if not np.array_equal(one.reshape(-1), expected[at].reshape(-1)):
        return LiftError(
            f"{label}: its result for a sample depends on the other samples of the batch, and a "
            "graph evaluates one sample at a time; reduce and index along other axes than 0"
        )
    shown = "; ".join(str(x[at].astype(float).reshape(-1)[:64].tolist()) for x in samples)
    return LiftError(
        f"{label}: the traced graph differs from the module on {count} of {len(samples[0])} "
        f"samples: {np.asarray(actual[at]).reshape(-1)[:8].tolist()} against "
        f"{expected[at].reshape(-1)[:8].tolist()} on the sample {shown}; its forward may keep "
        "state between calls, or this is a bug of lgir: please report it"
    )
