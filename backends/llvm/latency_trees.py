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
import numpy.typing as npt

MAX_HEIGHT: Final = 3
PASS_FIRST: Final = 0b1100

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

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
class Nets:
    """Gates as arrays. Ids below `first` are leaves; gate g is net `first + g`.

    Attributes:
        fanin: (G, K) operands' ids, K >= 2, of which gate g reads `arity[g]` >= 1.
        shift: (G, K) how much further on an operand is read than the gate itself is; 0 where there
            are no positions.
        table: (G,) uint64 over K inputs.
        by_level: gate numbers, level by level.
    """

    first: int
    fanin: Ints
    shift: Ints
    table: npt.NDArray[np.uint64]
    arity: Ints
    by_level: list[Ints]


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


def cut(nets: Nets, needed: Ints, *, again: bool) -> list[Trees]:
    """Trees that compute the nets `needed` (ids, repeats allowed), in order.

    A net that several gates read is a root; with `again`, one of a single level is computed anew in
    each instead.
    """
    return _Cutter(nets, needed, again).run()


class _Cutter:
    def __init__(self, nets: Nets, needed: Ints, again: bool) -> None:
        self.nets = nets
        self.again = again
        self.size = nets.first + len(nets.fanin)
        self.used = np.arange(nets.fanin.shape[1]) < nets.arity[:, None]
        self.wide = nets.arity > 2
        # Tables over the first two inputs, of gates where no other matters.
        step = 1 << (nets.fanin.shape[1] - 2)
        bits = [nets.table >> np.uint64(i * step) & np.uint64(1) for i in range(4)]
        self.pairs = sum(b.astype(np.int64) << i for i, b in enumerate(bits))
        self.needed = np.zeros(self.size, bool)
        self.needed[needed] = True
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
        keys = np.column_stack([order[roots], height[roots], arity])
        kinds, kind = np.unique(keys, axis=0, return_inverse=True)
        found = []
        for i, (at, levels, width) in enumerate(kinds.tolist()):
            mine = roots[kind.ravel() == i]
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
        uses = np.bincount(nets.fanin[alive][self.used[alive]], minlength=self.size)
        height = np.zeros(self.size, np.int64)
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
        height, order = np.zeros((2, self.size), np.int64)
        for gates in nets.by_level:
            gates = gates[live[nets.first + gates]]
            own, operands = nets.first + gates, nets.fanin[gates]
            used = self.used[gates]
            inside = used & ~self.root[operands]
            height[own] = 1 + np.where(inside, height[operands], 0).max(axis=1)
            order[own] = np.where(used, order[operands], 0).max(axis=1) + self.root[own]
        return height, order

    def _trees(self, roots: Ints, height: int) -> tuple[Ints, Ints, Bools]:
        nets = self.nets
        nodes, shifts = roots[:, None], np.zeros((len(roots), 1), np.int64)
        tables: list[Ints] = []
        inner = np.ones((len(roots), 1), bool)
        for _ in range(height):
            gate = np.where(inner, nodes - nets.first, 0)
            table = np.where(inner, self.pairs[gate], PASS_FIRST)
            tables.append(table)
            pairs = np.empty((*nodes.shape, 2), np.int64)
            moved = np.empty_like(pairs)
            for c in range(2):
                operand, shift = self._operand(gate, c)
                pairs[..., c] = np.where(inner, operand, nodes)
                moved[..., c] = shifts + np.where(inner, shift, 0)
            nodes, shifts = (x.reshape(len(roots), -1) for x in (pairs, moved))
            inner = (nodes >= nets.first) & ~self.root[nodes]
        masks: list[Bools] = []
        inverted = np.zeros(nodes.shape, np.int64)
        for table in reversed(tables):
            table = _FLIP[inverted[:, ::2], inverted[:, 1::2], table]
            f0, f1, f2, f3 = (table >> i & 1 for i in range(4))
            terms = np.stack([f0 ^ f1, f0 ^ f2, f0 ^ f1 ^ f2 ^ f3], axis=-1)
            masks.append(terms.reshape(len(roots), -1).astype(bool))
            inverted = f0
        return nodes, shifts, np.concatenate([*masks, inverted.astype(bool)], axis=1)

    def _operand(self, gate: Ints, column: int) -> tuple[Ints, Ints]:
        """An operand's id and shift; the first's, which is near, where there is no other."""
        column = np.where(self.nets.arity[gate] > column, column, 0)
        return self.nets.fanin[gate, column], self.nets.shift[gate, column]

    def _tables(self, roots: Ints, arity: int) -> tuple[Ints, Ints, Bools]:
        nets, gates = self.nets, roots - self.nets.first
        step = 1 << (nets.fanin.shape[1] - arity)
        table = nets.table[gates]
        bits = [table >> np.uint64(i * step) & np.uint64(1) for i in range(1 << arity)]
        masks = np.stack(bits, axis=1).astype(bool)
        return nets.fanin[gates, :arity], nets.shift[gates, :arity], masks
