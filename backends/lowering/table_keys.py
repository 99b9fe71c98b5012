"""Gates by truth table, whatever the order of their operands: each table's canonical form."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.truth_tables import narrow_table

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TableKeys:
    """Per gate: a sort key that names its fan-in and canonical table, the operand order that makes
    the table canonical, the table over its own fan-in as uint64, and for two inputs that table
    before canonisation.
    """

    arity: Ints
    key: Ints
    order: Ints
    wide: npt.NDArray[np.uint64]
    two: Ints

    @staticmethod
    def describe(key: int) -> tuple[int, int | None]:
        """(fan-in, table) of a key; wide gates have no table of their own."""
        fanin, table = key >> 32, key & 0xFFFF_FFFF
        return fanin, table if fanin <= 3 else None


def table_keys(body: Body) -> TableKeys:
    """Keys of all gates of `body`."""
    arity = np.maximum(body.arity().astype(np.int64), 1)
    order = np.tile(np.arange(body.k), (body.num_gates, 1))
    wide = np.zeros(body.num_gates, np.uint64)
    key = np.zeros(body.num_gates, np.int64)
    for k in range(1, body.k + 1):
        mine = np.flatnonzero(arity == k)
        narrow = narrow_table(body.table[mine], body.k, k).astype(np.uint64)
        wide[mine] = narrow
        if k > 3:
            key[mine] = k << 32
            continue
        best = narrow.copy()
        for permutation in list(itertools.permutations(range(k)))[1:]:
            other = _permute(narrow, permutation)
            better = other < best
            best[better] = other[better]
            order[mine[better], :k] = permutation
        key[mine] = (k << 32) | best.astype(np.int64)
    two = np.where(arity == 2, wide & np.uint64(0xF), 0).astype(np.int64)
    return TableKeys(arity, key, order, wide, two)


def _permute(table: npt.NDArray[np.uint64], order: tuple[int, ...]) -> npt.NDArray[np.uint64]:
    """Tables after reordering operands: new operand c is old operand order[c]."""
    k = len(order)
    out = np.zeros_like(table)
    for i in range(1 << k):
        old = 0
        for c, source in enumerate(order):
            old |= (i >> (k - 1 - c) & 1) << (k - 1 - source)
        out |= ((table >> np.uint64(old)) & np.uint64(1)) << np.uint64(i)
    return out
