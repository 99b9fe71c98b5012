"""Eliminate tables of a cover into all of their readers, as many as possible.

A table can go if each of its readers can absorb it and still has at most k inputs. Two removals
conflict if they share a reader or if one table reads the other, so the most removals are a maximum
independent set. Each round takes candidates that block the fewest others (the minimum-degree greedy
rule), as many as do not conflict.

Unlike area flow over cuts, this counts a gate with two readers as saved if both absorb it, which is
what random networks have most of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body, Mask
from lgir.ir.truth_tables import Tables, depends_on
from lgir.ir.types import FALSE
from lgir.passes.kernels.cover import LutCover
from lgir.passes.kernels.literals import Index, Literals
from lgir.passes.kernels.normalize import sort_operands

_NEVER = np.iinfo(np.int64).max


def eliminate(body: Body, cover: LutCover) -> LutCover:
    """Return the cover after as many removals of its tables as do not conflict."""
    elimination = _Elimination(body, cover)
    while elimination.remove_round():
        pass
    return elimination.cover()


@dataclass(frozen=True)
class _Reads:
    """Reads of gates by gates, an entry per read: the gate numbers of reader and operand."""

    reader: Index
    operand: Index


class _Elimination:
    """A cover while tables are removed from it, a round at a time."""

    def __init__(self, body: Body, cover: LutCover) -> None:
        self.k = cover.fanin.shape[1]
        self.first = body.first_gate
        self.alive = cover.alive.copy()
        fanin = np.where(self.alive[:, None], cover.fanin, FALSE)
        self.columns = [fanin[:, j].copy() for j in range(self.k)]
        self.table = cover.table.copy()
        self.is_output = np.zeros(body.num_gates, bool)
        self.is_output[body.outputs[body.outputs >= self.first] - self.first] = True

    def remove_round(self) -> bool:
        """Remove a set of tables that do not conflict; return False if none can be removed."""
        reads = self._reads()
        blocked = ~self._fits(reads)
        num_readers = np.bincount(reads.operand, minlength=len(self.alive))
        candidate = self.alive & ~self.is_output & (num_readers > 0)
        candidate[reads.operand[blocked]] = False
        if not candidate.any():
            return False
        removed = _independent(reads, candidate)
        absorbed = removed[reads.operand]
        self._absorb(reads.reader[absorbed], reads.operand[absorbed])
        self.alive[removed] = False
        for column in self.columns:
            column[removed] = FALSE
        return True

    def _reads(self) -> _Reads:
        readers = [np.flatnonzero(column >= self.first) for column in self.columns]
        operands = [
            column[reader] - self.first
            for column, reader in zip(self.columns, readers, strict=True)
        ]
        return _Reads(np.concatenate(readers), np.concatenate(operands).astype(np.int64))

    def _fits(self, reads: _Reads) -> Mask:
        """Return per read whether the reader can absorb the operand."""
        size = np.full(len(reads.reader), -1, np.int8)  # The operand itself goes.
        reader_nets = [column[reads.reader] for column in self.columns]
        for net in reader_nets:
            size += net != FALSE
        for column in self.columns:
            operand_net = column[reads.operand]
            is_new = operand_net != FALSE
            for net in reader_nets:
                is_new &= net != operand_net
            size += is_new
        return np.asarray(size <= self.k, dtype=bool)

    def _absorb(self, reader: Index, operand: Index) -> None:
        """Compose each operand's table into its reader's; a reader is named once."""
        outer = [column[reader] for column in self.columns]
        inner = [column[operand] for column in self.columns]
        operand_net = (operand + self.first).astype(np.int32)
        nets = _union(outer, inner, operand_net, self.k)
        table = _composed(self.table[reader], outer, self.table[operand], inner, operand_net, nets)
        for j, net in enumerate(nets):
            self.columns[j][reader] = net
        self.table[reader] = table.astype(self.table.dtype)
        for j, column in enumerate(self.columns):  # A composed table may ignore an operand.
            column[reader[~depends_on(self.table[reader], self.k, j)]] = FALSE

    def cover(self) -> LutCover:
        """Return the cover that is left, with operands in ascending order."""
        columns = [
            np.where(depends_on(self.table, self.k, j), column, FALSE)
            for j, column in enumerate(self.columns)
        ]
        table = sort_operands(columns, self.table, self.k)
        return LutCover(np.stack(columns, axis=1), table, self.alive)


def _independent(reads: _Reads, candidate: Mask) -> Mask:
    """Return the candidates (G,) that block the fewest others, no two of which conflict."""
    gates = len(candidate)
    reader, operand = reads.reader, reads.operand
    live = candidate[operand]
    # A candidate blocks the candidates beside it in its readers, its readers, and its operands.
    beside = np.bincount(reader, live, gates) + candidate
    cost = np.bincount(operand, beside[reader], gates) + np.bincount(reader, live, gates)
    number = np.arange(gates, dtype=np.int64)
    # Multiplying by an odd number is a bijection, so it breaks ties evenly and leaves none.
    tie_break = number * 0x9E3779B1 & 0xFFFF_FFFF
    rank = cost.astype(np.int64) << 32 | tie_break
    # Only the cheapest go in one round: on trees that is optimal, leaves before inner gates.
    candidate = candidate & (cost == cost[candidate].min())
    rank[~candidate] = _NEVER
    best = rank.copy()  # The best rank among a gate and the candidates that it reads.
    np.minimum.at(best, reader[live], rank[operand[live]])
    loses = best[reader] < rank[operand]
    chosen: Mask = candidate & (best == rank)
    chosen[operand[loses]] = False
    return chosen


def _union(
    outer: list[Literals], inner: list[Literals], operand: Literals, k: int
) -> list[Literals]:
    """Return k columns of the nets that `outer` without `operand`, and `inner`, read.

    Nets descend in each row, and 0 fills the rest.
    """
    rows = np.stack([*(np.where(net == operand, FALSE, net) for net in outer), *inner], axis=1)
    rows = np.sort(rows, axis=1)
    rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = FALSE
    rows = -np.sort(-rows, axis=1)[:, :k]
    return [np.ascontiguousarray(rows[:, j]) for j in range(k)]


def _composed(
    outer_table: Tables,
    outer: list[Literals],
    inner_table: Tables,
    inner: list[Literals],
    operand: Literals,
    nets: list[Literals],
) -> npt.NDArray[np.uint64]:
    """Return, over `nets`, the outer tables with the inner ones in place of `operand`.

    Args:
        outer, inner: columns of the nets that the outer and inner tables read.
    """
    k, one = len(nets), np.uint64(1)
    table = np.zeros(len(operand), np.uint64)
    outer_columns = [_columns_of(nets, net) for net in outer]
    inner_columns = [_columns_of(nets, net) for net in inner]
    outer_table, inner_table = outer_table.astype(np.uint64), inner_table.astype(np.uint64)
    is_operand = [net == operand for net in outer]
    for i in range(1 << k):
        bits = np.array([*(i >> (k - 1 - j) & 1 for j in range(k)), 0], np.uint64)
        index = np.zeros(len(operand), np.uint64)
        for column in inner_columns:
            index = index << one | bits[column]
        value = inner_table >> index & one
        index = np.zeros(len(operand), np.uint64)
        for column, replaced in zip(outer_columns, is_operand, strict=True):
            index = index << one | np.where(replaced, value, bits[column])
        table |= (outer_table >> index & one) << np.uint64(i)
    return table


def _columns_of(nets: list[Literals], operands: Literals) -> Index:
    """Return the column that holds each operand (n,), len(nets) for net 0."""
    column = np.full(len(operands), len(nets), np.int64)
    for j, net in enumerate(nets):
        column[(net == operands) & (operands != FALSE)] = j
    return column
