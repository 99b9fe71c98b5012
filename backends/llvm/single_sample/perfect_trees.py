"""Cut a body into perfect trees of one to three levels of two-input gates.

The tree templates are the same for every network. Gates of any operation fit, and gates that pass
their first operand on fill the gaps of a tree that is not perfect. An operation is three mask bits:
the coefficients a, b and ab of its algebraic normal form (Zhegalkin, 1927). The constant term is an
inversion, which the operation of the reader absorbs. A gate of more inputs stands alone, and its
masks are the bits of its truth table. Every step runs level by level over whole arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lgir.backends.llvm.single_sample.shifted_nets import Bools, Ints, ShiftedNets
from lgir.ir.truth_tables import narrow_table

MAX_HEIGHT: Final = 3
_PASS_FIRST: Final = 0b1100
"""The table of the gate that returns its first operand."""

_INVERTED_INPUTS: Final = np.array(
    [
        [
            [sum((t >> (x ^ 2 * i ^ j) & 1) << x for x in range(4)) for t in range(16)]
            for j in (0, 1)
        ]
        for i in (0, 1)
    ]
)
"""[i, j, t]: table t with its first input inverted if i is 1, and its second if j is 1."""


@dataclass(frozen=True)
class PerfectTreeTemplate:
    """The shape of a tree: `height` levels of two-input gates, or one gate of `arity` inputs.

    `height` is 0 for a wide gate, and `arity` is 0 for a tree.
    """

    height: int
    arity: int = 0

    @property
    def name(self) -> str:
        """A name that is unique per template."""
        return f"tree{self.height}" if self.height else f"table{self.arity}"

    @property
    def num_leaves(self) -> int:
        return 1 << self.height if self.height else self.arity

    @property
    def num_masks(self) -> int:
        return 3 * (self.num_leaves - 1) + 1 if self.height else 1 << self.arity


@dataclass(frozen=True)
class PerfectTrees:
    """The trees of one template that are independent of each other.

    Attributes:
        template: their shape, with L leaves and M masks.
        roots: (n,) the nets that they compute.
        leaves: (n, L) the nets that they read.
        shifts: (n, L) how many bytes further on than the root's own cell each leaf is read.
        masks: (n, M) bool. For a tree, the coefficients (b, a, ab) of each gate, from the leaves
            up, then the inversion of the root. For a wide gate, the bits of its table.
    """

    template: PerfectTreeTemplate
    roots: Ints
    leaves: Ints
    shifts: Ints
    masks: Bools


def cut_perfect_trees(nets: ShiftedNets, *, duplicate_gates: bool) -> list[PerfectTrees]:
    """Return trees that compute `nets.outputs`, in an order in which they can be evaluated.

    A net that several gates read is the root of a tree. With `duplicate_gates`, such a net is
    computed anew in each reading tree instead if it is a single gate of other roots.
    """
    return _TreeCutter(nets, duplicate_gates).run()


def cell_range(nets: ShiftedNets, groups: list[PerfectTrees], last: int) -> tuple[int, int]:
    """Return the first and the last cell at which any tree's value is read.

    The outputs are read at cells from 0 to `last`. Trees are evaluated at every cell of the range.
    """
    low = np.full(nets.num_nets, np.iinfo(np.int32).max)
    high = np.full(nets.num_nets, np.iinfo(np.int32).min)
    np.minimum.at(low, nets.outputs, nets.output_shifts.min(axis=1))
    np.maximum.at(high, nets.outputs, nets.output_shifts.max(axis=1) + last)
    for trees in reversed(groups):
        np.minimum.at(low, trees.leaves, low[trees.roots, None] + trees.shifts)
        np.maximum.at(high, trees.leaves, high[trees.roots, None] + trees.shifts)
    low, high = low[nets.first_gate :], high[nets.first_gate :]
    read = high >= low
    return int(low[read].min(initial=last)), int(high[read].max(initial=0))


class _TreeCutter:
    """Chooses the roots of trees and extracts the trees by template."""

    def __init__(self, nets: ShiftedNets, duplicate_gates: bool) -> None:
        self.nets = nets
        self.duplicate_gates = duplicate_gates
        self.used = np.arange(nets.fanin.shape[1]) < nets.arity[:, None]
        self.wide = nets.arity > 2
        # The first two inputs' table. It is only used for gates that no other input matters to.
        self.pair_table = narrow_table(nets.table, nets.fanin.shape[1], 2).astype(np.int64)
        self.is_output = np.zeros(nets.num_nets, bool)
        self.is_output[nets.outputs] = True
        self.is_root = self.is_output.copy()
        self.is_root[: nets.first_gate] = False

    def run(self) -> list[PerfectTrees]:
        live = self._live()
        self._choose_roots(live)
        height, order = self._heights_and_orders(live)
        roots = np.flatnonzero(self.is_root & live)
        gates = roots - self.nets.first_gate
        height[roots[self.wide[gates]]] = 0
        arity = np.where(self.wide[gates], self.nets.arity[gates], 0)
        keys, key_of_root = np.unique(
            np.ravel_multi_index((order[roots], height[roots], arity), (self.nets.num_nets, 8, 8)),
            return_inverse=True,
        )
        groups = []
        for i, key in enumerate(keys.tolist()):
            template = PerfectTreeTemplate(key >> 3 & 7, key & 7)
            members = roots[key_of_root == i]
            if template.height:
                leaves, shifts, masks = self._expand(members, template.height)
            else:
                leaves, shifts, masks = self._wide_gates(members, template.arity)
            groups.append(PerfectTrees(template, members, leaves, shifts, masks))
        return groups

    def _live(self) -> Bools:
        """Return whether each net is an output or is read, directly or not, by one, (num_nets,)."""
        nets = self.nets
        live = self.is_output.copy()
        for level in reversed(nets.by_level):
            gates = level[live[nets.first_gate + level]]
            live[nets.fanin[gates][self.used[gates]]] = True
        return live

    def _choose_roots(self, live: Bools) -> None:
        """Make roots of shared nets, of wide gates and their operands, and of too high trees.

        Outputs are roots already.
        """
        nets = self.nets
        live_gates = np.flatnonzero(live[nets.first_gate :])
        num_readers = np.bincount(
            nets.fanin[live_gates][self.used[live_gates]], minlength=nets.num_nets
        )
        height = np.zeros(nets.num_nets, np.int64)
        wide = live_gates[self.wide[live_gates]]
        self.is_root[nets.first_gate + wide] = True
        self.is_root[nets.fanin[wide]] = True
        self.is_root[: nets.first_gate] = False
        for level in nets.by_level:
            gates = level[live[nets.first_gate + level]]
            results, operands = nets.first_gate + gates, nets.fanin[gates]
            below = np.where(self.is_root[operands] | ~self.used[gates], 0, height[operands])
            self.is_root[operands[below == MAX_HEIGHT]] = True
            below[below == MAX_HEIGHT] = 0
            height[results] = 1 + below.max(axis=1)
            shared = num_readers[results] > 1
            self.is_root[results] |= shared & ((height[results] > 1) | (not self.duplicate_gates))

    def _heights_and_orders(self, live: Bools) -> tuple[Ints, Ints]:
        """Return the height of each net's tree and the tree's order, (num_nets,) each.

        Trees of the same order do not read each other.
        """
        nets = self.nets
        height, order = np.zeros((2, nets.num_nets), np.int64)
        for level in nets.by_level:
            gates = level[live[nets.first_gate + level]]
            results, operands = nets.first_gate + gates, nets.fanin[gates]
            used = self.used[gates]
            inside = used & ~self.is_root[operands]
            height[results] = 1 + np.where(inside, height[operands], 0).max(axis=1)
            order[results] = np.where(used, order[operands], 0).max(axis=1) + self.is_root[results]
        return height, order

    def _expand(self, roots: Ints, height: int) -> tuple[Ints, Ints, Bools]:
        """Return the leaves, shifts and masks of perfect trees with these roots."""
        nets = self.nets
        nodes, shifts = roots[:, None], np.zeros((len(roots), 1), np.int64)
        inner = np.ones(nodes.shape, bool)
        tables: list[Ints] = []
        for _ in range(height):
            gate = np.where(inner, nodes - nets.first_gate, 0)
            tables.append(np.where(inner, self.pair_table[gate], _PASS_FIRST))
            inner = inner[..., None]
            operands = np.where(inner, nets.fanin[gate, :2], nodes[..., None])
            operand_shifts = shifts[..., None] + np.where(inner, nets.shift[gate, :2], 0)
            nodes, shifts = operands.reshape(len(roots), -1), operand_shifts.reshape(len(roots), -1)
            inner = (nodes >= nets.first_gate) & ~self.is_root[nodes]
        return nodes, shifts, _tree_masks(tables)

    def _wide_gates(self, roots: Ints, arity: int) -> tuple[Ints, Ints, Bools]:
        """Return the operands, shifts and table bits of gates of more than two inputs."""
        nets, gates = self.nets, roots - self.nets.first_gate
        repeats = 1 << (nets.fanin.shape[1] - arity)
        table = nets.table[gates]
        bits = [table >> np.uint64(i * repeats) & np.uint64(1) for i in range(1 << arity)]
        masks = np.stack(bits, axis=1).astype(bool)
        return nets.fanin[gates, :arity], nets.shift[gates, :arity], masks


def _tree_masks(tables: list[Ints]) -> Bools:
    """Return the masks of trees from the tables (n, gates) of each level, the root's level first.

    A gate whose normal form has a constant term computes its inverse, and the table of the gate
    above is changed to expect that.
    """
    n, width = tables[-1].shape
    masks: list[Bools] = []
    inverted = np.zeros((n, 2 * width), np.int64)
    for level in reversed(tables):
        table = _INVERTED_INPUTS[inverted[:, ::2], inverted[:, 1::2], level]
        f0, f1, f2, f3 = (table >> i & 1 for i in range(4))
        coefficients = np.stack([f0 ^ f1, f0 ^ f2, f0 ^ f1 ^ f2 ^ f3], axis=-1)
        masks.append(coefficients.reshape(n, -1).astype(bool))
        inverted = f0
    return np.concatenate([*masks, inverted.astype(bool)], axis=1)
