"""`lut-map`: cover a body with look-up tables of up to k inputs, as few as possible.

A table can go where each of its readers can take it in and still has at most k inputs. Removals
conflict where they share a reader or touch, so the most removals are a maximum independent set:
each round takes candidates that block the fewest others (the minimum-degree greedy rule), as many
as do not conflict. Unlike area flow over cuts, this counts a gate with two readers as saved when
both absorb it, where random networks have most to save. Between eliminations, exact area over
priority cuts (`lgir.passes.kernels.cover`) improves the cover. All that is done from the gates as
they are, which suits the shallow random wiring of logic gate networks, and from the cover of least
area flow, which suits deep logic that reconverges; the smaller is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lgir.errors import PassError
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import MAX_FANIN, cofactor, depends_on, drop_first_input, mux_table
from lgir.ir.types import FALSE
from lgir.passes.kernels.bodies import map_bodies
from lgir.passes.kernels.literals import Index, Literals
from lgir.passes.kernels.normalize import sort_operands
from lgir.passes.simplify import clean
from lgir.registry import register_pass

if TYPE_CHECKING:
    from lgir.passes.kernels.cover import Cover

_NEVER = np.iinfo(np.int64).max


@register_pass("lut-map")
def lut_map(graph: Graph, k: int = 3) -> Graph:
    """Cover logic with look-up tables of at most k inputs (3 to 6), as few as possible."""
    if not 3 <= k <= MAX_FANIN:
        raise PassError(f"lut-map{{k={k}}}: k must be from 3 to {MAX_FANIN}")
    graph = clean(graph)
    while (mapped := map_bodies(graph, partial(map_body, k=k))) is not graph:
        graph = clean(mapped)  # composed tables may ignore a net or equal each other
    return graph


def map_body(body: Body, k: int) -> Body:
    """The body in tables of at most k inputs; the same object where nothing can be saved."""
    from lgir.passes.kernels.cover import Cover, Cuts  # numba takes a while to import

    narrow = split_wide(body, k).widened(k)
    cuts = Cuts(narrow, k)
    gates = Cover(narrow.fanin, narrow.table, np.ones(narrow.num_gates, bool))
    ways = []
    for start in (gates, cuts.cover()):
        cover = cuts.cover(_eliminate(narrow, start))
        ways.append(_eliminate(narrow, cover))
    best = min(ways, key=len)
    if len(best) < narrow.num_gates:
        return best.body(narrow)
    return body if narrow.num_gates == body.num_gates else narrow


def split_wide(body: Body, k: int) -> Body:
    """Gates of more than k inputs by Shannon's expansion: two cofactors and a multiplexer."""
    while (body.arity() > k).any():
        body = _split_once(body, k)
    return body


def _split_once(body: Body, k: int) -> Body:
    wide = np.flatnonzero(body.arity() > k)
    size = np.ones(body.num_gates, np.int64)
    size[wide] = 3  # each wide gate is followed by what it is split into
    place = body.first_gate + np.cumsum(size) - 1  # the new net of each old gate
    new_id = np.arange(body.num_nets, dtype=np.int32)
    new_id[body.first_gate :] = place
    kk = max(body.k, 3)
    body = body.widened(kk)
    old = new_id[body.fanin]
    fanin = np.zeros((int(size.sum()), kk), np.int32)
    table = np.zeros(len(fanin), body.table.dtype)
    fanin[place - body.first_gate] = old
    table[place - body.first_gate] = body.table
    row = place[wide] - body.first_gate
    select = old[wide, 0]
    for value, at in ((False, row - 2), (True, row - 1)):
        fanin[at, :-1] = old[wide, 1:]
        # Without its first input, a cofactor's table is the half where that input has this value.
        half = cofactor(body.table[wide], kk, 0, value)
        table[at] = drop_first_input(half, kk)
    fanin[row] = 0
    fanin[row, 0], fanin[row, 1], fanin[row, 2] = select, place[wide] - 2, place[wide] - 1
    table[row] = mux_table(kk)
    return Body.build(body.taps, fanin, table, new_id[body.outputs])


def _eliminate(body: Body, cover: Cover) -> Cover:
    """The cover after as many removals of its tables as do not conflict."""
    elimination = _Elimination(body, cover)
    while elimination.round():
        pass
    return elimination.cover()


@dataclass
class _Edges:
    """Reads of gates by gates: reader and operand as gate numbers."""

    reader: Index
    operand: Index


class _Elimination:
    """A cover while tables are removed from it, a round at a time."""

    def __init__(self, body: Body, cover: Cover) -> None:
        self.k = cover.fanin.shape[1]
        self.first = body.first_gate
        self.alive = cover.alive.copy()
        fanin = np.where(self.alive[:, None], cover.fanin, FALSE)
        self.columns = [fanin[:, j].copy() for j in range(self.k)]
        self.table = cover.table.copy()
        self.fixed = np.zeros(body.num_gates, bool)  # gates that outputs read
        self.fixed[body.outputs[body.outputs >= self.first] - self.first] = True

    def round(self) -> bool:
        """Remove a set of gates that do not conflict; False where none can be removed."""
        edges = self._edges()
        gates = len(self.alive)
        blocked = ~self._fits(edges)
        readers = np.bincount(edges.operand, minlength=gates)
        candidate = self.alive & ~self.fixed & (readers > 0)
        candidate[edges.operand[blocked]] = False
        if not candidate.any():
            return False
        chosen = self._independent(edges, candidate)
        taken = chosen[edges.operand]
        self._absorb(edges.reader[taken], edges.operand[taken])
        self.alive[chosen] = False
        for column in self.columns:
            column[chosen] = FALSE
        return True

    def _edges(self) -> _Edges:
        parts = [np.flatnonzero(column >= self.first) for column in self.columns]
        operands = [column[p] - self.first for column, p in zip(self.columns, parts, strict=True)]
        return _Edges(np.concatenate(parts), np.concatenate(operands).astype(np.int64))

    def _fits(self, edges: _Edges) -> npt.NDArray[np.bool_]:
        """(edges,) whether the reader could take the operand in."""
        size = np.full(len(edges.reader), -1, np.int8)  # the operand itself goes
        theirs = [column[edges.reader] for column in self.columns]
        for net in theirs:
            size += net != FALSE
        for column in self.columns:
            mine = column[edges.operand]
            new = mine != FALSE
            for net in theirs:
                new &= net != mine
            size += new
        return np.asarray(size <= self.k, dtype=bool)

    def _independent(
        self, edges: _Edges, candidate: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Candidates that block fewest others, no two of which share a reader or touch."""
        gates = len(candidate)
        reader, operand = edges.reader, edges.operand
        live = candidate[operand]
        # What a candidate blocks: candidates beside it in its readers, its readers, its operands.
        beside = np.bincount(reader, live, gates) + candidate
        cost = np.bincount(operand, beside[reader], gates) + np.bincount(reader, live, gates)
        number = np.arange(gates, dtype=np.int64)
        # Multiplying by an odd number is a bijection: it breaks ties evenly and leaves none.
        noise = number * 0x9E3779B1 & 0xFFFF_FFFF
        rank = cost.astype(np.int64) << 32 | noise
        # Only the cheapest go in one round: on trees that is optimal, ends before middles.
        candidate = candidate & (cost == cost[candidate].min())
        rank[~candidate] = _NEVER
        best = rank.copy()  # the best candidate that touches each gate, or is it
        np.minimum.at(best, reader[live], rank[operand[live]])
        loses = best[reader] < rank[operand]
        chosen: npt.NDArray[np.bool_] = candidate & (best == rank)
        chosen[operand[loses]] = False
        return chosen

    def _absorb(self, reader: Index, operand: Index) -> None:
        """Compose each operand's table into its reader's; a reader is named once."""
        k = self.k
        outer = [column[reader] for column in self.columns]
        inner = [column[operand] for column in self.columns]
        own = (operand + self.first).astype(np.int32)
        nets = _union(outer, inner, own, k)
        table = np.zeros(len(reader), np.uint64)
        place_outer = [_places(nets, net) for net in outer]
        place_inner = [_places(nets, net) for net in inner]
        t_outer = self.table[reader].astype(np.uint64)
        t_inner = self.table[operand].astype(np.uint64)
        one = np.uint64(1)
        is_operand = [net == own for net in outer]
        for i in range(1 << k):
            bits = np.array([*(i >> (k - 1 - j) & 1 for j in range(k)), 0], np.uint64)
            index = np.zeros(len(reader), np.uint64)
            for place in place_inner:
                index = index << one | bits[place]
            value = t_inner >> index & one
            index = np.zeros(len(reader), np.uint64)
            for place, here in zip(place_outer, is_operand, strict=True):
                index = index << one | np.where(here, value, bits[place])
            table |= (t_outer >> index & one) << np.uint64(i)
        for j, net in enumerate(nets):
            self.columns[j][reader] = net
        self.table[reader] = table.astype(self.table.dtype)
        self._drop_unused(reader)

    def _drop_unused(self, rows: Index) -> None:
        """Forget operands that the composed tables turned out to ignore."""
        for j, column in enumerate(self.columns):
            column[rows[~depends_on(self.table[rows], self.k, j)]] = FALSE

    def cover(self) -> Cover:
        from lgir.passes.kernels.cover import Cover

        columns, table = list(self.columns), self.table
        for j, column in enumerate(columns):
            # Composed tables may have come to ignore a net.
            columns[j] = np.where(depends_on(table, self.k, j), column, FALSE)
        table = sort_operands(columns, table, self.k)
        return Cover(np.stack(columns, axis=1), table, self.alive)


def _union(outer: list[Literals], inner: list[Literals], own: Literals, k: int) -> list[Literals]:
    """k columns of the nets that `outer` without `own`, and `inner`, read; 0 fills the rest."""
    rows = np.stack([*(np.where(net == own, FALSE, net) for net in outer), *inner], axis=1)
    rows = np.sort(rows, axis=1)
    rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = FALSE
    rows = -np.sort(-rows, axis=1)[:, :k]
    return [np.ascontiguousarray(rows[:, j]) for j in range(k)]


def _places(nets: list[Literals], wanted: Literals) -> Index:
    """(n,) the column that holds each wanted net; len(nets) for net 0."""
    place = np.full(len(wanted), len(nets), np.int64)
    for j, net in enumerate(nets):
        place[(net == wanted) & (wanted != FALSE)] = j
    return place
