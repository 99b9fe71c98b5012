"""Netlists of chosen elements of a `ValueMap`, unrolled at the positions at which they stand."""

from __future__ import annotations

from typing import Final

import numpy as np

from lgir.equivalence.arrays import ElementLiterals, Index, Mask
from lgir.equivalence.effort import TooLarge
from lgir.equivalence.netlist import InvertingBuilder, Netlist, widest_fanin
from lgir.equivalence.value_map import LogicValue, ValueMap
from lgir.ir.sets import distinct
from lgir.ir.simulate import tap_index
from lgir.ir.types import FALSE, FIRST_TAP, TRUE

MAX_GATES: Final = 1 << 24


def netlist_at_positions(
    values: ValueMap, roots: ElementLiterals, cut: int = 0, limit: int = MAX_GATES
) -> Netlist:
    """Return the netlist of some elements, down to variables and to what both graphs share.

    Args:
        values: the graphs, and what is proved equal in them.
        roots: literals of the elements, (n,).
        cut: the netlist stops at elements that both graphs are proved to share and that belong to
            the first `cut` logic values. The values of the roots themselves are not cut.
        limit: number of gates beyond which TooLarge is raised.

    Raises:
        TooLarge: the netlist has more than `limit` gates before dead ones are dropped.
    """
    elements = roots >> 1
    cone = _Cone(values, elements, cut)
    total = sum(
        x.shape[1] * values.logic_values[i].op.body.num_gates for i, x in cone.reads.items()
    )
    if total > limit:
        raise TooLarge(total)
    variables = cone.leaves
    builder = InvertingBuilder(len(variables), widest_fanin(values))
    read_net = np.zeros(values.num_elements, np.int64)  # what readers of an element are wired to
    read_net[variables] = FIRST_TAP + np.arange(len(variables))
    root_net = read_net.copy()
    for i in sorted(cone.reads):
        value, positions, literals = values.logic_values[i], cone.positions(i), cone.reads[i]
        taps = read_net[literals >> 1]
        taps[literals == 1] = TRUE
        taps = builder.add_inverters(taps, (literals & 1).astype(bool) & (literals > 1))
        nets = builder.add_copies(value.op.body, taps)[value.op.body.outputs]
        computed = value.elements[:, positions]
        root_net[computed] = nets
        not_cut = read_net[computed] == FALSE
        read_net[computed[not_cut]] = nets[not_cut]
    return Netlist(
        builder.build_live(root_net[elements]),
        (roots & 1).astype(np.int32),
        values.implications(variables),
        variables,
    )


class _Cone:
    """What the roots depend on: positions of logic values, down to leaves.

    Attributes:
        reads: by logic value that is needed, the literals (T, n) that its taps read at the needed
            positions.
        leaves: the elements at which the cone ends, ascending, without False.
    """

    def __init__(self, values: ValueMap, roots: Index, cut: int) -> None:
        self.reads: dict[int, ElementLiterals] = {}
        self._values = values
        self._cut = cut
        self._compared = set(values.owners(roots).tolist())
        self._needed = [np.zeros(v.op.positions, bool) for v in values.logic_values]
        leaves = [roots[values.owners(roots) < 0]]
        self._need(roots)
        for i, value in reversed(list(enumerate(values.logic_values))):
            positions = self.positions(i)
            if len(positions):
                self.reads[i] = _literals_read(values, value, positions)
                elements = distinct(self.reads[i] >> 1)
                leaf = self._is_leaf(elements)
                leaves.append(elements[leaf])
                self._need(elements[~leaf])
        distinct_leaves = distinct(np.concatenate(leaves))
        self.leaves = distinct_leaves[distinct_leaves > 0]

    def positions(self, i: int) -> Index:
        """Return the positions at which logic value `i` is needed."""
        return np.flatnonzero(self._needed[i])

    def _need(self, elements: Index) -> None:
        owner = self._values.owners(elements)
        for i in distinct(owner[owner >= 0]).tolist():
            value = self._values.logic_values[i]
            self._needed[i][(elements[owner == i] - value.first) % value.op.positions] = True

    def _is_leaf(self, elements: Index) -> Mask:
        owner = self._values.owners(elements)
        leaf: Mask = owner < 0
        cut = set(owner[(owner >= 0) & (owner < self._cut)].tolist()) - self._compared
        for i in cut:
            value, owned = self._values.logic_values[i], owner == i
            leaf[owned] = value.shared[value.channels_of(elements[owned])]
        return leaf


def _literals_read(values: ValueMap, value: LogicValue, positions: Index) -> ElementLiterals:
    """Return the literals (T, n) that the taps of a Logic node read at some positions."""
    names = value.node.inputs
    planes = [values.literals(value.graph, name).ravel() for name in names]
    shapes = [values.shape(value.graph, name) for name in names]
    index = tap_index(value.op, shapes)[:, positions]
    result: ElementLiterals = np.concatenate([*planes, [0]])[index]
    return result
