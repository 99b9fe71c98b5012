"""Covers of a body by tables of k inputs, from priority cuts: area flow, then exact area.

Every net gets a few cuts; the best by the area that its tables would take, shared among their
readers (area flow), makes a cover. In any cover, each net in turn can take the cut that adds fewest
tables to it as it is (exact area). From Mishchenko et al., "Combinational and sequential mapping
with priority cuts", ICCAD 2007, without its depth constraint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body, IntArray, Mask
from lgir.ir.truth_tables import Tables, narrow_table, reverse_inputs, table_dtype, widen_table
from lgir.ir.types import FALSE
from lgir.passes.kernels.cuts import priority_cuts, recover_area

CUTS: Final = 12
ROUNDS: Final = 4


@dataclass(frozen=True)
class Cover:
    """Tables of at most k inputs for some gates of a body, each over other nets of that body.

    Attributes:
        fanin: (G, k) a row for each gate of the body; nets ascend, 0 fills the rest.
        table: (G,) see `lgir.ir.truth_tables`.
        alive: (G,) the gates whose rows count; the outputs and those rows need no others.
    """

    fanin: IntArray
    table: Tables
    alive: Mask

    def __len__(self) -> int:
        return int(np.count_nonzero(self.alive))

    def body(self, origin: Body) -> Body:
        """The tables as a body in place of `origin`."""
        body = Body.build(origin.taps, self.fanin, self.table, origin.outputs, copy=False)
        return body.restricted(np.concatenate([np.ones(origin.first_gate, bool), self.alive]))


class Cuts:
    """The priority cuts of a body's gates, none of which has more than `k` inputs.

    Gates of more than two inputs may be taken into others as they are. The operands of a gate are
    distinct and ascend.
    """

    def __init__(self, body: Body, k: int) -> None:
        self.body = body
        self.k = k
        nets, first = body.num_nets, body.first_gate
        self._arity = np.zeros(nets, np.int8)
        self._arity[first:] = body.arity()
        fanin, table = np.zeros((nets, body.k), np.int32), np.zeros(nets, np.uint64)
        fanin[first:] = body.fanin
        table[first:] = _as_cuts(body.table, self._arity[first:], body.k)
        self._fixed = np.bincount(body.outputs, minlength=nets).astype(np.int32)
        self._cuts = priority_cuts(fanin, self._arity, table, self._fixed, CUTS, k, ROUNDS)

    def cover(self, given: Cover | None = None) -> Cover:
        """A cover of least area flow, or the given one, after recovery of exact area."""
        first, nets, k = self.body.first_gate, self.body.num_nets, self.k
        fanin, table = np.zeros((nets, k), np.int32), np.zeros(nets, np.uint64)
        size = np.full(nets, -1, np.int8)
        if given is not None:
            arity = np.count_nonzero(given.fanin, axis=1).astype(np.int8)
            fanin[first:] = given.fanin
            table[first:] = _as_cuts(given.table, arity, k)
            size[first:] = np.where(given.alive, arity, -1)
        best, used = recover_area(*self._cuts, fanin, size, table, self._arity, self._fixed, ROUNDS)
        leaves, sizes, tables, _ = self._cuts
        gates = np.arange(first, nets)
        alive = used[first:] > 0
        leaf, size = leaves[gates, best[first:]], sizes[gates, best[first:]]
        fanin = np.where(np.arange(k) < size[:, None], leaf, FALSE).astype(np.int32)
        return Cover(fanin, _from_cuts(tables[gates, best[first:]], size, k), alive)


def _as_cuts(table: Tables, arity: npt.NDArray[np.int8], k: int) -> npt.NDArray[np.uint64]:
    """Tables of k inputs, of which the first `arity` matter, as those of cuts."""
    out = np.zeros(len(table), np.uint64)
    for n in range(k + 1):
        rows = np.flatnonzero(arity == n)
        out[rows] = reverse_inputs(narrow_table(table[rows], k, n), n)
        for i in range(n, 6):  # they repeat over the leaves that they lack
            out[rows] |= out[rows] << np.uint64(1 << i)
    return out


def _from_cuts(table: npt.NDArray[np.uint64], size: npt.NDArray[np.int8], k: int) -> Tables:
    """Undo `_as_cuts`."""
    out = np.zeros(len(table), table_dtype(k))
    for n in range(k + 1):
        rows = np.flatnonzero(size == n)
        once = table[rows] & np.uint64((1 << (1 << n)) - 1)
        out[rows] = widen_table(reverse_inputs(once, n).astype(table_dtype(n)), n, k)
    return out
