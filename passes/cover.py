"""Covering a body with tables of k inputs by priority cuts: area flow, then exact area.

Every net gets a few cuts; the best by the area that its tables would take, shared among their
readers (area flow), makes a cover. Then each net in turn takes the cut that adds fewest tables to
the cover as it is (exact area). From Mishchenko et al., "Combinational and sequential mapping with
priority cuts", ICCAD 2007, without its depth constraint.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.body import Body
from lgir.ops import narrow_table, table_dtype, widen_table
from lgir.passes.cuts import best_cover

CUTS: Final = 12
FLOW_ROUNDS: Final = 4
AREA_ROUNDS: Final = 4


def cover_body(body: Body, k: int) -> Body:
    """The body in tables of at most `k` inputs, at least as wide as its gates are.

    Gates of more than two inputs may be taken into others as they are. The body is in the normal
    form that `fold` leaves.
    """
    first, nets = body.first_gate, body.num_nets
    if not body.num_gates:
        return body
    arity = np.zeros(nets, np.int8)
    arity[first:] = body.arity()
    fanin = np.zeros((nets, body.k), np.int32)
    fanin[first:] = body.fanin
    table = np.zeros(nets, np.uint64)
    for n in range(1, body.k + 1):
        rows = np.flatnonzero(arity == n)
        table[rows] = _repeated(narrow_table(body.table[rows - first], body.k, n), n)
    fixed = np.bincount(body.outputs, minlength=nets).astype(np.int32)
    leaves, size, tables, best, used = best_cover(
        fanin, arity, table, fixed, CUTS, k, FLOW_ROUNDS, AREA_ROUNDS
    )
    kept = np.flatnonzero(used[first:] > 0) + first
    new_id = np.arange(nets, dtype=np.int32)
    new_id[kept] = np.arange(first, first + len(kept), dtype=np.int32)
    wide = np.zeros((len(kept), k), np.int32)
    new_table = np.zeros(len(kept), table_dtype(k))
    cut = best[kept]
    for n in range(k + 1):
        at = np.flatnonzero(size[kept, cut] == n)
        wide[at, :n] = new_id[leaves[kept[at], cut[at], :n]]
        new_table[at] = widen_table(_once(tables[kept[at], cut[at]], n), n, k)
    return Body.build(body.taps, wide, new_table, new_id[body.outputs], copy=False)


def _reversed(table: npt.NDArray[Any], n: int) -> npt.NDArray[np.uint64]:
    """Tables of n inputs with the inputs in the opposite order."""
    wide, out = table.astype(np.uint64), np.zeros(len(table), np.uint64)
    for i in range(1 << n):
        to = int(f"{i:0{n}b}"[::-1], 2) if n else 0
        out |= (wide >> np.uint64(i) & np.uint64(1)) << np.uint64(to)
    return out


def _repeated(table: npt.NDArray[Any], n: int) -> npt.NDArray[np.uint64]:
    """Tables of `lgir.ops` as those of cuts: least input first, repeated to 64 bits."""
    out = _reversed(table, n)
    for i in range(n, 6):
        out |= out << np.uint64(1 << i)
    return out


def _once(table: npt.NDArray[np.uint64], n: int) -> npt.NDArray[np.uint64]:
    """Undo `_repeated`."""
    mask = np.uint64((1 << (1 << n)) - 1)
    return _reversed(table & mask, n).astype(table_dtype(n))
