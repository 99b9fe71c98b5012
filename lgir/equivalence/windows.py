"""Truth tables of windows: many pairs of nets compared at once by exhaustive local simulation.

A window starts at two nets and grows towards the taps, first where only one of the two reads, until
its leaves are too many. Equal tables over the leaves prove the nets equal; different ones refute
them where all leaves are taps (local exhaustive simulation, as in mockturtle's resubstitution).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.sets import distinct
from lgir.ir.simulate import Words, evaluate_tables
from lgir.ir.types import FALSE, FIRST_TAP

Index = npt.NDArray[np.int64]
Literals = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

MAX_LEAVES: Final = 8
_GROWTH: Final = (6, 10)  # gates taken in while one net alone reads them, and altogether
_ONES: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


@dataclass(frozen=True)
class Chains:
    """Which taps imply each other: of one `group` (T,), one of higher `rank` implies the lower.

    Ranks (T,) of one group differ, as `build` makes sure.
    """

    group: Index
    rank: Index

    @staticmethod
    def none(count: int) -> Chains:
        """Taps that are independent."""
        return Chains(np.arange(count), np.arange(count))

    @staticmethod
    def build(group: Index, rank: Index) -> Chains:
        """Taps of equal rank must be equal; they are put in any order."""
        place = np.empty(len(group), np.int64)
        place[np.lexsort((rank, group))] = np.arange(len(group))
        return Chains(group, place)

    @property
    def any(self) -> bool:
        """Whether any tap implies another."""
        return len(distinct(self.group)) < len(self.group)


def _patterns() -> Words:
    """(MAX_LEAVES, words): the truth table of each leaf."""
    rows = np.arange(1 << MAX_LEAVES)
    bits = (rows >> np.arange(MAX_LEAVES)[:, None] & 1).astype(bool)
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)


_PATTERNS: Final = _patterns()


class Windows:
    """Windows over one body, read through `literal` (num_nets,): what nets are known to equal."""

    def __init__(self, body: Body, literal: Literals, chains: Chains) -> None:
        self.body = body
        self.literal = literal
        self.chains = chains if chains.any else None

    def compare(self, x: Literals, y: Literals) -> tuple[Mask, list[tuple[int, Index, Mask]]]:
        """Literals (n,) pair by pair.

        Returns which pairs (n,) are equal, and what tells some of the others apart: the pair's
        number, nets that are taps, and their values.
        """
        equal = x == y
        rows = np.flatnonzero(~equal)
        window = _Window(self, x[rows] >> 1, y[rows] >> 1)
        refuted: list[tuple[int, Index, Mask]] = []
        for one_sided, steps in zip((True, False), _GROWTH, strict=True):
            if not len(rows):
                break
            window.grow(steps, one_sided)
            differs = window.differs(x[rows], y[rows])
            unequal: Mask = np.bitwise_or.reduce(differs, axis=1) != 0
            equal[rows[~unequal]] = True
            whole: Mask = unequal & (window.border < self.body.first_gate).all(axis=1)
            found = _assignments(window.border[whole], differs[whole])
            refuted += [(r, *x) for r, x in zip(rows[whole].tolist(), found, strict=True)]
            open_: Mask = unequal & ~whole
            window.keep(open_)
            rows = rows[open_]
        return equal, refuted


class _Window:
    """Windows of n pairs as rows of arrays.

    `border` (n, MAX_LEAVES) holds the leaves, 0 where there are fewer, and `side` whether the
    first net (1), the second (2) or both (3) were seen to read each; `gates` (n, steps) the gates
    inside, 0 where there are fewer.
    """

    def __init__(self, windows: Windows, one: Literals, two: Literals) -> None:
        self.body, self.literal, self.chains = windows.body, windows.literal, windows.chains
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
        self.border, self.side, self.gates = self.border[rows], self.side[rows], self.gates[rows]

    def grow(self, steps: int, one_sided: bool) -> None:
        """Take in up to `steps` gates each, the latest first, while the leaves are not too many."""
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
            wide, sides = _united(wide, sides)
            fits = wide[:, MAX_LEAVES:].max(axis=1, initial=0) == 0
            active = active[fits]
            self.border[active] = wide[fits, :MAX_LEAVES]
            self.side[active] = sides[fits, :MAX_LEAVES]
            added = np.zeros((len(self.border), 1), np.int32)
            added[active, 0] = top[fits]
            self.gates = np.concatenate([self.gates, added], axis=1)

    def differs(self, x: Literals, y: Literals) -> Words:
        """(n, words) the rows of the truth tables where literals x and y differ and may."""
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
        if self.chains is not None:
            differs &= ~self._impossible()
        return differs

    def _impossible(self) -> Words:
        """(n, words) the rows of the truth tables in which a leaf lacks what it implies."""
        assert self.chains is not None
        out = np.zeros((len(self.border), _PATTERNS.shape[1]), np.uint64)
        is_tap = (self.border >= FIRST_TAP) & (self.border < self.body.first_gate)
        tap = np.where(is_tap, self.border - FIRST_TAP, 0)
        group, rank = self.chains.group[tap], self.chains.rank[tap]
        for i in range(MAX_LEAVES):
            for j in range(MAX_LEAVES):
                bad = is_tap[:, i] & is_tap[:, j] & (group[:, i] == group[:, j])
                bad &= rank[:, i] > rank[:, j]
                if bad.any():
                    out[bad] |= _PATTERNS[i] & ~_PATTERNS[j]
        return out


def _united(nets: Literals, sides: npt.NDArray[np.int8]) -> tuple[Literals, npt.NDArray[np.int8]]:
    """Rows without repetition, zeros last; sides of repeated nets are joined."""
    packed = np.sort(-(nets.astype(np.int64) * 4 + sides), axis=1)
    nets, sides = (-packed >> 2).astype(np.int32), (-packed & 3).astype(np.int8)
    for j in range(nets.shape[1] - 1, 0, -1):
        same = nets[:, j] == nets[:, j - 1]
        sides[same, j - 1] |= sides[same, j]
        nets[same, j], sides[same, j] = FALSE, 0
    order = np.argsort(-nets, axis=1, kind="stable")
    return np.take_along_axis(nets, order, axis=1), np.take_along_axis(sides, order, axis=1)


def _read(nets: Literals, value: Words, literal: Literals) -> Words:
    """(n, words) the value of a literal (n,) in each window; what is not inside reads False."""
    at = (nets == (literal >> 1)[:, None]).argmax(axis=1)
    found: Words = value[np.arange(len(nets)), at]
    flip = np.where(literal & 1, _ONES, np.uint64(0))
    return found ^ flip[:, None]


def _assignments(border: Literals, differs: Words) -> list[tuple[Index, Mask]]:
    """For each window the first row of its table that differs: its leaves and their values."""
    if not len(border):
        return []
    raw = np.ascontiguousarray(differs).astype("<u8", copy=False).view(np.uint8)
    row = np.unpackbits(raw, axis=1, bitorder="little").argmax(axis=1)
    bits = (row[:, None] >> np.arange(MAX_LEAVES) & 1).astype(bool)
    real: Any = border > FALSE
    return [(b[r].astype(np.int64), v[r]) for b, v, r in zip(border, bits, real, strict=True)]
