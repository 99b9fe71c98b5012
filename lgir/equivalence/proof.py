"""Combinational equivalence of two graphs: body by body, and unrolled where that does not do.

What `lgir.equivalence.matching` proves equal is shared; outputs that are not the same by then are
unrolled down to the inputs, on top of what is shared, and swept (`lgir.equivalence.sweeping`). Bits
must have one literal, sums the same number of each, constants and complements counted as such.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.equivalence.matching import correspond
from lgir.equivalence.netlists import TooLarge, at_positions
from lgir.equivalence.sampling import default_samples, draw_samples
from lgir.equivalence.simulation import Simulation
from lgir.equivalence.sweeping import Effort, GaveUp, Sweep, TimeUp, draw, solver_class
from lgir.equivalence.value_map import Atlas
from lgir.equivalence.verdict import Verdict
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Reshape
from lgir.ir.simulate import unpack_planes

Literals = npt.NDArray[np.integer]

_TRIES: Final = 64  # pairs of bits of an output that are looked at one by one


class _Decided(Exception):
    """The argument is the verdict: a sample on which the graphs differ, or that none is known."""


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
    effort = Effort(deadline=time.monotonic() + seconds, seed=seed + 1)
    verdict = Simulation(a, seed=seed).compare(b)
    if verdict.equivalent is False:
        return verdict
    # First the graph of more nodes, so that what the other's bodies hold is looked for in them.
    first, second = (a, b) if len(a.nodes) >= len(b.nodes) else (b, a)
    atlas = Atlas([first, second])

    def try_samples(variables: npt.NDArray[np.bool_]) -> None:
        verdict = Simulation(a, inputs=atlas.space.samples(variables)).compare(b)
        if verdict.equivalent is False:
            raise _Decided(Verdict(False, "sat", 0, verdict.counterexample))

    try:
        samples = draw_samples(a, default_samples(a), seed)
        for deeper in (False, True):
            correspond(atlas, samples, effort, try_samples, deeper)
            outputs = [
                [_Output.of(atlas, i, x) for x in g.outputs] for i, g in enumerate(atlas.graphs)
            ]
            pairs = [_Pair(*x) for x in zip(a.outputs, *outputs, strict=True)]
            pairs = [pair for pair in pairs if not pair.equal()]
            if not pairs:
                break
        note = _compare_unrolled(atlas, pairs, effort, try_samples) if pairs else None
        return Verdict(True, "sat") if note is None else _unknown(note)
    except _Decided as decided:
        found: Verdict = decided.args[0]
        return found
    except TimeUp:
        return _unknown(f"the time limit of {seconds:g} s was reached")
    except TooLarge as error:
        return _unknown(f"what is not alike body by body unrolls to {error.gates:,} gates")
    except GaveUp:
        return _unknown("two output bits were too hard to compare")


def _unknown(note: str) -> Verdict:
    return Verdict(None, "sat", note=note)


@dataclass
class _Output:
    """An output: literals (n,) of its bits or of those that `op` sums, or a graph input's name."""

    bits: Literals
    op: GroupSum | None = None
    raw: str | None = None

    @staticmethod
    def of(atlas: Atlas, graph: int, name: str) -> _Output:
        node = atlas.producer(graph, name)
        while node is not None and isinstance(node.op, Reshape):
            name = node.inputs[0]
            node = atlas.producer(graph, name)
        if node is not None and isinstance(node.op, GroupSum):
            return _Output(atlas.codes(graph, node.inputs[0]).ravel(), node.op)
        if atlas.graphs[graph].values[name].dtype == "bit":
            return _Output(atlas.codes(graph, name).ravel())
        return _Output(np.zeros(0, np.int64), raw=name)

    @property
    def groups(self) -> int:
        return len(self.bits) if self.op is None else self.op.groups

    def counts(self, group: int) -> tuple[dict[int, int], int]:
        """What a group's sum is: multiples of nets and a constant."""
        bits = self.bits.reshape(self.groups, -1)[group]
        nets, place = np.unique(bits >> 1, return_inverse=True)
        odd = np.bincount(place, bits & 1)
        times = np.bincount(place) - 2 * odd  # a complement counts 1 - x
        constant = int(odd.sum())
        found = dict(zip(nets.tolist(), times.astype(int).tolist(), strict=True))
        found.pop(0, None)
        return {net: n for net, n in found.items() if n}, constant


@dataclass
class _Pair:
    """The two graphs' output of one place."""

    name: str
    left: _Output
    right: _Output

    def equal(self) -> bool:
        return not self.open_groups()

    def open_groups(self) -> list[int]:
        """The groups of bits (a bit each where nothing is summed) that are not seen to be equal."""
        one, two = self.left, self.right
        if one.raw != two.raw:
            raise _Decided(_unknown(f"output %{self.name} hands on an input's numbers"))
        if one.op is None and two.op is None:
            return np.flatnonzero(one.bits != two.bits).tolist()
        return [g for g in range(one.groups) if not self._same_score(g)]

    def _same_score(self, group: int) -> bool:
        one, two = self.left, self.right
        (nets, here), (others, there) = one.counts(group), two.counts(group)
        if nets != others or one.op is None or two.op is None:
            return False
        low, high = (sum(n for n in nets.values() if n * sign > 0) for sign in (-1, 1))
        counts = np.arange(low, high + 1)
        return np.array_equal(_scores(one.op, counts + here), _scores(two.op, counts + there))

    def part(self, groups: list[int]) -> _Pair:
        """Some of the groups alone."""
        left, right = (
            _Output(
                x.bits.reshape(x.groups, -1)[groups].ravel(),
                None if x.op is None else replace(x.op, groups=len(groups)),
            )
            for x in (self.left, self.right)
        )
        return _Pair(self.name, left, right)

    def unlike(self) -> list[tuple[int, int]]:
        """Literals of bits that one side has and the other lacks, in pairs."""
        found: list[tuple[int, int]] = []
        for group in self.open_groups():
            one, two = (
                x.bits.reshape(x.groups, -1)[group].tolist() for x in (self.left, self.right)
            )
            left, right = Counter(one) - Counter(two), Counter(two) - Counter(one)
            found += zip(left.elements(), right.elements(), strict=False)
        return found


def _scores(op: GroupSum, counts: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """The scores of these counts, as bits."""
    scores = (counts.astype(np.float32) + np.float32(op.beta)) / np.float32(op.tau)
    return scores.view(np.int32)


def _compare_unrolled(
    atlas: Atlas,
    pairs: list[_Pair],
    effort: Effort,
    try_samples: Callable[[npt.NDArray[np.bool_]], None],
) -> str | None:
    """None where all pairs are equal, else why that is not known. Raises _Decided."""
    pairs = [pair.part(pair.open_groups()) for pair in pairs]
    outputs = [x for pair in pairs for x in (pair.left, pair.right)]
    netlist = at_positions(atlas, np.concatenate([x.bits for x in outputs]))

    def try_taps(values: npt.NDArray[np.bool_]) -> None:
        try_samples(atlas.assignments(netlist.variables, values))

    planes = draw(netlist.chains, effort.words, effort.seed)
    try_taps(unpack_planes(planes, 64 * effort.words))
    sweep = Sweep(netlist.body, netlist.chains, effort, try_taps)
    sweep.run()
    literal = netlist.roots(sweep.literal)
    for x, bits in zip(
        outputs, np.split(literal, np.cumsum([len(x.bits) for x in outputs])[:-1]), strict=True
    ):
        x.bits = bits
    for pair in pairs:
        for one, two in pair.unlike()[:_TRIES]:
            found = sweep.difference(one, two)
            if found is not None:
                try_taps(found[None])
                continue
            for x in (pair.left, pair.right):  # equal after all, where the sweep gave up
                odd = (x.bits ^ two) & 1
                x.bits = np.where(x.bits >> 1 == two >> 1, one ^ odd, x.bits)
        if not pair.equal():
            return f"bits of output %{pair.name} differ, sums may not"
    return None
