"""Fused levels: gates that are evaluated in registers by the trails of the gates that read them.

Along a trail, each row needs one operand more. If that is a gate with no other readers, the row
reads the gate's two operands instead, and the gate's own plane is neither written nor read: one
gate of each of two levels move three cache lines, whereas in two chains they move four. A gate is
evaluated again each time that a trail passes it, once for every two readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body

# The costs are in rows of a chain, measured on layers that fill the second-level cache.
_EVALUATING_ROW: Final = 1.55
"""The cost of a row that evaluates an inner and an outer gate."""
_PASSING_ROW: Final = 1.2
"""The cost of a row of such a trail that evaluates one gate, its operand being a plane."""
_TABLE_ROW: Final = 1.4
"""The cost of a gate by table."""
_MAX_READERS: Final = 4
"""With more readers, a gate would be evaluated too often."""
THREE_ONES: Final = np.isin(np.arange(16), (0b0111, 0b1011, 0b1101, 0b1110))
"""Whether each outer table (16,) needs a constant term, unless its result is kept inverted."""
_DEPENDS_ON_BOTH: Final = np.isin(np.arange(16), (1, 2, 4, 6, 7, 8, 9, 11, 13, 14))
"""Whether each two-input table (16,) depends on both inputs."""
_NONE: Final = np.zeros(0, np.int64)

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FusedLevel:
    """The `inner` gates that are evaluated along the trails of the `outer` ones, which alone read
    them. Both are empty for a level without such gates.
    """

    outer: Ints
    inner: Ints


def find_fused_levels(body: Body, levels: list[Ints], pair_tables: Ints) -> list[FusedLevel]:
    """Return which gates of each level, from level 1 on, are outer ones, if that is faster.

    Inner gates are of any earlier level, and do not read one another.

    Args:
        levels: the gates of each level.
        pair_tables: (num_gates,) the tables of two-input gates, and 0 for others.
    """
    first = body.first_gate
    readers = np.bincount(body.fanin.ravel(), minlength=body.num_nets)
    readers[body.outputs] += 1
    is_eligible = np.concatenate([np.zeros(first, bool), _DEPENDS_ON_BOTH[pair_tables]])
    is_inner = np.zeros(body.num_nets, bool)
    cost_alone = np.full(body.num_nets, _TABLE_ROW)
    fused = []
    for gates in levels:
        pairs = gates[is_eligible[first + gates]]
        operands = body.fanin[pairs, :2]
        nets, reads = np.unique(operands, return_counts=True)
        rows = len(pairs) + _count_trails(reads)
        row_cost = min(_TABLE_ROW, rows / max(1, len(pairs)))
        cost_alone[first + pairs] = row_cost
        chosen = is_eligible[nets] & (readers[nets] == reads) & (reads <= _MAX_READERS)
        is_inner[nets[chosen]] = True
        reads_inner = is_inner[operands].any(axis=1)
        outer = pairs[reads_inner]
        outer_reads = np.unique(operands[reads_inner], return_counts=True)[1]
        rows = len(outer) + _count_trails(outer_reads)
        evaluating = int((reads[chosen] + 1 >> 1).sum())
        fused_cost = _EVALUATING_ROW * evaluating + _PASSING_ROW * (rows - evaluating)
        if fused_cost < row_cost * len(outer) + cost_alone[nets[chosen]].sum():
            is_eligible[first + outer] = False
            fused.append(FusedLevel(outer, nets[chosen].astype(np.int64) - first))
        else:
            is_inner[nets[chosen]] = False
            fused.append(FusedLevel(_NONE, _NONE))
    return fused


def _count_trails(reads: Ints) -> int:
    """Return about how many trails decompose gates that read their operands so often.

    Most trails begin and end at nets that are read an odd number of times.
    """
    return int((reads & 1).sum()) // 2
