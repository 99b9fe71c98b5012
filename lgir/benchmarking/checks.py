"""Random samples for benches, and the check of outputs against those of the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from lgir.errors import BackendError
from lgir.ir.graph import Graph
from lgir.ir.nodes import Threshold
from lgir.ir.types import Value
from lgir.samples import Array

_DEFAULT_SAMPLES: Final = 100_000
_DEFAULT_BYTES: Final = 256 << 20  # a network of images gets fewer samples instead of gigabytes
_FEWEST_SAMPLES: Final = 64


def random_samples(graph: Graph, n: int | None = None, seed: int = 0) -> list[Array]:
    """Draw one array (n, *shape) per input: bool, uint8, or float32 over the range of thresholds.

    Args:
        graph: the graph that reads the samples.
        n: number of samples; None draws 100,000, or as many as fit 256 MiB.
        seed: seed of the generator.
    """
    if n is None:
        size = sum(v.size * (4 if v.dtype == "f32" else 1) for v in graph.inputs)
        n = min(_DEFAULT_SAMPLES, max(_FEWEST_SAMPLES, _DEFAULT_BYTES // max(size, 1)))
    rng = np.random.default_rng(seed)
    return [_random_input(graph, value, n, rng) for value in graph.inputs]


def _random_input(graph: Graph, value: Value, n: int, rng: np.random.Generator) -> Array:
    shape = (n, *value.shape)
    total = math.prod(shape)
    if value.dtype == "bit":
        packed = rng.integers(256, size=-(-total // 8), dtype=np.uint8)
        return np.unpackbits(packed, count=total).view(np.bool_).reshape(shape)
    if value.dtype == "u8":
        return rng.integers(256, size=shape, dtype=np.uint8)
    read = [op.levels for node, op in graph.of_type(Threshold) if value.name in node.inputs]
    finite = np.concatenate([np.zeros(0), *(x[np.isfinite(x)] for x in read)])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    margin = 0.5 * (high - low) or 1.0
    limit = float(np.finfo(np.float32).max)
    low, high = max(low - margin, -limit), min(high + margin, limit)
    return rng.uniform(low, high, shape).astype(np.float32)


def _check_index(n: int, check: int) -> Array:
    """Return the samples to compare: half are the first, which every run has; the rest spread."""
    check = max(1, min(check, n))
    half = -(-check // 2)
    rest = np.linspace(half, n - 1, check - half, dtype=np.int64)
    return np.unique(np.concatenate([np.arange(half), rest]))


class OutputChecker:
    """Compares outputs of backends with those of the reference.

    Attributes:
        index: numbers of the compared samples, int64 (M,), ascending.
        expected: outputs of the reference on these samples, one array (M, ...) per graph output.
    """

    def __init__(self, index: Array, expected: tuple[Array, ...]) -> None:
        self.index = index
        self.expected = expected

    @classmethod
    def of(
        cls, reference: Callable[..., Any], samples: Sequence[Array], check: int
    ) -> OutputChecker:
        """Evaluate the reference on at most `check` of the samples."""
        index = _check_index(len(samples[0]), check)
        expected = reference(*(a[index] for a in samples))
        return cls(index, expected if isinstance(expected, tuple) else (expected,))

    def count_within(self, count: int) -> int:
        """Return how many of the compared samples are among the first `count`."""
        return int(np.count_nonzero(self.index < count))

    def check(self, name: str, outputs: Any, count: int) -> None:
        """Raise BackendError if outputs of backend `name` on the first `count` samples differ."""
        compared = self.index[: self.count_within(count)]
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        for result, want in zip(outputs, self.expected, strict=True):
            result, want = np.asarray(result)[compared], want[: len(compared)]
            if result.shape != want.shape:
                raise BackendError(f"{name} gives {result.shape}, reference {want.shape}")
            differs = (result != want).reshape(len(compared), -1).any(axis=1)
            if differs.any():
                i = int(np.flatnonzero(differs)[0])
                raise BackendError(
                    f"outputs of {name} differ from reference in {int(differs.sum())} of "
                    f"{len(compared)} samples, first in sample {int(compared[i])}: "
                    f"{_short(result[i])} against {_short(want[i])}; no figure is shown for wrong "
                    "answers"
                )


def _short(row: Array) -> str:
    text = ", ".join(f"{x:g}" for x in np.ravel(row)[:10])
    return f"[{text}{', ...' if row.size > 10 else ''}]"
