"""The entry point of every check whether two graphs compute the same.

Random simulation is the check after every pass; if inputs are few, every sample is tried, and
`lgir.equivalence.proof` proves the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from lgir.equivalence.proof import prove
from lgir.equivalence.sampling import default_samples
from lgir.equivalence.simulation import Simulation, check_signature
from lgir.equivalence.verdict import Verdict
from lgir.errors import unknown_name
from lgir.ir.graph import Graph
from lgir.ir.input_space import InputSpace, count_cases

METHODS: Final = ("sim", "exhaustive", "sat")

MAX_CASES: Final = 1 << 22


def verify_graphs(
    a: Graph,
    b: Graph,
    method: str = "sim",
    *,
    samples: int | None = None,
    seed: int = 0,
    seconds: float = 120.0,
    progress: Callable[[str], None] = lambda step: None,
) -> Verdict:
    """Compare the outputs of two graphs.

    Args:
        a, b: the graphs.
        method: "sim" simulates random samples, which is quick and can only refute. "exhaustive"
            tries every sample that thresholds can tell apart, up to 2**22 of them. "sat" proves.
        samples: number of samples that "sim" draws; by default 64 to 1,024 by the graphs' size.
        seed: seed of the samples.
        seconds: time limit of "sat", after which the verdict is unknown.
        progress: called with a description of each step before it begins.

    Raises:
        GraphError: the graphs differ in the number or types of inputs or outputs.
        LgirError: "sat" without python-sat installed.
        UnknownNameError: no such method.
    """
    if method not in METHODS:
        raise unknown_name("verification method", method, METHODS)
    check_signature(a, b)
    if method == "exhaustive":
        return _try_all(a, b, progress)
    if method == "sat":
        return prove(a, b, seconds=seconds, seed=seed, progress=progress)
    count = samples if samples is not None else min(default_samples(a), default_samples(b))
    progress(f"simulating {count:,} random samples")
    return Simulation(a, samples=count, seed=seed).compare(b)


def _try_all(a: Graph, b: Graph, progress: Callable[[str], None]) -> Verdict:
    """Compare the graphs on every sample that thresholds can tell apart."""
    space = InputSpace([a, b])
    total = count_cases(space)
    if total > MAX_CASES:
        many = f"{total:,}" if total < 10**15 else f"about 10**{len(str(total)) - 1}"
        return Verdict(
            None, "exhaustive", note=f"{many} cases are more than {MAX_CASES:,}; use method 'sat'"
        )
    choices = space.choices()
    step = 64 * default_samples(a)
    for start in range(0, total, step):
        progress(f"trying all {total:,} cases, {start / total:.0%} done")
        number = np.arange(start, min(start + step, total))
        picks = np.empty((len(number), len(choices)), np.int64)
        for i, count in enumerate(choices.tolist()):
            number, picks[:, i] = np.divmod(number, count)
        verdict = Simulation(a, inputs=space.samples(space.cases(picks))).compare(b)
        if verdict.equivalent is False:
            return Verdict(False, "exhaustive", start + len(picks), verdict.counterexample)
    return Verdict(True, "exhaustive", total)
