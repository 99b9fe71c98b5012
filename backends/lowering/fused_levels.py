"""Which gates are fused: evaluated in registers by the trails of the gates that read them.

Along a trail each row needs one operand more. Where that is a gate with no other readers, the row
reads the gate's two operands instead, and the gate's own plane is neither written nor read: a gate
of each of two layers together move three lines, where in two chains they move four. A gate is
evaluated again each time that a trail passes it, once for every two readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lgir.backends.lowering.trails import Ints
from lgir.ir.body import Body

# In rows of a chain; measured on layers that fill the second-level cache.
_FUSED_ROW: Final = 1.55
"""What a row that evaluates two gates takes."""
_PASSING_ROW: Final = 1.2
"""What a row of such a trail takes that evaluates one, its operand being a plane."""
_TABLE_ROW: Final = 1.4
"""What a gate by table takes."""
_MOST_READERS: Final = 4
"""With more, a gate would be evaluated too often."""
THREE_ONES: Final = np.isin(np.arange(16), (0b0111, 0b1011, 0b1101, 0b1110))
"""Whether an outer table needs a constant term, unless its result is kept inverted."""
_NONE: Final = np.zeros(0, np.int64)
_PROPER: Final = np.isin(np.arange(16), (1, 2, 4, 6, 7, 8, 9, 11, 13, 14))
"""Whether a two-input table depends on both inputs."""


@dataclass(frozen=True)
class FusedLevel:
    """`inner` gates that are evaluated along the trails of `outer` ones, their only readers."""

    outer: Ints
    inner: Ints


def find_fused_levels(body: Body, levels: list[Ints], two: Ints) -> list[FusedLevel]:
    """For each level, from level 1, which of its gates are outer ones; none where that is slower.

    Inner gates are of any level before, and do not read one another. `two` (num_gates,) are the
    tables of two-input gates, and 0 for others.
    """
    first = body.first_gate
    readers = np.bincount(body.fanin.ravel(), minlength=body.num_nets)
    readers[body.outputs] += 1
    eligible = np.concatenate([np.zeros(first, bool), _PROPER[two]])
    inner = np.zeros(body.num_nets, bool)
    price = np.full(body.num_nets, _TABLE_ROW)
    fused = []
    for gates in levels:
        pairs = gates[eligible[first + gates]]
        operands = body.fanin[pairs, :2]
        nets, reads = np.unique(operands, return_counts=True)
        rows = len(pairs) + _trails(reads)
        price[first + pairs] = alone = min(_TABLE_ROW, rows / max(1, len(pairs)))
        chosen = eligible[nets] & (readers[nets] == reads) & (reads <= _MOST_READERS)
        inner[nets[chosen]] = True
        fed = inner[operands].any(axis=1)
        outer = pairs[fed]
        rows = len(outer) + _trails(np.unique(operands[fed], return_counts=True)[1])
        evaluating = int((reads[chosen] + 1 >> 1).sum())
        cost = _FUSED_ROW * evaluating + _PASSING_ROW * (rows - evaluating)
        if cost < alone * len(outer) + price[nets[chosen]].sum():
            eligible[first + outer] = False
            fused.append(FusedLevel(outer, nets[chosen].astype(np.int64) - first))
        else:
            inner[nets[chosen]] = False
            fused.append(FusedLevel(_NONE, _NONE))
    return fused


def _trails(reads: Ints) -> int:
    """How many trails decompose gates whose operands are read so often: most begin and end where an
    odd number of ends meet.
    """
    return int((reads & 1).sum()) // 2
