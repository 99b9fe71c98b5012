"""Covers of a body by tables of k inputs, from priority cuts: area flow, then exact area.

Every net gets a few cuts, ranked by the area that their tables would take if it were shared among
their readers (area flow). The best cuts make a cover. In any cover, each net in turn can take the
cut that adds the fewest tables to the cover as it is (exact area). From Mishchenko et al.,
"Combinational and sequential mapping with priority cuts", ICCAD 2007. Outputs may have to meet a
level; exact area then takes only cuts that keep to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body, IntArray, Mask
from lgir.ir.truth_tables import Tables, narrow_table, reverse_inputs, table_dtype, widen_table
from lgir.ir.types import FALSE
from lgir.passes.kernels.cuts import (
    MAX_LEAVES,
    NEVER,
    cover_depth,
    priority_cuts,
    recover_area,
    timed_cuts,
)

_NO_CUT = -1


@dataclass(frozen=True)
class CoverParams:
    """Parameters of covering.

    Attributes:
        cuts: cuts kept per net.
        flow_rounds: rounds of ranking cuts by area flow.
        area_rounds: rounds of recovering exact area.
    """

    cuts: int = 12
    flow_rounds: int = 4
    area_rounds: int = 4


@dataclass(frozen=True)
class LutCover:
    """Tables of at most k inputs for some gates of a body, each over other nets of that body.

    Attributes:
        fanin: (G, k) a row per gate of the body; nets ascend, and 0 fills the rest.
        table: (G,) see `lgir.ir.truth_tables`.
        alive: (G,) the gates whose rows count; the outputs and those rows read no others.
    """

    fanin: IntArray
    table: Tables
    alive: Mask

    def __len__(self) -> int:
        return int(np.count_nonzero(self.alive))

    @staticmethod
    def of_gates(body: Body) -> LutCover:
        """Return the cover in which every gate is its own table."""
        return LutCover(body.fanin, body.table, np.ones(body.num_gates, bool))

    def body(self, origin: Body) -> Body:
        """Return the tables as a body in place of `origin`."""
        body = Body.build(origin.taps, self.fanin, self.table, origin.outputs, copy=False)
        return body.restricted(np.concatenate([np.ones(origin.first_gate, bool), self.alive]))


class CutCovers:
    """The covers that the priority cuts of a body offer.

    No gate has more than `k` inputs, and the operands of a gate are distinct and ascend. Gates of
    more than two inputs have one cut, their own operands.
    """

    def __init__(
        self,
        body: Body,
        k: int,
        params: CoverParams = CoverParams(),
        *,
        slack: int | None = None,
    ) -> None:
        """Enumerate the cuts.

        Args:
            slack: levels that the outputs may be deeper than the deepest of them has to be. None
                lets them be as deep as they like.
        """
        self.body = body
        self.k = k
        self.params = params
        nets, first = body.num_nets, body.first_gate
        self._arity = np.zeros(nets, np.int8)
        self._arity[first:] = body.arity()
        self._fanin, table = np.zeros((nets, body.k), np.int32), np.zeros(nets, np.uint64)
        self._fanin[first:] = body.fanin
        table[first:] = _as_cut_tables(body.table, self._arity[first:], body.k)
        self._output_reads = np.bincount(body.outputs, minlength=nets).astype(np.int32)
        self._start = np.zeros(nets, np.int32)
        self.bound: int = NEVER
        gates = self._fanin, self._arity, table, self._output_reads
        if slack is None:
            self._cuts = priority_cuts(*gates, params.cuts, k, params.flow_rounds)
        else:
            *cuts, self.bound = timed_cuts(
                *gates, self._start, slack, params.cuts, k, params.flow_rounds
            )
            self._cuts = tuple(cuts)

    def depth(self, cover: LutCover) -> int:
        """Return the level of the deepest output in a cover; inverters and buffers add none."""
        return int(cover_depth(cover.fanin, cover.alive, self.body.outputs, self._start))

    def best(self) -> LutCover:
        """Return the cover of least area flow after recovery of exact area."""
        return self._recover(None)

    def improved(self, cover: LutCover) -> LutCover:
        """Return a cover after recovery of exact area, in which its own tables count as cuts."""
        return self._recover(cover)

    def _recover(self, start: LutCover | None) -> LutCover:
        first, nets, k = self.body.first_gate, self.body.num_nets, self.k
        fanin, table = np.zeros((nets, k), np.int32), np.zeros(nets, np.uint64)
        size = np.full(nets, _NO_CUT, np.int8)
        if start is not None:
            arity = np.count_nonzero(start.fanin, axis=1).astype(np.int8)
            fanin[first:] = start.fanin
            table[first:] = _as_cut_tables(start.table, arity, k)
            size[first:] = np.where(start.alive, arity, _NO_CUT)
        best, readers = recover_area(
            *self._cuts, fanin, size, table, self._fanin, self._arity, self._output_reads,
            self._start, self.bound, self.params.area_rounds,
        )  # fmt: skip
        leaves, sizes, tables, _ = self._cuts
        gates = np.arange(first, nets)
        chosen = best[first:]
        size = sizes[gates, chosen]
        fanin = np.where(np.arange(k) < size[:, None], leaves[gates, chosen], FALSE)
        table = _from_cut_tables(tables[gates, chosen], size, k)
        return LutCover(fanin.astype(np.int32), table, readers[first:] > 0)


def _as_cut_tables(table: Tables, arity: npt.NDArray[np.int8], k: int) -> npt.NDArray[np.uint64]:
    """Return tables of k inputs, of which the first `arity` matter, as tables of cuts."""
    out = np.zeros(len(table), np.uint64)
    for n in range(k + 1):
        rows = np.flatnonzero(arity == n)
        out[rows] = reverse_inputs(narrow_table(table[rows], k, n), n)
        for i in range(n, MAX_LEAVES):  # A cut's table repeats over the leaves that it lacks.
            out[rows] |= out[rows] << np.uint64(1 << i)
    return out


def _from_cut_tables(table: npt.NDArray[np.uint64], size: npt.NDArray[np.int8], k: int) -> Tables:
    """Return tables of cuts of `size` leaves as tables of k inputs."""
    out = np.zeros(len(table), table_dtype(k))
    for n in range(k + 1):
        rows = np.flatnonzero(size == n)
        once = table[rows] & np.uint64((1 << (1 << n)) - 1)
        out[rows] = widen_table(reverse_inputs(once, n).astype(table_dtype(n)), n, k)
    return out
