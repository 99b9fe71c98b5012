"""What each step's kernel does for a block: vector logic, lines loaded and stored, and from where.

Counted from the kernels as written, in instructions on planes.
Scalar work, such as reading rows, is left out: bounds are to be reached, not to be beaten.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from lgir.backends.llvm.avx512.tree_functions import tree_geometry, tree_work
from lgir.backends.llvm.counting import ADDER
from lgir.backends.llvm.packing import TILE
from lgir.backends.llvm.scoring import count_lanes
from lgir.backends.lowering.cones import ConeExpr
from lgir.backends.lowering.fused_levels import THREE_ONES
from lgir.backends.lowering.steps import (
    ChainStep,
    ConeStep,
    CountStep,
    FusedStep,
    GateStep,
    PackStep,
    Plan,
    Planes,
    Step,
    SumStep,
)
from lgir.ir.sets import distinct
from lgir.roofline import BLOCK, LINE, StepCost, Traffic
from lgir.samples import Array

_CHAIN_TABLE_LOADS: Final = 2
"""A chain's masks: one vector, and two broadcasts, which load twice as fast as whole vectors."""
_FUSED_TABLE_LOADS: Final = 1.5
"""Those of a fused row: one vector, and one broadcast; constant terms are another."""
_EXCHANGES: Final = 8 * 3 * 4
"""Of pairs of vectors, that transpose a tile's bytes in words: vectors in eights, distances, pairs.
As many shuffles of pairs transpose the words.
"""
_SAMPLE_ROWS: Final = 16


def kind_of(step: Step) -> str:
    """ "pack", "gate", "chain", "fused", "cone", "count", "sum" or "export"."""
    return type(step).__name__.removesuffix("Step").lower()


def three_inputs(ternary: bool) -> int:
    """Instructions of a three-input function such as a & (b ^ c)."""
    return 1 if ternary else 2


def step_costs(
    plan: Plan, samples: list[Array], *, ternary: bool, own_code: bool = False
) -> list[StepCost]:
    """One per step, for these samples, (N, *shape) an input, of which blocks are read in turn.

    Args:
        own_code: whether trees have code of their own where they can, see `Program`.
    """
    three = three_inputs(ternary)
    return [
        _own_code(step, three)
        if own_code and isinstance(step, ConeStep) and tree_geometry(step)
        else _cost(step, samples, three)
        for step in plan.steps
    ]


def _cost(step: Step, samples: list[Array], three: int) -> StepCost:
    if isinstance(step, PackStep):
        return _pack(step, samples[step.input], three)
    if isinstance(step, GateStep):
        return _gates(step, three)
    if isinstance(step, ChainStep):
        return _chain(step, three)
    if isinstance(step, FusedStep):
        return _fused(step, three)
    if isinstance(step, ConeStep):
        return _cones(step, three)
    if isinstance(step, CountStep):
        return _count("count", step.planes, step.counts.shape[1], three)
    if isinstance(step, SumStep):
        return _sum(step, three)
    n = step.planes.size
    return StepCost(kind_of(step), n, 0, (Traffic(n, n), Traffic(n, 0, _footprint(step.planes))))


def _footprint(*planes: Planes) -> int:
    return LINE * len(distinct(np.concatenate([p.ravel() for p in planes])))


def _gates(step: GateStep, three: int) -> StepCost:
    """Multiplexers of a wide gate's table take two shifts a bit and one select a node."""
    n, k = len(step.rows), step.fanin
    entries = 1 << k
    if step.table is None:
        logic = n * (2 * entries + (entries - 1) * three)
    else:
        logic = n * {2: 1, 3: three}.get(k, 0)  # most tables; a copy needs none
    near = Traffic(k * n, n)
    return StepCost("gate", n, logic, (near, Traffic(k * n, n, _footprint(step.rows))))


def _chain(step: ChainStep, three: int) -> StepCost:
    """Three functions a row, and an XOR where tables have constant terms."""
    n = len(step.rows)
    logic = n * (3 * three + int((step.tables & 1).any()))
    near = Traffic((1 + _CHAIN_TABLE_LOADS) * n, n)
    return StepCost("chain", n, logic, (near, Traffic(n, n, _footprint(step.rows))))


def _fused(step: FusedStep, three: int) -> StepCost:
    """Five functions a row, and an XOR as in a chain."""
    n, planes = len(step.rows), step.rows[:, :2]
    constant = int(THREE_ONES[step.tables[:, 1]].any())
    again = int((planes[:, 0] == planes[:, 1]).sum())
    near = Traffic((2 + _FUSED_TABLE_LOADS + constant / 2) * n, n)
    far = Traffic(2 * n - again, n, _footprint(step.rows))
    return StepCost("fused", n, n * (5 * three + constant), (near, far))


def _cones(step: ConeStep, three: int) -> StepCost:
    """Rows are positions. What a cone's copies and neighbours read again is near; each cell is
    brought once a table row.
    """
    rows, kinds = len(step.leaves), step.expr.leaves()
    positions, copies = int(np.prod(step.space)), len(step.shifts)
    n = rows * positions
    near = Traffic(n * copies * len(kinds), n)
    last = 1 if positions * copies == 1 else three  # inverted, or inverted and ORed
    logic = n * copies * (_tree_logic(step.expr, three) + last)
    grid = np.indices(step.space).reshape(3, -1)
    walk = {"tap": (np.array(step.in_step) @ grid)[:, None] + step.shifts,
            "cut": (np.array(step.out_step) @ grid)[:, None]}  # fmt: skip
    picked = np.linspace(0, rows - 1, min(rows, _SAMPLE_ROWS), dtype=np.int64)
    cells = 0
    for row in picked:
        read = zip(step.leaves[row], kinds, strict=True)
        cells += len(distinct(np.concatenate([(p + walk[kind]).ravel() for p, kind in read])))
    loads = rows * cells / len(picked)
    return StepCost("cone", n, logic, (near, Traffic(loads, n, _cone_footprint(step, positions))))


def _own_code(step: ConeStep, three: int) -> StepCost:
    """As above, but what copies and neighbours read again is mostly in registers."""
    loads, logic = tree_work(step)
    cost = _cones(step, three)
    near, *far = cost.traffic
    return replace(cost, logic=logic, traffic=(replace(near, loads=loads), *far))


def _cone_footprint(step: ConeStep, positions: int) -> int:
    """Each leaf plane of position 0 stands for a channel's positions, each counted once."""
    # Taps of one channel at different offsets overlap: a channel is told by its range of planes.
    span = int(np.array(step.in_step) @ (np.array(step.space) - 1)) + 1
    starts = distinct(step.leaves)
    gaps = np.diff(starts, append=starts[-1] + span) if len(starts) else starts
    return LINE * (int(np.minimum(gaps, span).sum()) + len(step.out) * positions)


def _tree_logic(expr: ConeExpr, three: int) -> int:
    if not expr.args:
        return 0
    own = {"and": 2 * three, "xor": 1}.get(expr.kind, ((1 << len(expr.args)) - 1) * three)
    return own + sum(_tree_logic(arg, three) for arg in expr.args)


def _count(kind: str, planes: Planes, width: int, three: int) -> StepCost:
    """Two functions an adder."""
    groups, bits = planes.shape
    rounds = -(-bits // ADDER)
    left, adders = ADDER, 0
    for _ in range(width):
        adders += max(1, left // 2)
        left //= 2
    n = groups * rounds * ADDER
    traffic = (Traffic(n, groups * width), Traffic(n, 0, _footprint(planes)))
    # A sum may take up a count that is complete: its rows are then the planes of that.
    rows = groups * (bits or width)
    return StepCost(kind, rows, groups * rounds * 2 * adders * three, traffic)


def _sum(step: SumStep, three: int) -> StepCost:
    """Tiles of counts are transposed in two passes and made numbers, vectors of 16 in three
    instructions.
    """
    groups, bits = step.planes.shape
    width = bits.bit_length() if step.initial is None else step.initial.shape[1]
    count = _count("sum", step.planes, width, three)
    near, *far = count.traffic
    in_tile = TILE // count_lanes(width)
    tiles = -(-groups // in_tile)
    near = Traffic(near.loads + 2 * tiles * TILE, near.stores + tiles * TILE + groups * BLOCK / 16)
    spread = tiles * (2 * _EXCHANGES * (2 + 2 * three) + 3 * in_tile * BLOCK // 16)
    return replace(count, logic=count.logic + spread, traffic=(near, *far))


def _pack(step: PackStep, samples: Array, three: int) -> StepCost:
    """Every feature is read once, and compared with each level and added under the mask; 64 vectors
    make a tile, stored, transposed in two passes and stored as planes.
    """
    levels, features = step.planes.shape
    tiles = -(-features // TILE)
    size = 4 if samples.dtype == np.float32 else 1
    read = tiles * TILE * size * BLOCK / LINE
    made = levels * tiles * TILE
    transpose = _EXCHANGES * (2 + 2 * three + 2)
    logic = levels * tiles * (2 * BLOCK * size + transpose)
    traffic = (
        Traffic(read + 2 * made, 3 * made),
        Traffic(read, 0, samples.nbytes),
        Traffic(0, made, _footprint(step.planes)),
    )
    return StepCost("pack", levels * features, logic, traffic)
