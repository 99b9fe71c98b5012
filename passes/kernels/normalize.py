"""Normalize a body level by level: the kernel of `fold` and `cse`.

Every net gets a literal, what it is known to equal. Level by level, gates read the literals of
their operands, absorb complements and constants into their tables, sort their operands, and may
turn into a literal themselves. With sharing, gates of one level that are equal up to a complement
get one literal. This is structural hashing as in AIG packages, on tables of up to six inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, reduce
from itertools import groupby
from operator import itemgetter
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body, IntArray, Rows
from lgir.ir.truth_tables import (
    Tables,
    cofactor,
    complement_input,
    depends_on,
    full_mask,
    merge_adjacent_inputs,
    not_table,
    swap_inputs,
)
from lgir.ir.types import FALSE, FIRST_TAP, TRUE
from lgir.passes.kernels.literals import Literals
from lgir.passes.kernels.rows import first_equal

_CHUNK: Final = 1 << 15
"""Gates folded at a time, so that their operands and temporaries stay in cache."""
_SHARE_CHUNK: Final = 1 << 18
"""Gates compared at a time, which bounds the memory of hashing."""


@dataclass(frozen=True)
class NormalizedBody:
    """A body in normal form, and what is known of its outputs.

    Attributes:
        body: the new body; the same object if nothing changed.
        outputs: (C,) the literals over the new body's nets that the outputs equal.
        settled: False if a gate moved to a lower level, in which it may equal another gate.
            Normalize again to share those.
    """

    body: Body
    outputs: Literals
    settled: bool


def normalize(body: Body, taps: Literals, share: bool) -> NormalizedBody:
    """Fold a body, given what its taps equal.

    Args:
        taps: (T,) the literal that each tap equals, of a constant or of a tap that is not later.
        share: whether to merge equal gates too.
    """
    first, k = body.first_gate, body.k
    literal = 2 * np.arange(body.num_nets, dtype=np.int32)
    literal[TRUE] = 1
    literal[FIRST_TAP:first] = taps
    gate_literal = literal[first:]
    fanin, table = body.fanin.copy(), body.table.copy()
    columns = [fanin[:, j] for j in range(k)]
    depth = np.zeros(body.num_nets if share else 0, np.int32)
    settled = True
    for level, chunks in groupby(body.level_runs(_CHUNK), key=itemgetter(0)):
        level_rows = []
        for _, rows in chunks:
            nets, t = _fold_gates([literal[column[rows]] for column in columns], table[rows], k)
            for column, net in zip(columns, nets, strict=True):
                column[rows] = net
            table[rows] = t
            is_literal = nets[1] == FALSE if k > 1 else np.ones(len(t), bool)
            gate_literal[rows] = np.where(
                is_literal, 2 * nets[0] + (t & 1).astype(np.int32), gate_literal[rows]
            )
            if share:
                new_level = 1 + reduce(np.maximum, [depth[net] for net in nets])
                settled &= bool((is_literal | (new_level == level)).all())
                depth[first:][rows] = new_level
                level_rows.append(rows)
        if share:
            _share_gates(columns, table, _gates(level_rows), gate_literal)
    del depth
    return NormalizedBody(*_rebuild(body, literal, fanin, table, share), settled)


def _gates(chunks: list[Rows]) -> Literals:
    """Return the gates of some chunks, ascending."""
    return np.concatenate(
        [np.arange(r.start, r.stop, dtype=np.int32) if isinstance(r, slice) else r for r in chunks]
    )


def _fold_gates(literals: list[Literals], t: Tables, k: int) -> tuple[list[Literals], Tables]:
    """Return the operand nets and the tables of some gates in normal form.

    In normal form, operands are distinct nets in ascending order, the table depends on each of
    them, and unused operands are 0 and stand at the end.

    Args:
        literals: k columns, the literals of the operands.
        t: (n,) the tables.
    """
    nets = []
    for j, literal in enumerate(literals):
        net = literal >> 1
        complemented = (literal & 1).astype(bool)
        if complemented.any():
            t = np.where(complemented, complement_input(t, k, j), t)
        constant = net == FALSE
        if constant.any():
            t = np.where(constant, cofactor(t, k, j, False), t)
        nets.append(net)
    t = sort_operands(nets, t, k)
    for j in range(k - 2, -1, -1):
        same = (nets[j] == nets[j + 1]) & (nets[j] != FALSE)
        if same.any():
            t = np.where(same, merge_adjacent_inputs(t, k, j), t)
    has_unused = np.zeros(len(t), bool)
    for j in range(k):
        unused = ~depends_on(t, k, j) & (nets[j] != FALSE)
        if unused.any():
            nets[j] = np.where(unused, np.int32(FALSE), nets[j])
            has_unused |= unused
    if has_unused.any() and k > 1:
        rows = np.flatnonzero(has_unused)
        row_nets = [net[rows] for net in nets]
        t[rows] = sort_operands(row_nets, t[rows], k)
        for net, sorted_net in zip(nets, row_nets, strict=True):
            net[rows] = sorted_net
    return nets, t


@cache
def _sorting_steps(k: int) -> tuple[int, ...]:
    """Return the positions j of compare-exchanges (j, j + 1) that sort k columns.

    This is odd-even transposition sort.
    """
    return tuple(j for round_ in range(k) for j in range(round_ % 2, k - 1, 2))


def sort_operands(nets: list[Literals], t: Tables, k: int) -> Tables:
    """Sort operand columns in place, constants (0) last, and return the permuted tables."""
    for j in _sorting_steps(k):
        a, b = nets[j], nets[j + 1]
        # 0 - 1 wraps to the largest unsigned number, which sorts last.
        swap = (a - 1).view(np.uint32) > (b - 1).view(np.uint32)
        if swap.any():
            nets[j], nets[j + 1] = np.where(swap, b, a), np.where(swap, a, b)
            t = np.where(swap, swap_inputs(t, k, j, j + 1), t)
    return t


def _share_gates(
    columns: list[Literals], table: Tables, gates: Literals, gate_literal: Literals
) -> None:
    """Give gates of one level that are equal up to a complement the literal of their first.

    Equal gates have the same first operand. So gates are compared in parts by a hash of it, which
    bounds the memory of hashing and sorting.

    Args:
        gate_literal: (G,) the literal of every gate of the body, changed in place.
    """
    k = len(columns)
    if k > 1:
        gates = gates[columns[1][gates] != FALSE]
    if k == 1 or len(gates) < 2:
        return
    num_parts = -(-len(gates) // _SHARE_CHUNK)
    first_operand = columns[0][gates].view(np.uint32)
    part = (first_operand * np.uint32(0x9E3779B1) >> np.uint32(16)) % num_parts
    for i in range(num_parts):
        rows = gates[part == i] if num_parts > 1 else gates
        tables = table[rows]
        complemented = (tables & 1).astype(bool)  # A class's representative has f(0, ..., 0) = 0.
        representative = np.where(complemented, tables ^ full_mask(k), tables)
        first = first_equal([*(column[rows] for column in columns), representative])
        merged = np.flatnonzero(first != np.arange(len(rows)))
        head = first[merged]
        flips = complemented[merged] != complemented[head]
        gate_literal[rows[merged]] = gate_literal[rows[head]] ^ flips


def _rebuild(
    body: Body, literal: Literals, fanin: IntArray, table: Tables, share: bool
) -> tuple[Body, Literals]:
    """Return the body without the gates that became another literal, and its outputs' literals.

    A gate stays if an output needs it as an inverter. `literal` holds every net's literal; `fanin`
    and `table` are taken over.
    """
    first, k = body.first_gate, body.k
    outputs = literal[body.outputs]
    source = outputs >> 1
    flipped = _flip_for_outputs(body, outputs, fanin, table)
    outputs = outputs ^ flipped[source]
    # A complemented output needs an inverter: its own gate becomes (or stays) NOT of the source.
    inverted = (outputs & 1).astype(bool) & (source != FALSE)
    target = np.where(source == FALSE, outputs, source)
    if inverted.any():
        channel = np.flatnonzero(inverted)
        inverter = body.outputs[channel]
        if share:
            inverter = inverter[first_equal([outputs[channel]])]
        # A complemented literal belongs to a gate, or to a tap that equals another's complement.
        is_gate = inverter >= first
        rows = inverter[is_gate] - first
        fanin[rows] = FALSE
        fanin[rows, 0] = source[channel][is_gate]
        table[rows] = not_table(k)
        target[channel] = np.where(is_gate, inverter, body.outputs[channel])
    keep = np.ones(body.num_nets, bool)
    for start in range(first, body.num_nets, _CHUNK):
        stop = min(start + _CHUNK, body.num_nets)
        keep[start:stop] = literal[start:stop] == 2 * np.arange(start, stop, dtype=np.int32)
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
    body: Body, outputs: Literals, fanin: IntArray, table: Tables
) -> npt.NDArray[np.bool_]:
    """Complement gates that outputs read as complements only, and return which nets, (num_nets,).

    The tables of these gates and of their readers are changed in place. That saves an inverter per
    gate.
    """
    source, complemented = outputs >> 1, (outputs & 1).astype(bool)
    flipped = np.zeros(body.num_nets, bool)
    flipped[source[complemented]] = True
    flipped[source[~complemented]] = False
    flipped[: body.first_gate] = False
    if flipped.any():
        for j in range(body.k):
            rows = np.flatnonzero(flipped[fanin[:, j]])
            table[rows] = complement_input(table[rows], body.k, j)
        table[flipped[body.first_gate :]] ^= table.dtype.type(full_mask(body.k))
    return flipped
