"""Cut a body into cones, and group them by template.

All steps run level by level over whole arrays. The cones of a convolution body include the pools
of `pools`, whose cones are evaluated once for each copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering.cones import Bools, ConeExpr, ConeGroup, Ints, and_masks
from lgir.backends.lowering.pools import MAX_LEAVES, find_pools, no_pools, tree_leaves
from lgir.ir.body import Body
from lgir.ir.sets import distinct, without
from lgir.ir.truth_tables import XNOR, complement_inputs, narrow_table, swap_inputs

_TAP: Final = 0
_CUT: Final = 1
"""Template numbers of the two kinds of leaves; those of gates follow."""
_AND_LIKE: Final = 0
_XOR_LIKE: Final = 1
_GENERAL: Final = 2
"""Classes of gates; a general gate of k inputs has class `_GENERAL + k`."""
_POOL_LEVEL: Final = -1
"""Pools come before all other cones, which may read them."""
_MAX_TABLE: Final = 1 << 16
"""The most keys that are told apart by a table rather than by sorting."""

Nets = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Cones:
    """The cones of one template, without their leaves and masks.

    Attributes:
        expr, roots, shifts, level: as in `ConeGroup`.
        trees: (n,) the net below which the tree begins: the root itself, or a pool's first copy.
    """

    expr: ConeExpr
    trees: Ints
    roots: Ints
    shifts: Ints
    level: int


@dataclass(frozen=True)
class ConeCut:
    """A cut of a body into cones.

    Attributes:
        cones: the cones by level and template, pools last.
        is_root: (num_nets,) whether the net is the root of a cone or an output.
    """

    cones: list[Cones]
    is_root: Bools
    _first_gate: int
    _trees: _Trees

    def extract(self, cones: Cones) -> ConeGroup:
        """Return some of the `cones` with their leaves and masks."""
        leaves: list[Nets] = []
        masks: list[Bools] = []
        self._collect(cones.expr, cones.trees, leaves, masks)
        masks.append(self._trees.is_inverted[cones.trees])
        return ConeGroup(
            cones.expr,
            np.stack(leaves, axis=1, dtype=np.int64),
            np.stack(masks, axis=1),
            cones.roots,
            cones.shifts,
            cones.level,
        )

    def _collect(self, expr: ConeExpr, nets: Nets, leaves: list[Nets], masks: list[Bools]) -> None:
        """Append the leaves and masks of `nets`, all of template `expr`.

        The recursion is at most MAX_LEAVES deep.
        """
        if not expr.args:
            leaves.append(nets)
            return
        gates = nets - self._first_gate
        for arg, operands in zip(expr.args, self._trees.operands[gates].T, strict=False):
            self._collect(arg, operands, leaves, masks)
        if expr.masks:
            masks += list(self._trees.masks[gates, : expr.masks].T)


@dataclass(frozen=True)
class _Trees:
    """The tree of each gate, as if it were a root.

    Attributes:
        template: (num_nets,) the number of the template.
        is_inverted: (num_nets,) whether the template computes the complement.
        operands: (num_gates, k) the operands in the order of the template.
        masks: (num_gates, 2**k) the masks of the gate alone.
        exprs: the templates by number.
    """

    template: Ints
    is_inverted: Bools
    operands: Nets
    masks: Bools
    exprs: list[ConeExpr]


class ConeCutter:
    """Analyzes one legal body (see `legalize`) and cuts it into cones.

    A body evaluated `once` has no positions to walk: no pools are sought, no gate is computed
    twice, and roots of other cones are leaves as taps are. Otherwise a gate of two leaves that
    several cones share is computed in each.

    Any legal body has a cut, at worst into one cone per gate.

    Attributes:
        body: the body, with two inputs per gate or more.
        by_level: the gates of each level.
    """

    def __init__(self, body: Body, *, once: bool = False) -> None:
        self.body = body = body.widened(2)
        self.by_level = body.gates_by_level()
        self._once = once
        self._first = body.first_gate
        self._arity = body.arity().astype(np.int64)
        self._pair_tables = narrow_table(body.table, body.k, 2).astype(np.int64)
        self._outputs = distinct(body.outputs[body.outputs >= self._first]).astype(np.int64)
        self._leaves = tree_leaves(body, self.by_level)
        self._pools = no_pools(body.rank)
        if not once:
            self._pools = find_pools(body, self.by_level, self._leaves, self._outputs)
        self._is_pooled = reachable(body, self.by_level, self._pools.operands)
        plain = without(self._outputs, self._pools.roots)
        self._is_live = self._is_pooled | reachable(body, self.by_level, plain)

    def groups(self) -> list[ConeGroup]:
        """Return the cones of the body by template."""
        cut = self.cut()
        return [cut.extract(cones) for cones in cut.cones]

    def cut(self, extra_roots: Bools | None = None) -> ConeCut:
        """Cut the body; nets of `extra_roots` (num_nets,) are roots in any case."""
        is_root = self._choose_roots(extra_roots)
        trees = self._find_trees(is_root)
        template, exprs = trees.template, trees.exprs
        cones: list[Cones] = []
        plain = without(np.flatnonzero(is_root), self._pools.roots)
        plain = plain[plain >= self._first]
        no_shift = np.zeros((1, self.body.rank), np.int64)
        cone_level = self._cone_levels(plain)
        for level in distinct(cone_level[plain]):
            of_level = plain[cone_level[plain] == level]
            for number in distinct(template[of_level]):
                roots = of_level[template[of_level] == number]
                cones.append(Cones(exprs[number], roots, roots, no_shift, int(level)))
        for shifts, pools in self._pools.by_shift():
            first_copy = self._pools.operands[pools]
            for number in distinct(template[first_copy]):
                alike = template[first_copy] == number
                roots = self._pools.roots[pools[alike]]
                cones.append(Cones(exprs[number], first_copy[alike], roots, shifts, _POOL_LEVEL))
        return ConeCut(cones, is_root, self._first, trees)

    def _choose_roots(self, extra_roots: Bools | None) -> Bools:
        """Return which nets are roots, (num_nets,).

        Roots are outputs, nets that are shared and large enough, and operands of gates that would
        make a tree of more than MAX_LEAVES. Cones under a pool stay whole, since they are evaluated
        at shifts.
        """
        body = self.body
        is_root = np.zeros(body.num_nets, bool) if extra_roots is None else extra_roots.copy()
        is_root[self._outputs] = True
        uses = np.zeros(body.num_nets, np.int64)
        live = np.flatnonzero(self._is_live[self._first :])
        np.add.at(uses, body.fanin[live].ravel(), 1)
        leaves = np.where(self._is_pooled & ~is_root, self._leaves, 1)
        min_shared_leaves = 2 if self._once else 3
        divisible = self._is_live & ~self._is_pooled
        for gates in self.by_level:
            gates = gates[divisible[self._first + gates]]
            nets = self._first + gates
            fanin = body.fanin[gates]
            is_used = np.arange(body.k) < self._arity[gates][:, None]
            # As in `tree_leaves`, a gate of one input counts as a leaf.
            is_unary = self._arity[gates] == 1
            is_too_big = (leaves[fanin] * is_used).sum(axis=1) + is_unary > MAX_LEAVES
            operands = fanin[is_too_big][is_used[is_too_big]]
            operands = operands[operands >= self._first]
            is_root[operands], leaves[operands] = True, 1
            leaves[nets] = (leaves[fanin] * is_used).sum(axis=1) + is_unary
            is_root[nets] |= (uses[nets] > 1) & (leaves[nets] >= min_shared_leaves)
            leaves[nets[is_root[nets]]] = 1
        return is_root

    def _find_trees(self, is_root: Bools) -> _Trees:
        """Return the tree of each live gate down to the roots of other cones."""
        body = self.body
        template = np.full(body.num_nets, _TAP, np.int64)
        is_inverted = np.zeros(body.num_nets, bool)
        ordered_operands = np.zeros(body.fanin.shape, np.int32)
        masks = np.zeros((body.num_gates, 1 << body.k), bool)
        leaf = _TAP if self._once else _CUT
        templates = _Templates()
        gate_class = self._gate_classes()
        for gates in self.by_level:
            gates = gates[self._is_live[self._first + gates]]
            nets, operands, kind = self._first + gates, body.fanin[gates], gate_class[gates]
            # Roots of other cones are leaves, except under a pool. Pools come first of all, so
            # that other cones can read them.
            is_cut = is_root[operands] & ~self._is_pooled[nets][:, None]
            arguments = np.where(is_cut, leaf, template[operands])
            complemented = is_inverted[operands] & ~is_cut
            table = complement_inputs(
                self._pair_tables[gates], complemented[:, 0], complemented[:, 1]
            )
            swap = (kind < _GENERAL) & (arguments[:, 0] < arguments[:, 1])
            table[swap] = swap_inputs(table[swap])
            for columns in (operands, arguments):
                columns[swap, :2] = columns[swap, 1::-1]
            template[nets] = templates.number(kind, arguments, self._arity[gates])
            ordered_operands[gates] = operands
            is_inverted[nets] = (kind < _GENERAL) & _IS_INVERTED[table]
            masks[gates, :2] = _MASKS[table]
            general = np.flatnonzero(kind >= _GENERAL)
            if len(general):
                masks[gates[general]] = self._table_masks(gates[general], complemented[general])
        return _Trees(template, is_inverted, ordered_operands, masks, templates.exprs)

    def _table_masks(self, gates: Ints, complemented: Bools) -> Bools:
        """Return the table bits of general gates over their own inputs, (n, 2**k).

        `complemented` (n, k) says of which inputs a table is given the complement.
        """
        table, size = self.body.table[gates], 1 << self.body.k
        flip = complemented @ (1 << np.arange(self.body.k)[::-1])
        unused = self.body.k - self._arity[gates]
        masks = np.empty((len(gates), size), bool)
        for i in range(size):
            index = (i << unused) % size ^ flip
            masks[:, i] = table >> index.astype(table.dtype) & 1
        return masks

    def _gate_classes(self) -> Ints:
        """Return the class of each gate: `_AND_LIKE`, `_XOR_LIKE` or `_GENERAL` plus the arity."""
        gate_class = _GENERAL + self._arity
        is_pair = self._arity == 2
        ones = np.bitwise_count(self._pair_tables)
        gate_class[is_pair & ((ones == 1) | (ones == 3))] = _AND_LIKE
        gate_class[is_pair & (ones == 2)] = _XOR_LIKE
        return gate_class

    def _cone_levels(self, roots: Ints) -> Ints:
        """Return the level of each cone by its root: 1 + the highest level of the cones it reads.

        Cones that read no others have level 0; entries of other nets have no meaning.
        """
        level = np.zeros(self.body.num_nets, np.int64)
        next_level = np.zeros(self.body.num_nets, np.int64)
        is_root = np.zeros(self.body.num_nets, bool)
        is_root[roots] = True
        for gates in self.by_level:
            nets = self._first + gates
            level[nets] = next_level[self.body.fanin[gates]].max(axis=1)
            next_level[nets] = level[nets] + is_root[nets]
        return level


class _Templates:
    """Numbers the templates of a cut in the order in which they are first met."""

    def __init__(self) -> None:
        self.exprs = [ConeExpr("tap"), ConeExpr("cut")]
        self._numbers: dict[tuple[int, ...], int] = {}

    def number(self, gate_class: Ints, arguments: Ints, arity: Ints) -> Ints:
        """Return the templates of gates by their classes and the templates of their operands."""
        unused = -1
        rows = np.where(np.arange(arguments.shape[1]) < arity[:, None], arguments, unused)
        keys = np.column_stack([gate_class, rows])
        first, inverse = _distinct_rows(keys + 1)
        distinct_keys = keys[first]
        numbers = np.empty(len(distinct_keys), np.int64)
        for i, (kind, *args) in enumerate(distinct_keys.tolist()):
            if (kind, *args) not in self._numbers:
                name = {_AND_LIKE: "and", _XOR_LIKE: "xor"}.get(kind, "lut")
                operands = tuple(self.exprs[arg] for arg in args if arg != unused)
                self._numbers[kind, *args] = len(self.exprs)
                self.exprs.append(ConeExpr(name, operands))
            numbers[i] = self._numbers[kind, *args]
        return numbers[inverse]


def reachable(body: Body, by_level: list[Ints], roots: Ints, stop: Bools | None = None) -> Bools:
    """Return which nets are in the cones of `roots`, these included, (num_nets,).

    Cones end at nets of `stop` (num_nets,), which do not belong to them.
    """
    is_reached = np.zeros(body.num_nets, bool)
    is_reached[roots] = True
    for gates in reversed(by_level):
        operands = body.fanin[gates[is_reached[body.first_gate + gates]]].ravel()
        is_reached[operands if stop is None else operands[~stop[operands]]] = True
    return is_reached


def _distinct_rows(rows: Ints) -> tuple[Ints, Ints]:
    """Return the first index of each distinct row, in lexicographic order, and each row's rank.

    Rows (n, c) of small numbers from 0 on are read as numbers with a digit per column, which a
    table can tell apart; numbers too large for a table are sorted.
    """
    number, count = np.zeros(len(rows), np.int64), 1
    for column in rows.T:
        digits = int(column.max(initial=0)) + 1
        if count * digits > _MAX_TABLE:
            values, number = np.unique(number, return_inverse=True)
            count = len(values)
        number, count = number * digits + column, count * digits
    if count > _MAX_TABLE:
        _, first, inverse = np.unique(number, return_index=True, return_inverse=True)
        return first, inverse
    absent = -1
    index = np.full(count, absent)
    index[number[::-1]] = np.arange(len(rows))[::-1]
    is_present = index != absent
    return index[is_present], (np.cumsum(is_present) - 1)[number]


def _pair_masks() -> tuple[Bools, Bools]:
    """Return the masks of two-input gates by table, (16, 2), and whether their templates compute
    the complement, (16,).
    """
    table = np.arange(16)
    ones = np.bitwise_count(table)
    minterm = np.where(ones == 3, 15 - table, table)  # The one index at which the AND is True.
    index = np.bitwise_count(minterm - 1)
    m1, m2, is_complement = and_masks(index & 2 == 0, index & 1 == 0)
    masks = np.stack([m1, m2], axis=1) & (ones != 2)[:, None]
    return masks, np.where(ones == 2, table == XNOR, is_complement ^ (ones == 3))


_MASKS, _IS_INVERTED = _pair_masks()
