"""Compare a lifted graph with its module, exactly, on random and on given samples."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from lgir.equivalence.sampling import draw_samples
from lgir.errors import LiftError
from lgir.frontend.trace.export import in_eval_mode
from lgir.ir.graph import Graph
from lgir.registry import BACKENDS

_SAMPLES: Final = 64
_CHUNK: Final = 8
_SECONDS: Final = 5.0

Array = npt.NDArray[Any]


def compare(
    graph: Graph,
    module: Any,
    kinds: Sequence[torch.dtype],
    heads: Sequence[Any],
    samples: Any,
    label: str,
) -> None:
    """Raises LiftError with a sample on which the graph's outputs differ from the module's."""
    drawn = draw_samples(graph, _SAMPLES)
    if samples is not None:
        given = samples if isinstance(samples, list | tuple) else [samples]
        if len(given) != len(graph.inputs):
            raise LiftError(f"samples= holds {len(given)} arrays for {len(graph.inputs)} inputs")
        drawn = [
            np.concatenate([_like(x, d, value.name), d])
            for d, x, value in zip(drawn, given, graph.inputs, strict=True)
        ]
    drawn, expected = _within_time(module, drawn, kinds)
    scores = BACKENDS.get("reference")(graph)(*drawn)
    results = list(scores) if isinstance(scores, tuple) else [scores]
    for result, value, head in zip(results, expected, heads, strict=True):
        actual = _headed(result, value, head)
        left = np.asarray(actual).reshape(len(drawn[0]), -1).astype(np.float64)
        right = value.reshape(len(drawn[0]), -1).astype(np.float64)
        if left.shape != right.shape:
            raise LiftError(
                f"{label}: its output has shape {list(value.shape[1:])} per sample on a batch, the "
                f"traced one {list(result.shape[1:])}; its forward depends on the batch size"
            )
        wrong = np.flatnonzero((left != right).any(axis=1))
        if len(wrong):
            raise _difference(label, module, drawn, kinds, value, actual, int(wrong[0]), len(wrong))


def _within_time(
    module: Any, samples: list[Array], kinds: Sequence[torch.dtype]
) -> tuple[list[Array], list[Array]]:
    """The samples that the module evaluates in a few seconds, at least a chunk, and its outputs."""
    start = perf_counter()
    parts: list[list[Array]] = []
    count = 0
    while count < len(samples[0]) and (not count or perf_counter() - start < _SECONDS):
        parts.append(module_outputs(module, [x[count : count + _CHUNK] for x in samples], kinds))
        count += _CHUNK
    outputs = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return [x[:count] for x in samples], outputs


def _like(x: Any, drawn: Array, name: str) -> Array:
    array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    if array.shape[1:] != drawn.shape[1:]:
        raise LiftError(
            f"samples of input %{name} have shape {array.shape[1:]}, not {drawn.shape[1:]}"
        )
    return array.astype(drawn.dtype)


def _headed(result: Array, expected: Array, head: Any) -> Array:
    if head is None:
        return result
    shape = tuple(head.scores.shape[1:])
    with torch.no_grad():
        applied = head.apply(torch.from_numpy(np.ascontiguousarray(result)).reshape(-1, *shape))
    return np.asarray(applied.numpy())


def module_outputs(
    module: Any, samples: Sequence[Array], kinds: Sequence[torch.dtype]
) -> list[Array]:
    """What the module's eval mode gives for a batch, output by output."""
    tensors = [
        torch.from_numpy(np.ascontiguousarray(x)).to(kind)
        for x, kind in zip(samples, kinds, strict=True)
    ]
    place = next((p.device for p in module.parameters()), torch.device("cpu"))
    with in_eval_mode(module):
        out = module(*(t.to(place) for t in tensors))
    return [x.detach().cpu().double().numpy() if x.dtype == torch.bfloat16
            else x.detach().cpu().numpy() for x in flat_outputs(out)]  # fmt: skip


def flat_outputs(out: Any) -> list[torch.Tensor]:
    """The tensors of a module's result, in order."""
    if isinstance(out, torch.Tensor):
        return [out]
    values = out.values() if isinstance(out, dict) else out
    return [t for part in values for t in flat_outputs(part)]


def _difference(
    label: str,
    module: Any,
    samples: Sequence[Array],
    kinds: Sequence[torch.dtype],
    expected: Array,
    actual: Array,
    at: int,
    count: int,
) -> LiftError:
    one = module_outputs(module, [x[at : at + 1] for x in samples], kinds)[0]
    if not np.array_equal(one.reshape(-1), expected[at].reshape(-1)):
        return LiftError(
            f"{label}: its result for a sample depends on the other samples of the batch; a graph "
            "has one sample. Reduce and index along other axes than 0"
        )
    shown = "; ".join(str(x[at].astype(int).reshape(-1)[:64].tolist()) for x in samples)
    return LiftError(
        f"{label}: the traced graph differs from the module on {count} of {len(samples[0])} "
        f"samples: {np.asarray(actual[at]).reshape(-1)[:8].tolist()} against "
        f"{expected[at].reshape(-1)[:8].tolist()} on the sample {shown}. Please report this; "
        "check=False does not apply"
    )
