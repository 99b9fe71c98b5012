"""Sort keys of gates by truth table, whatever the order of their operands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.truth_tables import canonicalize_order, narrow_tables

Ints = npt.NDArray[np.int64]

_MAX_CANONICAL_FANIN = 3
"""Wider gates have their tables as data, and share a key by fan-in."""


@dataclass(frozen=True)
class TableKeys:
    """The tables of the gates of a body, and keys to sort them by.

    Attributes:
        arity: (num_gates,) the fan-in, at least 1.
        key: (num_gates,) the fan-in and the canonical table in one number.
        order: (num_gates, k) the operand order that makes the table canonical.
        tables: (num_gates,) the table over the gate's own fan-in.
        pair_tables: (num_gates,) the tables of two-input gates, and 0 for others.
    """

    arity: Ints
    key: Ints
    order: Ints
    tables: npt.NDArray[np.uint64]
    pair_tables: Ints

    @staticmethod
    def describe(key: int) -> tuple[int, int | None]:
        """Return the fan-in and the canonical table of a key; wide gates have no common table."""
        fanin, table = key >> 32, key & 0xFFFF_FFFF
        return fanin, table if fanin <= _MAX_CANONICAL_FANIN else None


def table_keys(body: Body) -> TableKeys:
    """Return the keys of all gates of `body`."""
    arity = np.maximum(body.arity().astype(np.int64), 1)
    order = np.tile(np.arange(body.k), (body.num_gates, 1))
    tables = narrow_tables(body.table, body.k, arity)
    key = arity << 32
    for k in range(1, min(body.k, _MAX_CANONICAL_FANIN) + 1):
        gates = np.flatnonzero(arity == k)
        canonical, order[gates, :k] = canonicalize_order(tables[gates], k)
        key[gates] |= canonical.astype(np.int64)
    pair_tables = np.where(arity == 2, tables & np.uint64(0xF), 0).astype(np.int64)
    return TableKeys(arity, key, order, tables, pair_tables)
