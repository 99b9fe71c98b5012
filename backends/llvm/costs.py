"""What each step's kernel does for a block: vector logic, lines loaded and stored, and from where.

Counted from the kernels of `lgir.backends.llvm.kernels` as written, for a target whose registers
hold a plane. Scalar work, such as reading rows, is left out, so a bound is never too high for it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lgir.backends.cones import Expr
from lgir.backends.llvm.kernels import ADDER, TILE
from lgir.backends.steps import ChainStep, ConeStep, GateStep, PackStep, Plan, Planes, Step, SumStep
from lgir.executable import Array
from lgir.roofline import BLOCK, LINE, StepCost, Traffic

_CHAIN_TABLE_LOADS: Final = 3
"""A chain's masks: one vector, and two broadcasts."""
_TRANSPOSE: Final = 2 * 8 * 3 * 4 * 4
"""Instructions that transpose a tile: passes, vectors in eights, exchanges, pairs, each four."""
_SAMPLE_ROWS: Final = 16


def kind_of(step: Step) -> str:
    """ "pack", "gate", "chain", "cone", "sum" or "export"."""
    return type(step).__name__.removesuffix("Step").lower()


def step_costs(plan: Plan, samples: list[Array]) -> list[StepCost]:
    """One per step, for these samples, (N, *shape) an input, of which blocks are read in turn."""
    return [_cost(step, samples) for step in plan.steps]


def _cost(step: Step, samples: list[Array]) -> StepCost:
    if isinstance(step, PackStep):
        return _pack(step, samples[step.input])
    if isinstance(step, GateStep):
        return _gates(step)
    if isinstance(step, ChainStep):
        return _chain(step)
    if isinstance(step, ConeStep):
        return _cones(step)
    n = step.planes.size
    if isinstance(step, SumStep):
        return _sum(step)
    return StepCost(kind_of(step), n, 0, (Traffic(n, n), Traffic(n, 0, _footprint(step.planes))))


def _footprint(*planes: Planes) -> int:
    return LINE * len(np.unique(np.concatenate([p.ravel() for p in planes])))


def _gates(step: GateStep) -> StepCost:
    """Multiplexers of a wide gate's table take two shifts a bit and one select a node."""
    n, k = len(step.rows), step.fanin
    entries = 1 << k
    # A copy needs no logic, and two- and three-input tables are one instruction.
    logic = n * (3 * entries - 1 if step.table is None else int(k > 1))
    near = Traffic(k * n, n)
    return StepCost("gate", n, logic, (near, Traffic(k * n, n, _footprint(step.rows))))


def _chain(step: ChainStep) -> StepCost:
    """Three functions a row and one more where tables have constant terms."""
    n = len(step.rows)
    logic = n * (4 if (step.tables & 1).any() else 3)
    near = Traffic((1 + _CHAIN_TABLE_LOADS) * n, n)
    return StepCost("chain", n, logic, (near, Traffic(n, n, _footprint(step.rows))))


def _cones(step: ConeStep) -> StepCost:
    """Rows are positions. What a cone's copies and neighbours read again is near; each cell is
    brought once a table row.
    """
    rows, kinds = len(step.leaves), step.expr.leaves()
    positions, copies = int(np.prod(step.space)), len(step.shifts)
    n = rows * positions
    near = Traffic(n * copies * len(kinds), n)
    logic = n * copies * (_tree_logic(step.expr) + 1)
    grid = np.indices(step.space).reshape(3, -1)
    walk = {"tap": (np.array(step.in_step) @ grid)[:, None] + step.shifts,
            "cut": (np.array(step.out_step) @ grid)[:, None]}  # fmt: skip
    picked = np.linspace(0, rows - 1, min(rows, _SAMPLE_ROWS), dtype=np.int64)
    cells = 0
    for row in picked:
        read = zip(step.leaves[row], kinds, strict=True)
        cells += len(np.unique(np.concatenate([(p + walk[kind]).ravel() for p, kind in read])))
    loads = rows * cells / len(picked)
    return StepCost("cone", n, logic, (near, Traffic(loads, n, _cone_footprint(step, positions))))


def _cone_footprint(step: ConeStep, positions: int) -> int:
    """Each leaf plane of position 0 stands for a channel's positions, each counted once."""
    # Taps of one channel at different offsets overlap: a channel is told by its range of planes.
    span = int(np.array(step.in_step) @ (np.array(step.space) - 1)) + 1
    starts = np.unique(step.leaves)
    gaps = np.diff(starts, append=starts[-1] + span) if len(starts) else starts
    return LINE * (int(np.minimum(gaps, span).sum()) + len(step.out) * positions)


def _tree_logic(expr: Expr) -> int:
    if not expr.args:
        return 0
    own = {"and": 2, "xor": 1}.get(expr.kind, (1 << len(expr.args)) - 1)
    return own + sum(map(_tree_logic, expr.args))


def _sum(step: SumStep) -> StepCost:
    """Two functions an adder; the count's bits are then spread to 512 numbers by vectors of 16."""
    groups, bits = step.planes.shape
    width = bits.bit_length()
    rounds = -(-bits // ADDER)
    left, adders = ADDER, 0
    for _ in range(width):
        adders += max(1, left // 2)
        left //= 2
    spread = BLOCK // 16 * (2 * width + 3)
    scores = groups * BLOCK * 4 / LINE
    logic = groups * (rounds * 2 * adders + spread)
    n = groups * rounds * ADDER
    near = Traffic(n, scores)
    return StepCost("sum", groups * bits, logic, (near, Traffic(n, 0, _footprint(step.planes))))


def _pack(step: PackStep, samples: Array) -> StepCost:
    """Every feature is read once and compared with each level; 512 masks of 64 bits make a tile,
    stored, transposed in two passes and stored as planes.
    """
    levels, features = step.planes.shape
    tiles = -(-features // TILE)
    size = 4 if samples.dtype == np.float32 else 1
    read = tiles * TILE * size * BLOCK / LINE
    made = levels * tiles * TILE
    logic = levels * tiles * (BLOCK * size + _TRANSPOSE)
    traffic = (
        Traffic(read + 2 * made, 3 * made),
        Traffic(read, 0, samples.nbytes),
        Traffic(0, made, _footprint(step.planes)),
    )
    return StepCost("pack", levels * features, logic, traffic)
