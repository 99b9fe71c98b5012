"""Which levels are fused: the gates of one evaluated in registers by the trails of the next.

Along a trail each row needs one operand more. Where that is a gate with no other readers, the row
reads the gate's two operands instead, and the gate's own plane is neither written nor read: a gate
of each level together move three lines where in two chains they move four. A gate is evaluated
again each time that a trail passes it, once for every two readers.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from lgir.backends.trails import Ints, Trails
from lgir.body import Body

FUSED_ROW: Final = 1.6
"""What a row that evaluates two gates takes, in rows of a chain; measured, as the others are, on
layers that fill the second-level cache.
"""
PASSING_ROW: Final = 1.25
"""What a row takes that evaluates one, its operand being a plane."""
TABLE_ROW: Final = 1.3
"""What a gate by table takes."""
_PROPER: Final = np.isin(np.arange(16), (1, 2, 4, 6, 7, 8, 9, 11, 13, 14))
"""Whether a two-input table depends on both inputs."""
_NONE: Final = np.zeros(0, np.int64)


def fuse_levels(
    body: Body, levels: list[Ints], trails: list[Trails | None], two: Ints
) -> list[Ints]:
    """For each level, its gates that the trails of the next evaluate; none where that is slower.

    Args:
        levels: gates of each level, from level 1.
        trails: of the level's two-input gates, None where they are no chain.
        two: (num_gates,) tables of two-input gates, and 0 for others.
    """
    level = body.levels()
    uses = np.bincount(body.fanin.ravel(), minlength=body.num_nets)
    uses[body.outputs] += 1
    proper = np.concatenate([np.zeros(body.first_gate, bool), _PROPER[two]])

    def inner_gates(below: int) -> tuple[Ints, int]:
        """Gates of level number `below` that only trails of the next read, and how many rows of
        those evaluate one.
        """
        found = trails[below]
        if found is None or not proper[body.first_gate + found.gates].all():
            return _NONE, 0
        nets, reads = np.unique(body.fanin[found.gates, :2], return_counts=True)
        inner = proper[nets] & (level[nets] == below) & (uses[nets] == reads)
        rows = int((reads[inner] + 1 >> 1).sum())
        return nets[inner].astype(np.int64) - body.first_gate, rows

    # Of the first i levels: the least cost, and the gates that level i then evaluates of the next
    # below, if any.
    cost, within = [0.0], [_NONE]
    alone = [_cost(gates, found) for gates, found in zip(levels, trails, strict=True)]
    for i, found in enumerate(trails):
        inner, rows = inner_gates(i) if i else (_NONE, 0)
        apart, fused = cost[i] + alone[i], math.inf
        if found is not None and len(inner):
            left = alone[i - 1] * (1 - len(inner) / len(levels[i - 1]))
            more = (FUSED_ROW - 1) * rows + (PASSING_ROW - 1) * (found.rows - rows)
            fused = cost[i - 1] + left + alone[i] + more
        cost.append(min(apart, fused))
        within.append(inner if fused < apart else _NONE)
    fused_away = [_NONE] * len(levels)
    i = len(levels)
    while i > 0:
        if len(within[i]):
            i -= 1
            fused_away[i - 1] = within[i + 1]
        i -= 1
    return fused_away


def _cost(gates: Ints, trails: Trails | None) -> float:
    """Of a level that is not fused, in rows of a chain."""
    chained, rows = (0, 0) if trails is None else (len(trails.gates), trails.rows)
    return rows + TABLE_ROW * (len(gates) - chained)
