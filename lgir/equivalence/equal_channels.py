"""Which channels of two graphs compute the same, node by node: simulated, or proved.

Values over one iteration space are compared, whatever the names of their nodes. A channel that is
the complement of another counts as equal to it, since tables absorb inverters.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lgir.equivalence.arrays import ElementLiterals
from lgir.equivalence.effort import Effort, GaveUp, TimeUp
from lgir.equivalence.matching import hash_channels, match_values, most_alike
from lgir.equivalence.pair_solver import solver_class
from lgir.equivalence.sampling import default_samples, draw_samples
from lgir.equivalence.simulation import check_signature
from lgir.equivalence.value_map import ValueMap
from lgir.ir.graph import Graph


@dataclass(frozen=True)
class EqualChannels:
    """The channels of a node of one graph that equal channels of a node of another graph.

    Attributes:
        left: the node of the first graph with most channels in common.
        right: the node of the second graph.
        channels: number of channels of `right`.
        simulated: how many of these equal a channel of `left`, or its complement, on all samples.
        proved: how many are proved to; None if no proof was asked for.
    """

    left: str
    right: str
    channels: int
    simulated: int
    proved: int | None = None


def equal_channels(
    a: Graph,
    b: Graph,
    *,
    prove: bool = False,
    samples: int | None = None,
    seed: int = 0,
    seconds: float = 120.0,
    progress: Callable[[str], None] = lambda step: None,
) -> Mapping[str, EqualChannels]:
    """Return, by the name of `b`'s Logic node, the channels that it has in common with one of `a`.

    Nodes that have less than a quarter of their channels in common with any node of `a` are left
    out.

    Args:
        a: the first graph.
        b: the second graph.
        prove: whether to prove the channels equal that are equal in simulation.
        samples: number of random samples; None chooses by the size of the graphs.
        seed: seed of the random samples.
        seconds: time limit of the proof, after which fewer channels are proved.
        progress: called with a description of each step before it begins.

    Raises:
        GraphError: the graphs differ in the names or types of inputs or outputs.
        LgirError: a proof is asked for and python-sat is not installed.
    """
    check_signature(a, b)
    if prove:
        solver_class()
    count = min(default_samples(a), default_samples(b)) if samples is None else samples
    drawn = draw_samples(a, count, seed)
    values = ValueMap([a, b])
    progress(f"simulating {count:,} samples")
    hashes = hash_channels(values, drawn)
    pairs = {}
    for right in (value for value in values.logic_values if value.graph == 1):
        left = most_alike(values, hashes, right)
        if left is not None:
            alike = int(np.isin(hashes[1, right.name], hashes[0, left.name]).sum())
            pairs[right.name] = EqualChannels(left.name, right.name, len(right.literals), alike)
    if not prove:
        return pairs
    effort = Effort(deadline=time.monotonic() + seconds, seed=seed + 1)
    with contextlib.suppress(TimeUp, GaveUp):
        for deeper in (False, True):
            match_values(values, drawn, effort, lambda assignments: None, deeper, progress)
    return {name: _with_proof(values, pair) for name, pair in pairs.items()}


def _with_proof(values: ValueMap, pair: EqualChannels) -> EqualChannels:
    left, right = (values.literals(i, name) for i, name in enumerate((pair.left, pair.right)))
    plain = np.concatenate([_without_phase(left), _without_phase(right)])
    _, number = np.unique(plain, axis=0, return_inverse=True)
    number = number.ravel()
    proved = int(np.isin(number[len(left) :], number[: len(left)]).sum())
    return EqualChannels(pair.left, pair.right, pair.channels, pair.simulated, proved)


def _without_phase(literals: ElementLiterals) -> ElementLiterals:
    return literals ^ (literals[:, :1] & 1)
