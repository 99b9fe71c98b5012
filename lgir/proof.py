"""Combinational equivalence of two graphs, proved by sweeping their joint netlist.

Both are unrolled over shared variables and swept together (`lgir.sweeping`); outputs are equal
where the sweep found one literal for both, bit by bit, or sum by sum in any order of the bits.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.body import Body
from lgir.equivalence import Simulation, Verdict
from lgir.graph import Graph
from lgir.sweeping import Effort, GaveUp, Sweep, TimeUp, by_level, solver_class
from lgir.unroll import InputSpace, Output, Unrolled, unroll
from lgir.windows import Chains

Array = npt.NDArray[Any]
Literals = npt.NDArray[np.int32]


class _Refuted(Exception):
    """The graphs differ, as the verdict given shows."""


def prove(a: Graph, b: Graph, *, seconds: float = 120.0, seed: int = 0) -> Verdict:
    """Prove that two graphs compute the same, or find a sample on which they do not.

    The verdict is None (unknown) where time runs out, or where sums are equal in a way that their
    bits do not show.

    Args:
        seconds: time limit.
        seed: of the simulated samples.

    Raises:
        LgirError: python-sat is not installed.
    """
    solver_class()
    deadline = time.monotonic() + seconds
    verdict = Simulation(a, seed=seed).compare(b)
    if verdict.equivalent is False:
        return verdict
    space = InputSpace([a, b])
    left, right = unroll(a, space), unroll(b, space)

    def try_samples(variables: npt.NDArray[np.bool_]) -> None:
        verdict = Simulation(a, inputs=space.samples(variables)).compare(b)
        if verdict.equivalent is False:
            raise _Refuted(Verdict(False, "sat", 0, verdict.counterexample))

    element = space.elements()
    chains = Chains.build(element, np.arange(len(element)))
    try:
        sweep = Sweep(
            _joint(left, right), chains, Effort(deadline=deadline, seed=seed + 1), try_samples
        )
        sweep.run()
        return _compare_outputs(sweep, space, a, b, left, right)
    except _Refuted as found:
        refutation: Verdict = found.args[0]
        return refutation
    except TimeUp:
        return Verdict(None, "sat", note=f"the time limit of {seconds:g} s was reached")
    except GaveUp:
        return Verdict(None, "sat", note="two output bits were too hard to compare")


def _joint(left: Unrolled, right: Unrolled) -> Body:
    """One body over the shared variables; its outputs are those of both sides in turn."""
    k = max(left.body.k, right.body.k)
    one, two = left.body.widened(k), right.body.widened(k)
    shift = one.num_gates
    moved = np.where(two.fanin >= two.first_gate, two.fanin + shift, two.fanin)
    outputs = np.where(two.outputs >= two.first_gate, two.outputs + shift, two.outputs)
    return by_level(
        Body.build(
            one.taps,
            np.concatenate([one.fanin, moved]),
            np.concatenate([one.table, two.table]),
            np.concatenate([one.outputs, outputs]),
        )
    )


def _compare_outputs(
    sweep: Sweep, space: InputSpace, a: Graph, b: Graph, left: Unrolled, right: Unrolled
) -> Verdict:
    count = len(left.body.outputs)
    found = sweep.literal[sweep.body.outputs]
    mine, theirs = found[:count], found[count:]
    at = 0
    for one, two in zip(left.outputs, right.outputs, strict=True):
        span = slice(at, at + len(one.nets))
        at += len(one.nets)
        if one.raw is not None or two.raw is not None:
            if one.raw != two.raw:
                return Verdict(None, "sat", note=f"output %{one.name} hands on an input's numbers")
            continue
        if len(one.nets) != len(two.nets) or one.op != two.op:
            return Verdict(None, "sat", note=f"the sums of output %{one.name} differ in shape")
        verdict = _compare_bits(sweep, space, a, b, one, mine[span], theirs[span])
        if verdict is not None:
            return verdict
    return Verdict(True, "sat")


def _compare_bits(
    sweep: Sweep,
    space: InputSpace,
    a: Graph,
    b: Graph,
    out: Output,
    mine: Literals,
    theirs: Literals,
) -> Verdict | None:
    """None where the output is proved equal."""
    groups = out.op.groups if out.op is not None else len(mine)
    rows = [np.sort(x.reshape(groups, -1), axis=1) for x in (mine, theirs)]
    open_groups = np.flatnonzero((rows[0] != rows[1]).any(axis=1))
    width = len(mine) // groups
    for group in open_groups.tolist():
        for bit in range(group * width, (group + 1) * width):
            assignment = sweep.difference(int(mine[bit]), int(theirs[bit]))
            if assignment is None:
                continue
            verdict = Simulation(a, inputs=space.samples(assignment[None])).compare(b)
            if verdict.equivalent is False:
                return Verdict(False, "sat", 0, verdict.counterexample)
            return Verdict(None, "sat", note=f"bits of output %{out.name} differ, sums may not")
    return None
