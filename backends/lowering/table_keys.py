"""Gates by truth table, whatever the order of their operands: each table's canonical form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.truth_tables import canonicalize_order, narrow_tables

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
    wide = narrow_tables(body.table, body.k, arity)
    key = arity << 32
    for k in range(1, min(body.k, 3) + 1):
        gates = np.flatnonzero(arity == k)
        canonical, order[gates, :k] = canonicalize_order(wide[gates], k)
        key[gates] |= canonical.astype(np.int64)
    two = np.where(arity == 2, wide & np.uint64(0xF), 0).astype(np.int64)
    return TableKeys(arity, key, order, wide, two)
