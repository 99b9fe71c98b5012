"""One sweep over a body that folds and, if asked, shares gates: the kernel of `fold` and `cse`.

Every net gets a literal, 2 * net + complement: what it is known to equal. Level by level, gates
read their operands' literals, absorb complements and constants into their tables, sort operands,
and may turn into a literal themselves; with sharing, gates of one level that are equal up to a
complement get one literal (structural hashing, as in AIG packages, on tables of up to six inputs).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, reduce
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body, IntArray, Rows
from lgir.ir.truth_tables import (
    cofactor,
    complement_input,
    depends_on,
    full_mask,
    merge_adjacent_inputs,
    not_table,
    swap_inputs,
)
from lgir.ir.types import FALSE, FIRST_TAP, TRUE

Literals = npt.NDArray[np.int32]
Index = npt.NDArray[np.int64]

_CHUNK: Final = 1 << 15  # gates folded at a time: what they read and make stays in cache
_SHARE_CHUNK: Final = 1 << 18


@dataclass(frozen=True)
class Normalised:
    """The new body (the same object where nothing changed) and what its outputs equal.

    `outputs` holds (C,) literals over the *new* body's nets. `settled` is False where a gate came
    nearer to the taps, so that it may now equal one of its new level: sweep again to share those.
    """

    body: Body
    outputs: Literals
    settled: bool


def normalise(body: Body, taps: Literals, share: bool) -> Normalised:
    """Fold `body` given what its taps equal.

    Args:
        taps: (T,) literals: 0 or 1 for a constant, else 2 * net (+ 1 if complemented) of a tap
            that is no later than its own.
        share: merge equal gates too.
    """
    first, k = body.first_gate, body.k
    lit = 2 * np.arange(body.num_nets, dtype=np.int32)
    lit[TRUE] = 1
    lit[FIRST_TAP:first] = taps
    own = lit[first:]
    fanin, table = body.fanin.copy(), body.table.copy()
    columns = [fanin[:, j] for j in range(k)]
    depth = np.zeros(body.num_nets if share else 0, np.int32)
    settled = True
    for level, runs in groupby(body.level_runs(_CHUNK), key=itemgetter(0)):
        seen = []
        for _, rows in runs:
            nets, t = _fold_level([lit[column[rows]] for column in columns], table[rows], k)
            for column, net in zip(columns, nets, strict=True):
                column[rows] = net
            table[rows] = t
            single = nets[1] == FALSE if k > 1 else np.ones(len(t), bool)
            own[rows] = np.where(single, 2 * nets[0] + (t & 1).astype(np.int32), own[rows])
            if share:
                deep = 1 + reduce(np.maximum, [depth[net] for net in nets])
                settled &= bool((single | (deep == level)).all())
                depth[first:][rows] = deep
                seen.append(rows)
        if share:
            _share_level(columns, table, _gates(seen), own)
    del depth
    return Normalised(*_rebuild(body, lit, fanin, table, share), settled)


def _gates(runs: list[Rows]) -> Literals:
    """The gates of some runs, ascending."""
    return np.concatenate(
        [np.arange(r.start, r.stop, dtype=np.int32) if isinstance(r, slice) else r for r in runs]
    )


def _fold_level(
    literals: list[Literals], t: npt.NDArray[Any], k: int
) -> tuple[list[Literals], Any]:
    """Operand literals and tables of some gates in normal form.

    Normal form: operands are distinct nets in ascending order, the table depends on each of them,
    and unused operands are 0 at the end.
    """
    nets = []
    for j, literal in enumerate(literals):
        net = literal >> 1
        odd = (literal & 1).astype(bool)
        if odd.any():
            t = np.where(odd, complement_input(t, k, j), t)
        constant = net == FALSE
        if constant.any():
            t = np.where(constant, cofactor(t, k, j, False), t)
        nets.append(net)
    t = sort_operands(nets, t, k)
    for j in range(k - 2, -1, -1):
        same = (nets[j] == nets[j + 1]) & (nets[j] != FALSE)
        if same.any():
            t = np.where(same, merge_adjacent_inputs(t, k, j), t)
    unused = np.zeros(len(t), bool)
    for j in range(k):
        idle = ~depends_on(t, k, j) & (nets[j] != FALSE)
        if idle.any():
            nets[j] = np.where(idle, np.int32(FALSE), nets[j])
            unused |= idle
    if unused.any() and k > 1:
        rows = np.flatnonzero(unused)
        part = [net[rows] for net in nets]
        t[rows] = sort_operands(part, t[rows], k)
        for net, new in zip(nets, part, strict=True):
            net[rows] = new
    return nets, t


@cache
def _sorting_steps(k: int) -> tuple[int, ...]:
    """Positions j of compare-exchanges (j, j + 1) that sort k columns (odd-even transposition)."""
    return tuple(j for round_ in range(k) for j in range(round_ % 2, k - 1, 2))


def sort_operands(nets: list[Literals], t: npt.NDArray[Any], k: int) -> npt.NDArray[Any]:
    """Sort operand columns in place, constants (0) last; returns the permuted tables."""
    for j in _sorting_steps(k):
        a, b = nets[j], nets[j + 1]
        # 0 - 1 wraps to the largest unsigned number, which sorts last.
        swap = (a - 1).view(np.uint32) > (b - 1).view(np.uint32)
        if swap.any():
            nets[j], nets[j + 1] = np.where(swap, b, a), np.where(swap, a, b)
            t = np.where(swap, swap_inputs(t, k, j, j + 1), t)
    return t


def _share_level(
    columns: list[Literals], table: npt.NDArray[Any], gates: Literals, own: Literals
) -> None:
    """Give gates of one level that are equal up to a complement the literal of the first of them.

    `own` (G,) holds every gate's literal. Equal gates have the same first operand, so they are
    compared in parts by a hash of it, which bounds what hashing and sorting take.
    """
    k = len(columns)
    if k > 1:
        gates = gates[columns[1][gates] != FALSE]
    if k == 1 or len(gates) < 2:
        return
    parts = -(-len(gates) // _SHARE_CHUNK)
    part = (columns[0][gates].view(np.uint32) * np.uint32(0x9E3779B1) >> np.uint32(16)) % parts
    for i in range(parts):
        rows = gates[part == i] if parts > 1 else gates
        tables = table[rows]
        odd = (tables & 1).astype(bool)  # a class's representative has f(0..0) = 0
        plain = np.where(odd, tables ^ full_mask(k), tables)
        first = first_equal([*(column[rows] for column in columns), plain])
        merged = np.flatnonzero(first != np.arange(len(rows)))
        head = first[merged]
        own[rows[merged]] = own[rows[head]] ^ (odd[merged] != odd[head])


def first_equal(columns: list[npt.NDArray[Any]]) -> Index:
    """(n,) index of the first row equal to each row, rows being spread over equal-length columns.

    A hash table in rounds: the first row of each slot is the first of its kind, rows that equal it
    are done, and the others try other slots.
    """
    n = len(columns[0])
    first = np.arange(n)
    rows, key = first, row_hash(columns)
    bits = n.bit_length() + 1
    table = np.empty(1 << bits, np.int32)
    while len(rows):
        slot = (key >> np.uint64(64 - bits)).astype(np.int64)
        table[slot[::-1]] = rows[::-1]  # the last that is assigned stays
        head = table[slot]
        same = np.logical_and.reduce([column[rows] == column[head] for column in columns])
        if rows is first:
            first = np.where(same, head, first)
        else:
            first[rows[same]] = head[same]
        rows, key = rows[~same], key[~same] * np.uint64(0x9E37_79B9_7F4A_7C15)
    return first


def row_hash(columns: list[npt.NDArray[Any]]) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each row (splitmix64's finaliser over a running sum)."""
    h = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        h += column.astype(np.uint64)
        h ^= h >> np.uint64(30)
        h *= np.uint64(0xBF58476D1CE4E5B9)
        h ^= h >> np.uint64(27)
        h *= np.uint64(0x94D049BB133111EB)
        h ^= h >> np.uint64(31)
    return h


def _rebuild(
    body: Body, lit: Literals, fanin: IntArray, table: npt.NDArray[Any], share: bool
) -> tuple[Body, Literals]:
    """The body without the gates that became another literal, unless an output needs one.

    `lit` holds every net's literal; `fanin` and `table` are taken over.
    """
    first, k = body.first_gate, body.k
    outputs = lit[body.outputs]
    source = outputs >> 1
    flipped = _flip_for_outputs(body, outputs, fanin, table)
    outputs = outputs ^ flipped[source]
    # A complemented output needs its inverter: its own gate becomes (or stays) NOT of the source.
    inverted = (outputs & 1).astype(bool) & (source != FALSE)
    target = np.where(source == FALSE, outputs, source)
    if inverted.any():
        at = np.flatnonzero(inverted)
        own = body.outputs[at]
        if share:
            own = own[first_equal([outputs[at]])]
        # A complemented literal belongs to a gate, or to a tap that equals another's complement.
        gate = own >= first
        rows = own[gate] - first
        fanin[rows] = FALSE
        fanin[rows, 0] = source[at][gate]
        table[rows] = not_table(k)
        target[at] = np.where(gate, own, body.outputs[at])
    keep = np.ones(body.num_nets, bool)
    for start in range(first, body.num_nets, _CHUNK):
        stop = min(start + _CHUNK, body.num_nets)
        keep[start:stop] = lit[start:stop] == 2 * np.arange(start, stop, dtype=np.int32)
    keep[target] = True
    new = Body.build(body.taps, fanin, table, target, copy=False)
    if keep.all():
        literals = np.where(source == FALSE, outputs, 2 * source + (outputs & 1))
        return body if new == body else new, literals
    new = new.restricted(keep)
    new_id = np.cumsum(keep, dtype=np.int32) - 1
    literals = np.where(source == FALSE, outputs, 2 * new_id[source] + (outputs & 1))
    return new, literals


def _flip_for_outputs(
    body: Body, outputs: Literals, fanin: IntArray, table: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    """(num_nets,) gates that outputs read as complements only: these, and their readers' tables,
    are complemented in place, which saves an inverter each.
    """
    source, odd = outputs >> 1, (outputs & 1).astype(bool)
    flipped = np.zeros(body.num_nets, bool)
    flipped[source[odd]] = True
    flipped[source[~odd]] = False
    flipped[: body.first_gate] = False
    if flipped.any():
        for j in range(body.k):
            rows = np.flatnonzero(flipped[fanin[:, j]])
            table[rows] = complement_input(table[rows], body.k, j)
        table[flipped[body.first_gate :]] ^= table.dtype.type(full_mask(body.k))
    return flipped
