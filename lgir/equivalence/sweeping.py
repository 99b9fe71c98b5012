"""SAT sweeping (fraiging): which nets of a body are equal or complements, whatever its taps read.

Random simulation sorts nets into candidate classes. Level by level, each net is proved equal to the
first of its class: by truth tables of small windows, all of a level at once, and otherwise one by
one by SAT on growing windows, both read through the equalities proved so far. What refutes a
candidate refines the classes (Mishchenko et al., "FRAIGs: A unifying representation for logic
synthesis and verification", 2005).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from lgir.equivalence.arrays import Index, Literals, Mask
from lgir.equivalence.candidates import CandidateClasses
from lgir.equivalence.effort import Effort, GaveUp
from lgir.equivalence.implications import Implications, draw_planes, draw_planes_near
from lgir.equivalence.pair_solver import PairSolver
from lgir.equivalence.windows import WindowTables
from lgir.ir.body import Body
from lgir.ir.simulate import unpack_planes

_MIN_REFUTATIONS: Final = 16  # counterexamples after which a level of tables refines the classes
_MAX_REFUTATIONS: Final = 64  # counterexamples that are gathered at most before that


class Sweep:
    """Finds, for each net of a body, the literal over first nets of classes that it equals.

    Attributes:
        body: the body; its gates must stand in order of level (see `sort_by_level`).
        literal: int32 (num_nets,), 2 * net + complement; 0 and 1 are the constants. After `run`
            each net is proved to equal its literal.
    """

    def __init__(
        self,
        body: Body,
        implications: Implications,
        effort: Effort,
        on_refuted: Callable[[Mask], None] | None = None,
    ) -> None:
        """Simulate `body`.

        Args:
            body: the body to sweep.
            implications: which of its taps imply each other.
            effort: the limits.
            on_refuted: called with assignments (n, T) of the taps on which candidates differ.

        Raises:
            LgirError: python-sat is not installed.
        """
        self.body = body
        self.literal: Literals = 2 * np.arange(body.num_nets, dtype=np.int32)
        self.literal[1] = 1
        self._effort = effort
        self._on_refuted = on_refuted
        self._implications = implications
        self._solver = PairSolver(body, self.literal, implications, effort)
        self._windows = WindowTables(body, self.literal, implications)
        self._refutations: list[Mask] = []
        self._refuted_nets: list[int] = []  # nets refuted since the classes were last refined
        self._classes = CandidateClasses(body, draw_planes(implications, effort.words, effort.seed))

    def run(self) -> None:
        """Prove what can be proved. Raises TimeUp after the deadline."""
        for gates in self.body.gates_by_level():
            self._settle(gates + self.body.first_gate)
        while self._refutations:
            self._settle(self._refine())

    def difference(self, x: int, y: int) -> Mask | None:
        """Return values (T,) of the taps on which literals x and y differ, or None: there are none.

        Raises GaveUp if neither is found, and TimeUp after the deadline.
        """
        return self._solver.difference(x, y)

    def _settle(self, nets: Index) -> None:
        """Prove nets, which stand in one level or below it, equal to the heads of their classes."""
        while len(nets):
            self._effort.check_time()
            nets = self._settle_by_tables(nets)
            if len(self._refutations) >= _MIN_REFUTATIONS:
                nets = np.concatenate([nets, self._refine()])
            else:
                nets = self._settle_by_solver(nets)

    def _settle_by_tables(self, nets: Index) -> Index:
        """Note the nets that truth tables prove equal to their heads; return what stays open."""
        nets = nets[self._classes.head[nets] != nets]
        if not len(nets):
            return nets
        target = self._target(nets)
        equal, refuted = self._windows.compare(self.literal[nets], target)
        self.literal[nets[equal]] = target[equal]
        settled = equal.copy()
        for pair, leaves, values in refuted:
            settled[pair] = True
            self._refuted_nets.append(int(nets[pair]))
            if len(self._refutations) < _MAX_REFUTATIONS:
                assignment = self._solver.assignment(leaves.tolist(), values.tolist())
                self._refutations.append(assignment)
        return nets[~settled]

    def _settle_by_solver(self, nets: Index) -> Index:
        """Compare one net after the other; return what is open again after a refinement."""
        for position, net in enumerate(nets.tolist()):
            target = int(self._target(nets[position : position + 1])[0])
            try:
                difference = self.difference(int(self.literal[net]), target)
            except GaveUp:
                continue
            if difference is None:
                self.literal[net] = target
                continue
            self._refuted_nets.append(net)
            self._refutations.append(difference)
            if len(self._refutations) >= _MAX_REFUTATIONS:
                return np.concatenate([nets[position + 1 :], self._refine()])
        return nets[:0]

    def _refine(self) -> Index:
        """Split the classes by the gathered counterexamples; return the nets to try again."""
        seed = self._effort.seed + len(self._refuted_nets)
        planes = draw_planes_near(np.array(self._refutations), self._implications, seed)
        nets = np.array(self._refuted_nets, np.int64)
        self._refutations.clear()
        self._refuted_nets.clear()
        if self._on_refuted is not None:
            self._on_refuted(unpack_planes(planes, 64 * planes.shape[1]))
        self._classes.refine(planes)
        return nets

    def _target(self, nets: Index) -> Literals:
        """Return the literals (n,) that the nets are candidates to equal."""
        classes = self._classes
        target: Literals = self.literal[classes.head[nets]] ^ classes.complemented[nets]
        return target


def sort_by_level(body: Body) -> Body:
    """Return the body with its gates by level, so that the first of equal nets is shallowest."""
    order = np.argsort(body.levels()[body.first_gate :], kind="stable")
    new_id = np.arange(body.num_nets, dtype=np.int32)
    new_id[body.first_gate + order] = np.arange(body.first_gate, body.num_nets, dtype=np.int32)
    return Body.build(body.taps, new_id[body.fanin[order]], body.table[order], new_id[body.outputs])
