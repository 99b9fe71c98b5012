"""Context: what a trace has made so far, and what operators share."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from lgir.frontend.trace.functions import Functions
from lgir.frontend.trace.netlist import Netlist, Origin
from lgir.frontend.trace.numbers import Chains, Numbers, Sources

Symbolic = Functions | Numbers
"""A tensor that depends on the input."""

Value = Symbolic | Tensor


class Refused(Exception):
    """What is not Boolean; the interpreter adds where."""


@dataclass(eq=False)
class Context:
    """Attributes:
    netlist: the gates made so far.
    chains, sources: the functions of numbers, and the numbers.
    origin: of the operation that is being interpreted.
    """

    netlist: Netlist = field(default_factory=Netlist)
    chains: Chains = field(default_factory=Chains)
    sources: Sources = field(default_factory=Sources)
    origin: Origin = field(default_factory=Origin)
