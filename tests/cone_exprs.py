"""Templates of cones for tests: random ones, perfect ones, and their values by definition."""

from __future__ import annotations

import itertools

import numpy as np

from lgir.backends.lowering.cones import ConeExpr

TAP = ConeExpr("tap")


def random_expr(rng: np.random.Generator, leaves: int, widest: int = 2) -> ConeExpr:
    """Return a template with that many leaves and gates of up to `widest` inputs."""
    if leaves == 1:
        return TAP if widest == 2 or rng.random() < 0.8 else ConeExpr("lut", (TAP,))
    width = int(rng.integers(2, min(leaves, widest) + 1))
    edges = [0, *sorted(rng.choice(np.arange(1, leaves), width - 1, replace=False)), leaves]
    kind = "lut" if width > 2 else "and" if rng.random() < 0.7 else "xor"
    args = (random_expr(rng, int(b - a), widest) for a, b in itertools.pairwise(edges))
    return ConeExpr(kind, tuple(args))


def perfect(depth: int, width: int = 2) -> ConeExpr:
    """Return the perfect tree of that depth, whose gates have `width` inputs."""
    kind = "and" if width == 2 else "lut"
    return TAP if not depth else ConeExpr(kind, (perfect(depth - 1, width),) * width)


def evaluate(expr: ConeExpr, masks: np.ndarray, leaves: np.ndarray) -> np.ndarray:
    """Return a template's value by definition: masks (M + 1,), words of leaves (L, ...)."""
    ones = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
    words = [ones if m else np.uint64(0) for m in masks]
    pending = list(leaves)

    def walk(node: ConeExpr) -> np.ndarray:
        if not node.args:
            return pending.pop(0)
        inputs = [walk(arg) for arg in node.args]
        if node.kind == "lut":
            return table(inputs)
        a, b = inputs
        if node.kind == "xor":
            return a ^ b
        m1, m2 = words.pop(0), words.pop(0)
        return (a & (b ^ m1)) ^ (b & m2)

    def table(inputs: list[np.ndarray]) -> np.ndarray:
        bits = [words.pop(0) for _ in range(1 << len(inputs))]
        value = np.zeros_like(leaves[0])
        for i, bit in enumerate(bits):
            minterm = np.full_like(value, ones)
            for shift, x in enumerate(reversed(inputs)):
                minterm &= x if i >> shift & 1 else ~x
            value |= minterm & bit
        return value

    value = walk(expr)
    return value ^ words.pop(0)
