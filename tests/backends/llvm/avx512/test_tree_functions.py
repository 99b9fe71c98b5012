"""Machine code for trees, run in this process, against the definition of templates."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from cone_exprs import TAP, evaluate, perfect, random_expr

from lgir.backends.llvm.avx512.executable_memory import ExecutableMemory
from lgir.backends.llvm.avx512.tree_functions import tree_geometry, write_tree_functions
from lgir.backends.llvm.target import resolve_target
from lgir.backends.lowering.cones import ConeExpr
from lgir.backends.lowering.steps import ConeStep

needs_avx512 = pytest.mark.skipif(
    not resolve_target("native").ternary, reason="this CPU has no AVX-512"
)
LINE_WORDS = 8


def random_step(
    rng: np.random.Generator,
    expr: ConeExpr,
    space: tuple[int, int],
    steps: tuple[int, int],
    shifts: list[int],
    trees: int,
    channels: int,
) -> ConeStep:
    """Return trees that read windows of 3 x 3 lines in channels of 40 x 12, and write behind."""
    pitch = 12
    size = 40 * pitch
    window = (np.arange(3)[:, None] * pitch + np.arange(3)).ravel()
    leaves = len(expr.leaves())
    channels_of_tree = rng.integers(0, channels, (trees, min(channels, 10)))
    channel = np.take_along_axis(
        channels_of_tree, rng.integers(0, channels_of_tree.shape[1], (trees, leaves)), axis=1
    )
    planes = channel * size + rng.choice(window, (trees, leaves))
    out = 1000 * size + np.arange(trees) * (space[0] * space[1])
    return ConeStep(
        expr,
        planes,
        rng.random((trees, expr.num_masks() + 1)) < 0.5,
        out,
        (1, *space),
        (0, steps[0] * pitch, steps[1]),
        (0, space[1], 1),
        np.array(shifts),
        0,
    )


def run(code: np.ndarray, planes: np.ndarray) -> None:
    memory = ExecutableMemory(code)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(memory.address)(planes.ctypes.data)


def aligned(lines: int) -> np.ndarray:
    """Return zeros (lines, LINE_WORDS) that begin at a multiple of a line."""
    words = np.zeros((lines + 1) * LINE_WORDS, np.uint64)
    start = -words.ctypes.data % 64 // 8
    return words[start : start + lines * LINE_WORDS].reshape(lines, LINE_WORDS)


def check(runs: list[list[ConeStep]], seed: int) -> None:
    """The functions of runs change planes as the definition of their steps says."""
    rng = np.random.default_rng(seed)
    lines = 1 + max(int(s.out.max()) + s.space[1] * s.space[2] for r in runs for s in r)
    for code, steps in zip(write_tree_functions(runs), runs, strict=True):
        planes = aligned(lines)
        planes[:] = rng.integers(0, 1 << 63, planes.shape, dtype=np.uint64) << np.uint64(1)
        expected = planes.copy()
        for step in steps:
            grid = np.indices(step.space).reshape(3, -1)
            reads, writes = step.in_step @ grid, step.out_step @ grid
            for tree in range(len(step.leaves)):
                value = np.zeros((grid.shape[1], LINE_WORDS), np.uint64)
                for shift in step.shifts:
                    leaves = planes[step.leaves[tree][:, None] + reads + shift]
                    value |= evaluate(step.expr, step.masks[tree], leaves)
                expected[step.out[tree] + writes] = value
        run(code, planes)
        np.testing.assert_array_equal(planes, expected)


@needs_avx512
@pytest.mark.parametrize("space", [(1, 2), (2, 1), (1, 7), (2, 2), (3, 3), (4, 5), (16, 3)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3)])
def test_functions_compute_their_trees(space: tuple[int, int], stride: tuple[int, int]) -> None:
    rng = np.random.default_rng(space[0] * 10 + space[1])
    for shifts in ([0], [0, 1, 12, 13], list(range(8))):
        for leaves, widest in ((1, 2), (3, 3), (8, 2), (8, 6)):
            expr = random_expr(rng, leaves, widest)
            step = random_step(rng, expr, space, stride, shifts, 5, 3)
            check([[step]], leaves)


@needs_avx512
@pytest.mark.parametrize("channels", [1, 2, 9, 40])
def test_registers_run_out_without_harm(channels: int) -> None:
    rng = np.random.default_rng(channels)
    for expr in (perfect(5), perfect(2, 4), perfect(2, 6), random_expr(rng, 32, 6)):
        for shifts in ([0, 1, 12, 13], list(range(16))):
            step = random_step(rng, expr, (3, 4), (2, 2), shifts, 8, channels)
            check([[step]], channels)


@needs_avx512
def test_runs_mix_templates_and_geometries() -> None:
    rng = np.random.default_rng(3)
    runs = []
    for space in ((2, 2), (14, 4), (2, 2)):
        steps, out = [], 0
        for leaves in (8, 5, 8, 3):
            step = random_step(rng, random_expr(rng, leaves), space, (2, 2), [0, 1], 30, 4)
            steps.append(replace(step, out=step.out + out))
            out += 30 * space[0] * space[1]
        runs.append(steps)
    check(runs, 0)


def test_other_steps_keep_their_tables() -> None:
    rng = np.random.default_rng(5)
    step = random_step(rng, perfect(3), (4, 4), (1, 1), [0], 1, 2)
    assert tree_geometry(step) is not None
    cut = ConeExpr("and", (TAP, ConeExpr("cut")))
    for other in ({"expr": cut}, {"space": (2, 4, 4)}, {"space": (1, 1, 1)}, {"stage": None}):
        assert tree_geometry(replace(step, **other)) is None
