"""Truth tables of windows: many pairs of nets compared at once by exhaustive local simulation.

A window starts at two nets and grows toward the taps, first at the gates that only one of the two
reads, until it has too many leaves. Equal tables over the leaves prove the nets equal; different
ones refute them if all leaves are taps (exhaustive local simulation, as in mockturtle's
resubstitution).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.equivalence.arrays import Index, Literals, Mask
from lgir.equivalence.implications import Implications
from lgir.ir.body import Body
from lgir.ir.simulate import Words, evaluate_tables
from lgir.ir.types import FALSE, FIRST_TAP

MAX_LEAVES: Final = 8
_ONE_SIDED_STEPS: Final = 6  # gates taken in that only one of the two nets reads
_STEPS: Final = 10  # gates taken in after those
_ONES: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


def _patterns() -> Words:
    """Return the table of each leaf, uint64 (MAX_LEAVES, words).

    Leaf j is bit j of the row number, so leaves after the last one used repeat the rows before.
    """
    rows = np.arange(1 << MAX_LEAVES)
    bits = (rows >> np.arange(MAX_LEAVES)[:, None] & 1).astype(bool)
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)


_PATTERNS: Final = _patterns()


class WindowTables:
    """Compares literals of one body by the tables of windows.

    `literal` (num_nets,) is what each net is known to equal, through which windows are read; its
    owner updates it in place.
    """

    def __init__(self, body: Body, literal: Literals, implications: Implications) -> None:
        self.body = body
        self.literal = literal
        self.implications = implications if implications.exist else None

    def compare(self, x: Literals, y: Literals) -> tuple[Mask, list[tuple[int, Index, Mask]]]:
        """Compare literals (n,) pair by pair.

        Returns:
            Which pairs are proved equal, bool (n,), and for some of the others what tells them
            apart: the pair's number, nets that are taps, and their values.
        """
        equal = x == y
        rows = np.flatnonzero(~equal)
        window = _WindowBatch(self, x[rows] >> 1, y[rows] >> 1)
        refuted: list[tuple[int, Index, Mask]] = []
        for one_sided, steps in ((True, _ONE_SIDED_STEPS), (False, _STEPS)):
            if not len(rows):
                break
            window.grow(steps, one_sided)
            differs = window.differs(x[rows], y[rows])
            unequal: Mask = np.bitwise_or.reduce(differs, axis=1) != 0
            equal[rows[~unequal]] = True
            whole: Mask = unequal & (window.border < self.body.first_gate).all(axis=1)
            samples = _first_differences(window.border[whole], differs[whole])
            refuted += [(r, *s) for r, s in zip(rows[whole].tolist(), samples, strict=True)]
            undecided: Mask = unequal & ~whole
            window.keep(undecided)
            rows = rows[undecided]
        return equal, refuted


class _WindowBatch:
    """The windows of n pairs of nets, as rows of arrays.

    Attributes:
        border: the leaves, (n, MAX_LEAVES); 0 fills a row with fewer.
        side: whether the first net (1), the second (2) or both (3) were seen to read each leaf.
        gates: the gates inside, (n, steps); 0 fills a row with fewer.
    """

    def __init__(self, tables: WindowTables, one: Literals, two: Literals) -> None:
        self.body, self.literal = tables.body, tables.literal
        self.implications = tables.implications
        n = len(one)
        self.border = np.zeros((n, MAX_LEAVES), np.int32)
        self.side = np.zeros((n, MAX_LEAVES), np.int8)
        self.gates = np.zeros((n, 0), np.int32)
        self.border[:, 0], self.border[:, 1] = one, two
        self.side[:, 0], self.side[:, 1] = np.where(one > 0, 1, 0), np.where(two > 0, 2, 0)
        same = one == two
        self.border[same, 1], self.side[same, 1] = 0, 0
        self.side[same & (one > 0), 0] = 3

    def keep(self, rows: Mask) -> None:
        """Drop the windows that `rows` (n,) leaves out."""
        self.border, self.side, self.gates = self.border[rows], self.side[rows], self.gates[rows]

    def grow(self, steps: int, one_sided: bool) -> None:
        """Take up to `steps` gates into each window, the latest first, while the leaves fit.

        With `one_sided`, gates that both nets read stay leaves.
        """
        first = self.body.first_gate
        active = np.arange(len(self.border))
        for _ in range(steps):
            if not len(active):
                break
            border, side = self.border[active], self.side[active]
            choice = np.where(border >= first, border, 0)
            if one_sided:
                choice[side == 3] = 0
            place = choice.argmax(axis=1)[:, None]
            top = np.take_along_axis(choice, place, axis=1)[:, 0]
            active, border, side = active[top > 0], border[top > 0], side[top > 0]
            place, top = place[top > 0], top[top > 0]
            inherited = np.take_along_axis(side, place, axis=1)
            np.put_along_axis(border, place, 0, axis=1)
            np.put_along_axis(side, place, 0, axis=1)
            operands = self.literal[self.body.fanin[top - first]] >> 1
            inside = (operands[:, :, None] == self.gates[active][:, None, :]).any(axis=2)
            operands[inside] = FALSE
            wide = np.concatenate([border, operands], axis=1)
            sides = np.concatenate([side, np.broadcast_to(inherited, operands.shape)], axis=1)
            sides[wide == FALSE] = 0
            wide, sides = _merge_repeated(wide, sides)
            fits = wide[:, MAX_LEAVES:].max(axis=1, initial=0) == 0
            active = active[fits]
            self.border[active] = wide[fits, :MAX_LEAVES]
            self.side[active] = sides[fits, :MAX_LEAVES]
            added = np.zeros((len(self.border), 1), np.int32)
            added[active, 0] = top[fits]
            self.gates = np.concatenate([self.gates, added], axis=1)

    def differs(self, x: Literals, y: Literals) -> Words:
        """Return the possible rows of the tables in which literals x and y differ, (n, words)."""
        # Columns: the constant, the leaves, the gates inside in ascending order.
        gates = np.sort(self.gates, axis=1)
        nets = np.concatenate([np.zeros((len(x), 1), np.int32), self.border, gates], axis=1)
        nets[:, 1:][nets[:, 1:] == FALSE] = -1
        value = np.zeros((*nets.shape, _PATTERNS.shape[1]), np.uint64)
        value[:, 1 : 1 + MAX_LEAVES] = _PATTERNS
        first = self.body.first_gate
        for column in range(1 + MAX_LEAVES, nets.shape[1]):
            rows = np.flatnonzero(nets[:, column] > 0)
            gate = nets[rows, column] - first
            operands = self.literal[self.body.fanin[gate]]
            inputs = [_read(nets[rows], value[rows], operands[:, j]) for j in range(self.body.k)]
            value[rows, column] = evaluate_tables(self.body.table[gate], inputs)
        differs: Words = _read(nets, value, x) ^ _read(nets, value, y)
        if self.implications is not None:
            differs &= ~self._impossible()
        return differs

    def _impossible(self) -> Words:
        """Return the rows of the tables in which a leaf lacks what it implies, (n, words)."""
        assert self.implications is not None
        out = np.zeros((len(self.border), _PATTERNS.shape[1]), np.uint64)
        is_tap = (self.border >= FIRST_TAP) & (self.border < self.body.first_gate)
        tap = np.where(is_tap, self.border - FIRST_TAP, 0)
        group, rank = self.implications.group[tap], self.implications.rank[tap]
        for i in range(MAX_LEAVES):
            for j in range(MAX_LEAVES):
                bad = is_tap[:, i] & is_tap[:, j] & (group[:, i] == group[:, j])
                bad &= rank[:, i] > rank[:, j]
                if bad.any():
                    out[bad] |= _PATTERNS[i] & ~_PATTERNS[j]
        return out


def _merge_repeated(
    nets: Literals, sides: npt.NDArray[np.int8]
) -> tuple[Literals, npt.NDArray[np.int8]]:
    """Return rows of nets without repetition, zeros last; the sides of repeated nets are joined."""
    packed = np.sort(-(nets.astype(np.int64) * 4 + sides), axis=1)
    nets, sides = (-packed >> 2).astype(np.int32), (-packed & 3).astype(np.int8)
    for j in range(nets.shape[1] - 1, 0, -1):
        same = nets[:, j] == nets[:, j - 1]
        sides[same, j - 1] |= sides[same, j]
        nets[same, j], sides[same, j] = FALSE, 0
    order = np.argsort(-nets, axis=1, kind="stable")
    return np.take_along_axis(nets, order, axis=1), np.take_along_axis(sides, order, axis=1)


def _read(nets: Literals, value: Words, literal: Literals) -> Words:
    """Return the table of one literal per window, (n, words).

    `literal` is (n,); a net that is not inside its window reads False.
    """
    column = (nets == (literal >> 1)[:, None]).argmax(axis=1)
    table: Words = value[np.arange(len(nets)), column]
    complement = np.where(literal & 1, _ONES, np.uint64(0))
    return table ^ complement[:, None]


def _first_differences(border: Literals, differs: Words) -> list[tuple[Index, Mask]]:
    """Return the leaves of each window and their values in the first row that differs."""
    if not len(border):
        return []
    raw = np.ascontiguousarray(differs).astype("<u8", copy=False).view(np.uint8)
    row = np.unpackbits(raw, axis=1, bitorder="little").argmax(axis=1)
    bits = (row[:, None] >> np.arange(MAX_LEAVES) & 1).astype(bool)
    used: Mask = border > FALSE
    return [(b[u].astype(np.int64), v[u]) for b, v, u in zip(border, bits, used, strict=True)]
