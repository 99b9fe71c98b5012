"""Cut a body into perfect trees: the templates of the latency path, the same for every network.

A tree holds two-input gates of any operation in up to three levels, gaps filled by gates that pass
their first operand on. An operation is three mask bits, the terms a, b and ab of its algebraic
normal form; the constant term is an inversion, which the reader's operation absorbs. Wider gates
stand alone, as their table's bits. All steps run level by level over whole arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lgir.backends.llvm.single_sample.nets import Bools, Ints, Nets
from lgir.ir.truth_tables import narrow_table

MAX_HEIGHT: Final = 3
PASS_FIRST: Final = 0b1100

# _FLIP[i, j, t]: table t with its first input inverted where i, its second where j.
_FLIP: Final = np.array(
    [
        [
            [sum((t >> (x ^ 2 * i ^ j) & 1) << x for x in range(4)) for t in range(16)]
            for j in (0, 1)
        ]
        for i in (0, 1)
    ]
)


@dataclass(frozen=True)
class Trees:
    """Trees of one template.

    Attributes:
        height: levels of two-input gates, or 0 for a wide gate with a table of its own.
        order: those of a lower order come first; equal ones are independent.
        roots: (n,) the nets that they compute.
        leaves, shifts: (n, L) what they read and how much further on.
        masks: (n, M) bool: for trees, (b, a, ab) of each gate, from the leaves up, then the root's
            inversion; for a wide gate, its table's bits.
    """

    height: int
    order: int
    roots: Ints
    leaves: Ints
    shifts: Ints
    masks: Bools


def cut(nets: Nets, *, again: bool) -> list[Trees]:
    """Trees that compute `nets.bases`, in order.

    A net that several gates read is a root; with `again`, one of a single level is computed anew in
    each instead.
    """
    return _Cutter(nets, again).run()


def span(nets: Nets, groups: list[Trees], last: int) -> tuple[int, int]:
    """The first and the last cell where the value of any tree is read, the outputs being read at
    cells from 0 to `last`.
    """
    low = np.full(nets.size, np.iinfo(np.int32).max)
    high = np.full(nets.size, np.iinfo(np.int32).min)
    np.minimum.at(low, nets.bases, nets.copies.min(axis=1))
    np.maximum.at(high, nets.bases, nets.copies.max(axis=1) + last)
    for trees in reversed(groups):
        np.minimum.at(low, trees.leaves, low[trees.roots, None] + trees.shifts)
        np.maximum.at(high, trees.leaves, high[trees.roots, None] + trees.shifts)
    low, high = low[nets.first :], high[nets.first :]
    read = high >= low
    return int(low[read].min(initial=last)), int(high[read].max(initial=0))


class _Cutter:
    def __init__(self, nets: Nets, again: bool) -> None:
        self.nets = nets
        self.again = again
        self.used = np.arange(nets.fanin.shape[1]) < nets.arity[:, None]
        self.wide = nets.arity > 2
        # Right where no other input matters.
        self.pairs = narrow_table(nets.table, nets.fanin.shape[1], 2).astype(np.int64)
        self.needed = np.zeros(nets.size, bool)
        self.needed[nets.bases] = True
        self.root = self.needed.copy()
        self.root[: nets.first] = False

    def run(self) -> list[Trees]:
        live = self._live()
        self._choose_roots(live)
        height, order = self._places(live)
        roots = np.flatnonzero(self.root & live)
        wide = self.wide[roots - self.nets.first]
        height[roots[wide]] = 0
        arity = np.where(wide, self.nets.arity[roots - self.nets.first], 0)
        kinds, kind = np.unique(
            np.ravel_multi_index((order[roots], height[roots], arity), (self.nets.size, 8, 8)),
            return_inverse=True,
        )
        found = []
        for i, key in enumerate(kinds.tolist()):
            at, levels, width = key >> 6, key >> 3 & 7, key & 7
            mine = roots[kind == i]
            extract = self._trees(mine, levels) if levels else self._tables(mine, width)
            found.append(Trees(levels, at, mine, *extract))
        return found

    def _live(self) -> Bools:
        nets = self.nets
        live = self.needed.copy()
        for gates in reversed(nets.by_level):
            alive = gates[live[nets.first + gates]]
            live[nets.fanin[alive][self.used[alive]]] = True
        return live

    def _choose_roots(self, live: Bools) -> None:
        """Roots are what is needed, wide gates and what they read, shared nets, and where a tree
        would be too high.
        """
        nets = self.nets
        alive = np.flatnonzero(live[nets.first :])
        uses = np.bincount(nets.fanin[alive][self.used[alive]], minlength=nets.size)
        height = np.zeros(nets.size, np.int64)
        wide = alive[self.wide[alive]]
        self.root[nets.first + wide] = True
        self.root[nets.fanin[wide]] = True
        self.root[: nets.first] = False
        for gates in nets.by_level:
            gates = gates[live[nets.first + gates]]
            own, operands = nets.first + gates, nets.fanin[gates]
            below = np.where(self.root[operands] | ~self.used[gates], 0, height[operands])
            self.root[operands[below == MAX_HEIGHT]] = True
            below[below == MAX_HEIGHT] = 0
            height[own] = 1 + below.max(axis=1)
            self.root[own] |= (uses[own] > 1) & ((height[own] > 1) | (not self.again))

    def _places(self, live: Bools) -> tuple[Ints, Ints]:
        """(num_nets,) the height of each net's tree, and the order of trees."""
        nets = self.nets
        height, order = np.zeros((2, nets.size), np.int64)
        for gates in nets.by_level:
            gates = gates[live[nets.first + gates]]
            own, operands = nets.first + gates, nets.fanin[gates]
            used = self.used[gates]
            inside = used & ~self.root[operands]
            height[own] = 1 + np.where(inside, height[operands], 0).max(axis=1)
            order[own] = np.where(used, order[operands], 0).max(axis=1) + self.root[own]
        return height, order

    def _trees(self, roots: Ints, height: int) -> tuple[Ints, Ints, Bools]:
        """Leaves, shifts and masks of perfect trees of that height, expanded from the roots."""
        nets = self.nets
        nodes, shifts = roots[:, None], np.zeros((len(roots), 1), np.int64)
        inner = np.ones(nodes.shape, bool)
        tables: list[Ints] = []
        for _ in range(height):
            gate = np.where(inner, nodes - nets.first, 0)
            tables.append(np.where(inner, self.pairs[gate], PASS_FIRST))
            inner = inner[..., None]
            operands = np.where(inner, nets.fanin[gate, :2], nodes[..., None])
            further = shifts[..., None] + np.where(inner, nets.shift[gate, :2], 0)
            nodes, shifts = operands.reshape(len(roots), -1), further.reshape(len(roots), -1)
            inner = (nodes >= nets.first) & ~self.root[nodes]
        return nodes, shifts, _masks(tables)

    def _tables(self, roots: Ints, arity: int) -> tuple[Ints, Ints, Bools]:
        """As `_trees`, of gates wider than two."""
        nets, gates = self.nets, roots - self.nets.first
        step = 1 << (nets.fanin.shape[1] - arity)
        table = nets.table[gates]
        bits = [table >> np.uint64(i * step) & np.uint64(1) for i in range(1 << arity)]
        masks = np.stack(bits, axis=1).astype(bool)
        return nets.fanin[gates, :arity], nets.shift[gates, :arity], masks


def _masks(tables: list[Ints]) -> Bools:
    """Masks of trees from the tables (n, gates) of each level, the root's first: a gate with a
    constant term computes the inverse, which the gate above expects.
    """
    n, width = tables[-1].shape
    masks: list[Bools] = []
    inverted = np.zeros((n, 2 * width), np.int64)
    for level in reversed(tables):
        table = _FLIP[inverted[:, ::2], inverted[:, 1::2], level]
        f0, f1, f2, f3 = (table >> i & 1 for i in range(4))
        terms = np.stack([f0 ^ f1, f0 ^ f2, f0 ^ f1 ^ f2 ^ f3], axis=-1)
        masks.append(terms.reshape(n, -1).astype(bool))
        inverted = f0
    return np.concatenate([*masks, inverted.astype(bool)], axis=1)
