"""Netlist: gates over variables, with the roots that are compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lgir.equivalence.arrays import Index, Literals, Mask
from lgir.equivalence.implications import Implications
from lgir.equivalence.sweeping import sort_by_level
from lgir.equivalence.value_map import ValueMap
from lgir.ir.body import Body
from lgir.ir.netlist_builder import NetlistBuilder
from lgir.ir.truth_tables import not_table
from lgir.ir.types import FIRST_TAP

_INVERTER = Body.build([[0, 0]], [[FIRST_TAP]], [not_table(1)], [FIRST_TAP + 1])


@dataclass(frozen=True)
class Netlist:
    """Gates in order of level over variables.

    Attributes:
        body: the gates; its outputs are the nets of the roots.
        complemented: which roots are the complements of their nets, int32 (roots,).
        implications: which taps imply each other.
        variables: the elements that the taps stand for, (T,); empty if they stand for none.
    """

    body: Body
    complemented: Literals
    implications: Implications
    variables: Index

    def root_literals(self, literal: Literals) -> Literals:
        """Return the literals of the roots, (roots,), from those of all nets."""
        result: Literals = literal[self.body.outputs] ^ self.complemented
        return result


class InvertingBuilder(NetlistBuilder):
    """A netlist builder that also adds inverters."""

    def add_inverters(self, nets: Index, complemented: Mask) -> Index:
        """Return the nets (any shape), with the output of an inverter for each complemented one."""
        if not complemented.any():
            return nets
        source, place = np.unique(nets[complemented], return_inverse=True)
        result = nets.copy()
        result[complemented] = self.add_copies(_INVERTER, source[None])[-1][place.ravel()]
        return result

    def build_live(self, outputs: npt.NDArray[np.integer]) -> Body:
        """Return the body of these outputs without dead gates, in order of level."""
        return sort_by_level(_without_dead_gates(self.build(outputs)))


def widest_fanin(values: ValueMap) -> int:
    """Return the widest fan-in of any body of the graphs."""
    return max([value.op.body.k for value in values.logic_values], default=1)


def _without_dead_gates(body: Body) -> Body:
    """Return the body without the gates that no output needs; all taps stay."""
    live = np.zeros(body.num_nets, bool)
    live[: body.first_gate] = True
    live[body.outputs] = True
    for gates in reversed(body.gates_by_level()):
        live[body.fanin[gates[live[body.first_gate + gates]]]] = True
    return body.restricted(live)
