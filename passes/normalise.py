"""One sweep over a body that folds and, if asked, shares gates: the kernel of `fold` and `cse`.

Every net gets a literal, 2 * net + complement: what it is known to equal. Level by level, gates
read their operands' literals, absorb complements and constants into their tables, sort operands,
and may turn into a literal themselves; with sharing, gates of one level that are equal up to a
complement get one literal (structural hashing, as in AIG packages, on tables of up to six inputs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.body import FALSE, TRUE, Body
from lgir.ops import full_mask
from lgir.passes.tables import (
    cofactor,
    depends,
    flip,
    merge_adjacent,
    sorting_steps,
    swap_adjacent,
)

Literals = npt.NDArray[np.int32]
Index = npt.NDArray[np.int64]

NOT_TABLE_LOW = 0b01  # a unary NOT as the leading bits of any table: f(0) = 1


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
    lit = np.arange(body.num_nets, dtype=np.int32) * 2
    lit[TRUE] = 1
    lit[2 : body.first_gate] = taps
    columns = [body.fanin[:, j].copy() for j in range(body.k)]
    table = body.table.copy()
    depth = np.zeros(body.num_nets, np.int32)
    settled = True
    for level, gates in enumerate(body.gates_by_level(), start=1):
        nets, t = _fold_level([lit[column[gates]] for column in columns], table[gates], body.k)
        own = (gates + body.first_gate).astype(np.int32)
        literal = own * 2
        single = nets[1] == FALSE if body.k > 1 else np.ones(len(gates), bool)
        literal[single] = 2 * nets[0][single] + (t[single] & 1).astype(np.int32)
        if share:
            _share_level(nets, t, np.flatnonzero(~single), literal, body.k)
            depth[own] = 1 + np.maximum.reduce([depth[net] for net in nets])
            settled &= bool((depth[own] == level)[~single].all())
        for column, net in zip(columns, nets, strict=True):
            column[gates] = net
        table[gates] = t
        lit[own] = literal
    new, outputs = _rebuild(body, lit, columns, table, share)
    return Normalised(new, outputs, settled)


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
            t = np.where(odd, flip(t, k, j), t)
        constant = net == FALSE
        if constant.any():
            t = np.where(constant, cofactor(t, k, j, False), t)
        nets.append(net)
    t = _sort(nets, t, k)
    for j in range(k - 2, -1, -1):
        same = (nets[j] == nets[j + 1]) & (nets[j] != FALSE)
        if same.any():
            t = np.where(same, merge_adjacent(t, k, j), t)
    unused = np.zeros(len(t), bool)
    for j in range(k):
        idle = ~depends(t, k, j) & (nets[j] != FALSE)
        if idle.any():
            nets[j] = np.where(idle, np.int32(FALSE), nets[j])
            unused |= idle
    if unused.any() and k > 1:
        rows = np.flatnonzero(unused)
        part = [net[rows] for net in nets]
        t[rows] = _sort(part, t[rows], k)
        for net, new in zip(nets, part, strict=True):
            net[rows] = new
    return nets, t


def _sort(nets: list[Literals], t: npt.NDArray[Any], k: int) -> npt.NDArray[Any]:
    """Sort operand columns in place, constants (0) last; returns the permuted tables."""
    for j in sorting_steps(k):
        a, b = nets[j], nets[j + 1]
        # 0 - 1 wraps to the largest unsigned number, which sorts last.
        swap = (a - 1).view(np.uint32) > (b - 1).view(np.uint32)
        if swap.any():
            nets[j], nets[j + 1] = np.where(swap, b, a), np.where(swap, a, b)
            t = np.where(swap, swap_adjacent(t, k, j), t)
    return t


def _share_level(
    nets: list[Literals], t: npt.NDArray[Any], rows: Index, literal: Literals, k: int
) -> None:
    """Give gates of `rows` that are equal up to a complement the literal of the first of them."""
    if len(rows) < 2:
        return
    tables = t[rows]
    odd = (tables & 1).astype(bool)  # the class is represented by its member with f(0..0) = 0
    plain = np.where(odd, tables ^ full_mask(k), tables)
    first = first_equal([*(net[rows] for net in nets), plain])
    merged = np.flatnonzero(first != np.arange(len(rows)))
    head = first[merged]
    literal[rows[merged]] = literal[rows[head]] ^ (odd[merged] != odd[head])


def first_equal(columns: list[npt.NDArray[Any]]) -> Index:
    """(n,) index of the first row equal to each row, rows being spread over equal-length columns.

    Rows are sorted by a hash, and neighbours of one hash compared in full.
    """
    n = len(columns[0])
    low = np.uint64((1 << n.bit_length()) - 1)
    # The row's number fills the hash's low bits: sorting values beats sorting indices fourfold.
    key = np.sort((row_hash(columns) & ~low) | np.arange(n, dtype=np.uint64))
    order = (key & low).astype(np.int64)
    key &= ~low
    same = key[1:] == key[:-1]
    where = np.flatnonzero(same)
    here, there = order[where + 1], order[where]
    if all(np.array_equal(column[here], column[there]) for column in columns):
        start = np.concatenate([[True], ~same])
    else:  # two rows share a hash
        order = np.lexsort(columns)
        start = np.concatenate([[True], np.zeros(n - 1, bool)])
        for column in columns:
            start[1:] |= column[order[1:]] != column[order[:-1]]
    first = np.empty(n, np.int64)
    first[order] = order[np.flatnonzero(start)][np.cumsum(start) - 1]
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
    body: Body, lit: Literals, columns: list[Literals], table: npt.NDArray[Any], share: bool
) -> tuple[Body, Literals]:
    """The body without the gates that became another literal, unless an output needs one."""
    first, k = body.first_gate, body.k
    outputs = lit[body.outputs]
    source = outputs >> 1
    flipped = _flip_for_outputs(body, outputs, columns, table)
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
        for j, column in enumerate(columns):
            column[rows] = source[at][gate] if j == 0 else FALSE
        table[rows] = _not_table(k)
        target[at] = np.where(gate, own, body.outputs[at])
    keep = np.zeros(body.num_nets, bool)
    keep[:first] = True
    keep[first:] = lit[first:] == 2 * np.arange(first, body.num_nets, dtype=np.int32)
    keep[target] = True
    new_id = np.cumsum(keep, dtype=np.int32) - 1
    kept = np.flatnonzero(keep[first:])
    if len(kept) < body.num_gates:
        columns, table = [new_id[column[kept]] for column in columns], table[kept]
    fanin = np.empty((len(kept), k), np.int32)
    for j, column in enumerate(columns):
        fanin[:, j] = column
    new = Body.build(body.taps, fanin, table, new_id[target])
    literals = np.where(source == FALSE, outputs, 2 * new_id[source] + (outputs & 1))
    return body if new == body else new, literals.astype(np.int32)


def _flip_for_outputs(
    body: Body, outputs: Literals, columns: list[Literals], table: npt.NDArray[Any]
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
        for j, column in enumerate(columns):
            rows = np.flatnonzero(flipped[column])
            table[rows] = flip(table[rows], body.k, j)
        table[flipped[body.first_gate :]] ^= table.dtype.type(full_mask(body.k))
    return flipped


def _not_table(k: int) -> int:
    """NOT of the first of k inputs."""
    return full_mask(k) >> (1 << (k - 1))
