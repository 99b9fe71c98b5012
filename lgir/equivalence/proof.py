"""Combinational equivalence of two graphs: body by body, and unrolled if that is not enough.

What `lgir.equivalence.matching` proves equal is shared. Outputs that are not the same by then are
unrolled down to the inputs, on top of what is shared, and swept (`lgir.equivalence.sweeping`). Bits
must have one literal; sums must have the same number of each, constants and complements counted as
such.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np

from lgir.equivalence.arrays import Mask
from lgir.equivalence.at_positions import netlist_at_positions
from lgir.equivalence.effort import Effort, GaveUp, TimeUp, TooLarge
from lgir.equivalence.implications import draw_planes
from lgir.equivalence.matching import match_values
from lgir.equivalence.outputs import OutputBits, OutputPair
from lgir.equivalence.pair_solver import solver_class
from lgir.equivalence.sampling import default_samples, draw_samples
from lgir.equivalence.simulation import Simulation
from lgir.equivalence.sweeping import Sweep
from lgir.equivalence.value_map import ValueMap
from lgir.equivalence.verdict import Verdict
from lgir.ir.graph import Graph
from lgir.ir.simulate import unpack_planes

_MAX_BIT_PAIRS: Final = 64  # pairs of bits of an output that are compared one by one


class _Refuted(Exception):
    """A sample on which the graphs differ was found; `verdict` holds it."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict


def prove(
    a: Graph,
    b: Graph,
    *,
    seconds: float = 120.0,
    seed: int = 0,
    progress: Callable[[str], None] = lambda step: None,
) -> Verdict:
    """Prove that two graphs compute the same, or find a sample on which they do not.

    The verdict is unknown if time runs out, or if sums are equal in a way that their bits do not
    show.

    Args:
        a: the first graph.
        b: the second graph, with the same inputs and the same types of outputs.
        seconds: time limit.
        seed: seed of the simulated samples.
        progress: called with a description of each step before it begins.

    Raises:
        LgirError: python-sat is not installed.
    """
    solver_class()
    effort = Effort(deadline=time.monotonic() + seconds, seed=seed + 1)
    progress("simulating random samples")
    verdict = Simulation(a, seed=seed).compare(b)
    if verdict.equivalent is False:
        return verdict
    try:
        reason = _reason_unknown(a, b, effort, seed, progress)
        return Verdict(True, "sat") if reason is None else _unknown(reason)
    except _Refuted as refuted:
        return refuted.verdict
    except TimeUp:
        return _unknown(f"the time limit of {seconds:g} s was reached")
    except TooLarge as error:
        return _unknown(f"what is not alike body by body unrolls to {error.gates:,} gates")
    except GaveUp:
        return _unknown("two output bits were too hard to compare")


def _unknown(reason: str) -> Verdict:
    return Verdict(None, "sat", note=reason)


def _reason_unknown(
    a: Graph, b: Graph, effort: Effort, seed: int, progress: Callable[[str], None]
) -> str | None:
    """Return None if the graphs are proved equal, and otherwise why that is not known.

    Raises _Refuted with a sample on which they differ.
    """
    # The graph of more nodes comes first, so that what the other's bodies hold is looked for in it.
    values = ValueMap([a, b] if len(a.nodes) >= len(b.nodes) else [b, a])

    def try_samples(assignments: Mask) -> None:
        verdict = Simulation(a, inputs=values.space.samples(assignments)).compare(b)
        if verdict.equivalent is False:
            raise _Refuted(Verdict(False, "sat", 0, verdict.counterexample))

    samples = draw_samples(a, default_samples(a), seed)
    unequal: list[OutputPair] = []
    for deeper in (False, True):
        match_values(values, samples, effort, try_samples, deeper, progress)
        sides = (
            [OutputBits.of(values, i, name) for name in graph.outputs]
            for i, graph in enumerate(values.graphs)
        )
        pairs = [OutputPair(*x) for x in zip(a.outputs, *sides, strict=True)]
        for pair in pairs:
            if pair.left.raw != pair.right.raw:
                return f"output %{pair.name} hands on an input's numbers"
        unequal = [pair for pair in pairs if not pair.is_equal()]
        if not unequal:
            return None
    progress(f"proving outputs unrolled: {', '.join(pair.name for pair in unequal)}")
    return _compare_unrolled(values, unequal, effort, try_samples)


def _compare_unrolled(
    values: ValueMap,
    pairs: list[OutputPair],
    effort: Effort,
    try_samples: Callable[[Mask], None],
) -> str | None:
    """Return None if all pairs of outputs are equal, and otherwise why that is not known."""
    pairs = [pair.restricted_to(pair.unequal_groups()) for pair in pairs]
    sides = [x for pair in pairs for x in (pair.left, pair.right)]
    netlist = netlist_at_positions(values, np.concatenate([x.bits for x in sides]))

    def try_taps(assignments: Mask) -> None:
        try_samples(values.assignments(netlist.variables, assignments))

    planes = draw_planes(netlist.implications, effort.words, effort.seed)
    try_taps(unpack_planes(planes, 64 * effort.words))
    sweep = Sweep(netlist.body, netlist.implications, effort, try_taps)
    sweep.run()
    literal = netlist.root_literals(sweep.literal)
    ends = np.cumsum([len(x.bits) for x in sides])[:-1]
    for x, bits in zip(sides, np.split(literal, ends), strict=True):
        x.bits = bits.astype(np.int64)
    for pair in pairs:
        for left, right in pair.unmatched_bits()[:_MAX_BIT_PAIRS]:
            difference = sweep.difference(left, right)
            if difference is not None:
                try_taps(difference[None])
            else:  # they are equal after all, although the sweep gave up
                pair.merge(left, right)
        if not pair.is_equal():
            return f"bits of output %{pair.name} differ, sums may not"
    return None
