"""Random samples for equivalence checks, drawn where networks are sensitive.

Samples of bits are sparse, dense or uniform; one is all zeros and one all ones, which shows what
padding reads. Numbers lie on and beside the thresholds that read them.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import GraphError
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Threshold
from lgir.ir.simulate import pack_planes, unpack_planes
from lgir.ir.types import Value

Array = npt.NDArray[Any]

MIN_SAMPLES: Final = 64
MAX_SAMPLES: Final = 1024
_BITS_AT_ONCE: Final = 1 << 14  # bits of an input that are drawn at a time
_WORK: Final = 1 << 22  # gate evaluations (of 64 samples) that one simulation may cost
_MEMORY: Final = 1 << 29  # bytes that the values of one simulation may take, if samples can be few
_LARGEST: Final = float(np.finfo(np.float32).max)

MAX_MEMORY: Final = 1 << 30
"""Bytes of values for 64 samples above which a graph is not simulated."""


def default_samples(graph: Graph) -> int:
    """Return a number of samples that cost little: a multiple of 64 from 64 to 1,024.

    Raises GraphError if even 64 samples would take more than `MAX_MEMORY`.
    """
    memory = sum(
        value.size * (8 if value.dtype == "bit" else 64 * 8) for value in graph.values.values()
    ) + max((16 * op.body.num_nets * _row(op) for _, op in graph.of_type(Logic)), default=0)
    if memory > MAX_MEMORY:
        raise GraphError(
            f"{graph.name!r} takes {memory / 2**30:,.1f} GiB of values for 64 samples; at most "
            f"{MAX_MEMORY / 2**30:.0f} GiB are simulated unless a number of samples is given"
        )
    work = sum(
        op.body.num_gates * op.positions * max(1, (1 << op.body.k) // 4)
        for _, op in graph.of_type(Logic)
    )
    words = min(_WORK // max(work, 1), _MEMORY // max(memory, 1))
    return int(min(max(64 * words, MIN_SAMPLES), MAX_SAMPLES))


def _row(op: Logic) -> int:
    """Return the positions that are evaluated together at least: those of one first coordinate."""
    return op.positions // op.space[0] if op.space else 1


def draw_samples(graph: Graph, n: int, seed: int = 0) -> list[Array]:
    """Return `n` samples of each input: bool (n, *shape) for bit, uint8 for u8, float32 for f32."""
    rng = np.random.default_rng(seed)
    drawn = [draw_input(graph, value, n, rng) for value in graph.inputs]
    return [
        unpack_planes(x, n) if v.dtype == "bit" else x
        for v, x in zip(graph.inputs, drawn, strict=True)
    ]


def draw_input(graph: Graph, value: Value, n: int, rng: np.random.Generator) -> Array:
    """Return `n` samples of one input: bit planes as `lgir.ir.simulate` takes, or (n, *shape)."""
    shape = (n, *value.shape)
    if value.dtype == "bit":
        density = rng.choice([0.5, 0.5, 0.1, 0.9], size=(n, 1))
        density[:1], density[1:2] = 0.0, 1.0
        parts = range(0, value.size, _BITS_AT_ONCE)
        sizes = [min(_BITS_AT_ONCE, value.size - start) for start in parts]
        words = [pack_planes(rng.random((n, m), dtype=np.float32) < density) for m in sizes]
        return np.concatenate(words).reshape(*value.shape, -1)
    applied = [op.levels for node, op in graph.of_type(Threshold) if value.name in node.inputs]
    levels = np.concatenate([np.ravel(x) for x in applied] or [np.zeros(1, np.float32)])
    levels = np.unique(levels[np.isfinite(levels)])
    if not len(levels):
        levels = np.zeros(1, np.float32)
    near: Array = levels[rng.integers(len(levels), size=shape)]
    if value.dtype == "f32":
        limit = np.where(rng.random(shape) < 0.5, np.float32(-np.inf), np.float32(np.inf))
        near = np.where(rng.random(shape) < 0.5, near, np.nextafter(near, limit))
        low, high = float(levels[0]), float(levels[-1])
        spread = max(high - low, 1.0)
        far = rng.uniform(low - spread, high + spread, size=shape)
        far = np.clip(far, -_LARGEST, _LARGEST)  # levels near float32's limits
        return np.where(rng.random(shape) < 0.5, near, far).astype(np.float32)
    least, most = (0, 255) if value.dtype == "u8" else (-(1 << 20), 1 << 20)
    near = np.clip(np.floor(near) + rng.integers(0, 2, size=shape), least, most)
    other: Array = rng.integers(least, most + 1, size=shape)
    x = np.where(rng.random(shape) < 0.5, near, other)
    x[:1], x[1:2] = least, most
    return x.astype(np.uint8 if value.dtype == "u8" else np.int32)
