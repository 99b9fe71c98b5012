"""Cut a convolution body into cones and canonicalise them into templates.

A cone is a tree of gates from one root down to taps or to roots of other cones; gates shared inside
a cone are recomputed. Two-input gates are classed only as AND-like or XOR: which inputs are
inverted becomes data (two masks a gate), because a tree absorbs every inner polarity into its
parent. So trees of one shape share one template whatever their operations, and the code does not
grow with the model. All steps run level by level over whole arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering.pools import MAX_LEAVES, find_pools, no_pools, tree_leaves
from lgir.ir.body import Body
from lgir.ir.sets import distinct, without
from lgir.ir.truth_tables import XNOR, complement_inputs, narrow_table, swap_inputs

LEAF_TAP: Final = 0
LEAF_CUT: Final = 1

_MOST_NUMBERS: Final = 1 << 16

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Nets = npt.NDArray[np.integer]


@dataclass(frozen=True)
class ConeExpr:
    """A template's expression tree.

    `kind` is "tap" or "cut" for a leaf, "and" (two masks: see `and_masks`), "xor", or "lut" (a mask
    for each of the 2**k table bits).
    """

    kind: str
    args: tuple[ConeExpr, ...] = ()

    @property
    def masks(self) -> int:
        """Masks that this node alone reads."""
        if self.kind == "lut":
            return 1 << len(self.args)
        return 2 if self.kind == "and" else 0

    def __str__(self) -> str:
        if not self.args:
            return {"tap": "t", "cut": "c"}[self.kind]
        sign = {"and": "&", "xor": "^", "lut": "L"}[self.kind]
        return f"{sign}({','.join(map(str, self.args))})"

    def leaves(self) -> list[str]:
        """Kinds of the leaves, left to right."""
        return [self.kind] if not self.args else [k for a in self.args for k in a.leaves()]

    def num_masks(self) -> int:
        """Masks of the whole tree, in the order children first, left to right, then the node."""
        return self.masks + sum(a.num_masks() for a in self.args)


@dataclass(frozen=True)
class Cones:
    """Cones of one template, each below one of `nets` (n,); otherwise as `ConeGroup`."""

    expr: ConeExpr
    nets: Ints
    roots: Ints
    shifts: Ints
    level: int


@dataclass(frozen=True)
class ConeGroup:
    """Cones of one template.

    Attributes:
        expr: the tree, evaluated at every position and, for a pool, at every shift.
        leaves: (n, L) net ids of taps and cut roots, in the order of `expr.leaves()`.
        masks: (n, M + 1) bool: the tree's masks, then the root's inversion.
        roots: (n,) the nets computed.
        shifts: (m, rank) offsets of the window copies relative to the first; ORed together.
        level: cones of a lower level come first; equal levels are independent.
    """

    expr: ConeExpr
    leaves: Ints
    masks: Bools
    roots: Ints
    shifts: Ints
    level: int


def and_masks(i: Bools, j: Bools) -> tuple[Bools, Bools, Bools]:
    """Masks (m1, m2) and output inversion for AND with inputs inverted by i and j.

    u = (a & (b ^ m1)) ^ (b & m2) gives a&b, a&~b, ~a&b and, for both inverted, a|b, the complement
    of what is wanted: two three-input instructions for any AND-like gate.
    """
    return j, i, i & j


class ConeCutter:
    """Analyses one legal body; `groups()` gives its cones by template.

    A body evaluated `once` has no positions to walk: no pools are sought, no gate is computed
    twice, and roots of other cones are leaves as taps are. Otherwise a gate of two leaves that
    several cones share is computed in each.

    Raises nothing: any legal body has a cut, at worst one gate a cone.
    """

    def __init__(self, body: Body, *, once: bool = False) -> None:
        self.body = body = body.widened(2)
        self.once = once
        self.first = body.first_gate
        self.arity = body.arity().astype(np.int64)
        self.by_level = body.gates_by_level()
        self.pairs = narrow_table(body.table, body.k, 2).astype(np.int64)
        self.outputs = distinct(body.outputs[body.outputs >= self.first]).astype(np.int64)
        self.leaves = tree_leaves(body, self.by_level)
        self.pools = no_pools(body.rank)
        if not once:
            self.pools = find_pools(body, self.by_level, self.leaves, self.outputs)
        self.whole = reachable(body, self.by_level, self.pools.operands)
        plain = without(self.outputs, self.pools.roots)
        self.reach = self.whole | reachable(body, self.by_level, plain)
        self.is_root = np.zeros(body.num_nets, bool)
        self.shape = np.full(body.num_nets, LEAF_TAP, np.int64)
        self.inverted = np.zeros(body.num_nets, bool)
        self.operands = np.zeros(body.fanin.shape, np.int32)
        self.masks = np.zeros((body.num_gates, 1 << body.k), bool)

    def groups(self) -> list[ConeGroup]:
        return [self.extract(cones) for cones in self.cut()]

    def cut(self, at: Bools | None = None) -> list[Cones]:
        """The cones, of which `extract` finds leaves and masks until the next call. Nets of `at`
        (num_nets,) are roots in any case.
        """
        self.is_root[:] = False if at is None else at
        self.is_root[self.outputs] = True
        self._exprs: list[ConeExpr] = [ConeExpr("tap"), ConeExpr("cut")]
        self._expr_ids: dict[tuple[int, ...], int] = {}
        self._add_roots()
        self._find_shapes()
        own, pooled, operands = self.shape, self.pools.roots, self.pools.operands
        found: list[Cones] = []
        plain = without(np.flatnonzero(self.is_root), pooled)
        plain = plain[plain >= self.first]
        zero = np.zeros((1, self.body.rank), np.int64)
        depth = self._cone_levels(plain)
        for level in distinct(depth[plain]):
            batch = plain[depth[plain] == level]
            for shape in distinct(own[batch]):
                nets = batch[own[batch] == shape]
                found.append(Cones(self._exprs[shape], nets, nets, zero, int(level)))
        for shifts, indices in self.pools.by_shift():
            for shape in distinct(own[operands[indices]]):
                some = indices[own[operands[indices]] == shape]
                found.append(Cones(self._exprs[shape], operands[some], pooled[some], shifts, -1))
        return found

    # -- cuts and shapes -------------------------------------------------------------------------

    def _add_roots(self) -> None:
        """Makes nets roots where they are shared and large enough, and operands where a cone would
        pass MAX_LEAVES. Cones under a pool stay whole: they are evaluated at shifts.
        """
        body = self.body
        uses = np.zeros(body.num_nets, np.int64)
        live = np.flatnonzero(self.reach[self.first :])
        np.add.at(uses, body.fanin[live].ravel(), 1)
        leaves = np.where(self.whole & ~self.is_root, self.leaves, 1)
        shared_leaves = 2 if self.once else 3
        divisible = self.reach & ~self.whole
        for gates in self.by_level:
            gates = gates[divisible[self.first + gates]]
            nets = self.first + gates
            fanin = body.fanin[gates]
            used = np.arange(body.k) < self.arity[gates][:, None]
            # As in `tree_leaves`, a gate of one input counts as a leaf.
            alone = self.arity[gates] == 1
            big = (leaves[fanin] * used).sum(axis=1) + alone > MAX_LEAVES
            inner = fanin[big][used[big]]
            inner = inner[inner >= self.first]
            self.is_root[inner], leaves[inner] = True, 1
            leaves[nets] = (leaves[fanin] * used).sum(axis=1) + alone
            self.is_root[nets] |= (uses[nets] > 1) & (leaves[nets] >= shared_leaves)
            leaves[nets[self.is_root[nets]]] = 1

    def _find_shapes(self) -> None:
        """Fills in, for gates as roots: `shape`, the template; `operands` in its order; `masks`;
        `inverted`, whether the template computes the complement.
        """
        leaf = LEAF_TAP if self.once else LEAF_CUT
        kinds = self._classes()
        for gates in self.by_level:
            gates = gates[self.reach[self.first + gates]]
            nets, fanin, kind = self.first + gates, self.body.fanin[gates], kinds[gates]
            # Roots of other cones are leaves, but not under a pool. Pools come first of all, so
            # that other cones can read them.
            cut = self.is_root[fanin] & ~self.whole[nets][:, None]
            shapes = np.where(cut, leaf, self.shape[fanin])
            inverted = self.inverted[fanin] & ~cut
            pair = complement_inputs(self.pairs[gates], inverted[:, 0], inverted[:, 1])
            swap = (kind < 2) & (shapes[:, 0] < shapes[:, 1])
            pair[swap] = swap_inputs(pair[swap])
            for columns in (fanin, shapes):
                columns[swap, :2] = columns[swap, 1::-1]
            self.shape[nets] = self._intern(kind, shapes, self.arity[gates])
            self.operands[gates] = fanin
            self.inverted[nets] = (kind < 2) & _INVERTED[pair]
            self.masks[gates, :2] = _MASKS[pair]
            wide = np.flatnonzero(kind >= 2)
            if len(wide):
                self.masks[gates[wide]] = self._table_masks(gates[wide], inverted[wide])

    def _table_masks(self, gates: Ints, inverted: Bools) -> Bools:
        """(n, 2**k) masks: the tables over the gates' own inputs, of which `inverted` (n, k) are
        complements.
        """
        table, cells = self.body.table[gates], 1 << self.body.k
        flip = inverted @ (1 << np.arange(self.body.k)[::-1])
        spread = self.body.k - self.arity[gates]
        masks = np.empty((len(gates), cells), bool)
        for i in range(cells):
            index = (i << spread) % cells ^ flip
            masks[:, i] = table >> index.astype(table.dtype) & 1
        return masks

    def _classes(self) -> Ints:
        """Per gate: 0 AND-like, 1 XOR-like (two inputs), 2 + k for a general k-input table."""
        kind = 2 + self.arity
        two = self.arity == 2
        ones = np.bitwise_count(self.pairs)
        kind[two & ((ones == 1) | (ones == 3))] = 0
        kind[two & (ones == 2)] = 1
        return kind

    def _intern(self, kinds: Ints, shapes: Ints, arity: Ints) -> Ints:
        """Template ids of gates from their classes and their operands' template ids."""
        rows = np.where(np.arange(shapes.shape[1]) < arity[:, None], shapes, -1)
        keys = np.column_stack([kinds, rows])
        first, inverse = _distinct_rows(keys + 1)
        unique = keys[first]
        ids = np.empty(len(unique), np.int64)
        for i, (kind, *args) in enumerate(unique.tolist()):
            if (kind, *args) not in self._expr_ids:
                name = ("and", "xor")[kind] if kind < 2 else "lut"
                self._expr_ids[kind, *args] = len(self._exprs)
                self._exprs.append(ConeExpr(name, tuple(self._exprs[a] for a in args if a >= 0)))
            ids[i] = self._expr_ids[kind, *args]
        return ids[inverse]

    def _cone_levels(self, roots: Ints) -> Ints:
        """Order of the cones: 1 + the highest order of the cones that a cone reads."""
        order = np.zeros(self.body.num_nets, np.int64)
        inside = np.zeros(self.body.num_nets, np.int64)  # highest cut net's order below
        is_root = np.zeros(self.body.num_nets, bool)
        is_root[roots] = True
        for gates in self.by_level:
            nets = self.first + gates
            below = inside[self.body.fanin[gates]].max(axis=1)
            order[nets] = below
            inside[nets] = np.where(is_root[nets], below + 1, below)
        return order

    # -- extraction ------------------------------------------------------------------------------

    def extract(self, cones: Cones) -> ConeGroup:
        leaves: list[Nets] = []
        masks: list[Bools] = []
        self._walk(cones.expr, cones.nets, leaves, masks)
        masks.append(self.inverted[cones.nets])
        return ConeGroup(
            cones.expr,
            np.stack(leaves, axis=1, dtype=np.int64),
            np.stack(masks, axis=1),
            cones.roots,
            cones.shifts,
            cones.level,
        )

    def _walk(self, expr: ConeExpr, nets: Nets, leaves: list[Nets], masks: list[Bools]) -> None:
        """Collects leaves and masks of `nets`, all of template `expr`. Recursion is at most
        MAX_LEAVES deep.
        """
        if not expr.args:
            leaves.append(nets)
            return
        gates = nets - self.first
        for arg, operands in zip(expr.args, self.operands[gates].T, strict=False):
            self._walk(arg, operands, leaves, masks)
        if expr.masks:
            masks += list(self.masks[gates, : expr.masks].T)


def reachable(body: Body, by_level: list[Ints], roots: Ints, stop: Bools | None = None) -> Bools:
    """Nets in the cones of `roots`, (num_nets,), these included; cones end at nets of `stop`, which
    are not.
    """
    seen = np.zeros(body.num_nets, bool)
    seen[roots] = True
    for gates in reversed(by_level):
        operands = body.fanin[gates[seen[body.first_gate + gates]]].ravel()
        seen[operands if stop is None else operands[~stop[operands]]] = True
    return seen


def _distinct_rows(rows: Ints) -> tuple[Ints, Ints]:
    """Indices of distinct rows (n, c) of small numbers from 0 on, in lexicographic order, and which
    of these each row equals: as numbers with a digit a column, which a table can tell apart.
    """
    number, count = np.zeros(len(rows), np.int64), 1
    for column in rows.T:
        digits = int(column.max(initial=0)) + 1
        if count * digits > _MOST_NUMBERS:
            values, number = np.unique(number, return_inverse=True)
            count = len(values)
        number, count = number * digits + column, count * digits
    if count > _MOST_NUMBERS:
        _, first, inverse = np.unique(number, return_index=True, return_inverse=True)
        return first, inverse
    index = np.full(count, -1)
    index[number[::-1]] = np.arange(len(rows))[::-1]
    first = index[index >= 0]
    return first, (np.cumsum(index >= 0) - 1)[number]


def _masks_of_pairs() -> tuple[Bools, Bools]:
    """The masks of a two-input gate by its table, (16, 2), and whether its template computes the
    complement, (16,).
    """
    table = np.arange(16)
    ones = np.bitwise_count(table)
    minterm = np.where(ones == 3, 15 - table, table)  # one bit: where the AND is true
    index = np.bitwise_count(minterm - 1)
    m1, m2, negated = and_masks(index & 2 == 0, index & 1 == 0)
    masks = np.stack([m1, m2], axis=1) & (ones != 2)[:, None]
    return masks, np.where(ones == 2, table == XNOR, negated ^ (ones == 3))


_MASKS, _INVERTED = _masks_of_pairs()
