"""Where the samples of a call lie, which is why samples/s depend on the size of a batch."""

from __future__ import annotations

from lgir.benchmarking.rendering import spell_bytes
from lgir.roofline import cache_sizes

BY_BATCH = "small calls do not fill blocks of 512 samples, large ones are read from farther caches"
"""The reason that a sweep over batch sizes gives."""


def level_of_bytes(count: int) -> str:
    """Return the name of the nearest cache that holds `count` bytes, or "memory"."""
    for name, size in cache_sizes().items():
        if count <= size:
            return name
    return "memory"


def explain_batch(sample_bytes: int, batch: int) -> str:
    """Return a sentence on the samples of one call, and on the batch that would fit the L2 cache.

    Args:
        sample_bytes: bytes of one sample, all inputs together.
        batch: samples per call.
    """
    read = sample_bytes * batch
    level = level_of_bytes(read)
    text = f"{batch:,} samples of {spell_bytes(sample_bytes)}, {spell_bytes(read)} from {level}"
    near = cache_sizes().get("L2", 0) // max(1, sample_bytes) // 512 * 512
    if level in ("L1", "L2") or near < 512:
        return text
    return f"{text}; with --batch {near} they stay in L2"
