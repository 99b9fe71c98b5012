"""Combinational equivalence by sweeping: simulate, guess which nets are equal, prove it locally.

Both graphs are unrolled over shared variables. Random simulation sorts nets into classes of equal
signatures; in topological order each net is proved equal (or complement) to the first of its class,
by truth tables where one level of gates decides it, else by SAT on a growing window of gates
between the two, read through the equalities found so far (fraiging, Mishchenko et al. 2005).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.body import FALSE, FIRST_TAP, Body
from lgir.equivalence import Simulation, Verdict, draw_samples
from lgir.errors import LgirError
from lgir.graph import Graph
from lgir.simulate import Words, evaluate_body
from lgir.unroll import InputSpace, Output, Unrolled, unroll

Array = npt.NDArray[Any]
Literals = npt.NDArray[np.int32]

_SIMULATED: Final = 1 << 23  # words of nets held at a time, 64 MiB
_SIGNATURE_WORDS: Final = 64
_WINDOWS: Final = (48, 512, 8192)  # gates of a window between two nets
_CONFLICTS: Final = 20_000
_TABLE_FANIN: Final = 3  # above, one level's truth tables would have 2**12 rows and more
_REFUTATIONS: Final = 256  # counterexamples gathered before classes are drawn anew


class _Timeout(Exception):
    """The clock ran out."""


class _GaveUp(Exception):
    """A pair of nets whose window grew too large or whose formula is too hard."""


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
    _solver_class()
    deadline = time.monotonic() + seconds
    verdict = Simulation(a, seed=seed).compare(b)
    if verdict.equivalent is False:
        return verdict
    space = InputSpace([a, b])
    left, right = unroll(a, space), unroll(b, space)
    sweep = _Sweep(_joint(left, right), space, a, deadline, seed)
    try:
        sweep.run()
        return _compare_outputs(sweep, a, b, left, right)
    except _Timeout:
        return Verdict(None, "sat", note=f"the time limit of {seconds:g} s was reached")
    except _GaveUp:
        return Verdict(None, "sat", note="two output bits were too hard to compare")


def _solver_class() -> Any:
    try:
        from pysat.solvers import Glucose4
    except ImportError as error:
        raise LgirError(
            'proofs need a SAT solver; install it with: pip install "lgir[sat]"'
        ) from error
    return Glucose4


def _joint(left: Unrolled, right: Unrolled) -> Body:
    """One body over the shared variables; its outputs are those of both sides in turn.

    Gates are sorted by level, so that the first of equal nets is also the shallowest.
    """
    k = max(left.body.k, right.body.k)
    one, two = left.body.widened(k), right.body.widened(k)
    shift = one.num_gates
    moved = np.where(two.fanin >= two.first_gate, two.fanin + shift, two.fanin)
    outputs = np.where(two.outputs >= two.first_gate, two.outputs + shift, two.outputs)
    body = Body.build(
        one.taps,
        np.concatenate([one.fanin, moved]),
        np.concatenate([one.table, two.table]),
        np.concatenate([one.outputs, outputs]),
    )
    order = np.argsort(body.levels()[body.first_gate :], kind="stable")
    new_id = np.arange(body.num_nets, dtype=np.int32)
    new_id[body.first_gate + order] = np.arange(body.first_gate, body.num_nets, dtype=np.int32)
    return Body.build(body.taps, new_id[body.fanin[order]], body.table[order], new_id[body.outputs])


def _compare_outputs(sweep: _Sweep, a: Graph, b: Graph, left: Unrolled, right: Unrolled) -> Verdict:
    count = len(left.body.outputs)
    mine, theirs = sweep.literals_of_outputs(count)
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
        verdict = _compare_bits(sweep, a, b, one, mine[span], theirs[span])
        if verdict is not None:
            return verdict
    return Verdict(True, "sat")


def _compare_bits(
    sweep: _Sweep, a: Graph, b: Graph, out: Output, mine: Literals, theirs: Literals
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
            samples = sweep.space.samples(assignment[None])
            verdict = Simulation(a, inputs=samples).compare(b)
            if verdict.equivalent is False:
                return Verdict(False, "sat", 0, verdict.counterexample)
            return Verdict(None, "sat", note=f"bits of output %{out.name} differ, sums may not")
    return None


class _Signatures:
    """Guesses which nets are equal up to complement, from simulated samples.

    `head` (num_nets,) is the first net of each net's class, `odd` whether the two are complements.
    """

    def __init__(self, body: Body) -> None:
        self.body = body
        self._key = np.zeros(body.num_nets, np.uint64)
        self._first: npt.NDArray[np.bool_] | None = None  # the nets' values on the first sample

    def add(self, planes: Words) -> None:
        """Take in more samples: (variables, words)."""
        step = max(1, _SIMULATED // self.body.num_nets)
        for start in range(0, planes.shape[1], step):
            nets = evaluate_body(self.body, planes[:, start : start + step])
            if self._first is None:
                self._first = (nets[:, 0] & np.uint64(1)).astype(bool)
            nets[self._first] = ~nets[self._first]
            for word in nets.T:  # nets of equal hash are only guessed equal
                self._key = (self._key ^ word) * np.uint64(0xBF58476D1CE4E5B9)
                self._key ^= self._key >> np.uint64(29)
        assert self._first is not None
        _, first, inverse = np.unique(self._key, return_index=True, return_inverse=True)
        self.head = first[inverse.ravel()]
        self.odd = self._first != self._first[self.head]


class _Sweep:
    """Finds a literal over class representatives for every net of a joint body."""

    def __init__(
        self, body: Body, space: InputSpace, graph: Graph, deadline: float, seed: int
    ) -> None:
        self.body = body
        self.space = space
        self.deadline = deadline
        self.literal = 2 * np.arange(body.num_nets, dtype=np.int32)
        self.literal[1] = 1
        self.classes = _Signatures(body)
        self.classes.add(space.planes(draw_samples(graph, 64 * _SIGNATURE_WORDS, seed + 1)))
        self.refuted: list[npt.NDArray[np.bool_]] = []
        self.element = space.elements()

    def run(self) -> None:
        """Level by level: what is easy at once, the rest net by net."""
        body = self.body
        level = body.levels()[body.first_gate :]
        nets = np.arange(body.first_gate, body.num_nets)
        for own in np.split(nets, np.flatnonzero(np.diff(level)) + 1):
            if time.monotonic() > self.deadline:
                raise _Timeout
            for net in own[~self._settle(own)].tolist():
                self._prove_net(net)

    def literals_of_outputs(self, count: int) -> tuple[Literals, Literals]:
        found = self.literal[self.body.outputs]
        return found[:count], found[count:]

    # one level at once

    def _settle(self, own: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """(n,) which nets have no candidate, or one that truth tables prove and that is noted."""
        head, odd = self.classes.head[own], self.classes.odd[own]
        alone: npt.NDArray[np.bool_] = head == own
        if self.body.k > _TABLE_FANIN:
            return alone
        target = self.literal[head] ^ odd
        operands = self.literal[self.body.fanin[own - self.body.first_gate]]
        table = self.body.table[own - self.body.first_gate].astype(np.uint64)
        atom = np.column_stack([operands, target])
        proved: npt.NDArray[np.bool_] = ~alone & _always_equal(table, operands, None, atom, target)
        gate = np.flatnonzero(~alone & ~proved & (head >= self.body.first_gate))
        if len(gate):
            there = head[gate] - self.body.first_gate
            theirs = self.literal[self.body.fanin[there]]
            other = self.body.table[there].astype(np.uint64)
            # The head stands for its own gate unless it was merged away.
            whole = self.literal[head[gate]] == 2 * head[gate]
            both = np.column_stack([operands[gate], theirs])
            phase = odd[gate].astype(np.int32)
            equal = _always_equal(table[gate], operands[gate], (other, theirs), both, phase)
            proved[gate[equal & whole]] = True
        self.literal[own[proved]] = target[proved]
        return alone | proved

    # one net at a time

    def _prove_net(self, net: int) -> None:
        head = int(self.classes.head[net])
        if head == net:
            return
        target = int(self.literal[head]) ^ int(self.classes.odd[net])
        try:
            assignment = self.difference(int(self.literal[net]), target)
        except _GaveUp:
            return
        if assignment is None:
            self.literal[net] = target
            return
        self.refuted.append(assignment)
        if len(self.refuted) >= _REFUTATIONS:
            self._refine()
            self._prove_net(net)

    def _refine(self) -> None:
        """Tell apart what the gathered counterexamples tell apart."""
        samples = self.space.samples(np.array(self.refuted))
        self.refuted.clear()
        self.classes.add(self.space.planes(samples))

    def difference(self, x: int, y: int) -> npt.NDArray[np.bool_] | None:
        """An assignment of the variables on which two literals differ, or None: there is none.

        Raises _GaveUp where neither is found, _Timeout where the clock ran out.
        """
        if x == y:
            return None
        if x <= 1 and y <= 1:
            return np.zeros(self.space.num_variables, bool)
        for size in _WINDOWS:
            if time.monotonic() > self.deadline:
                raise _Timeout
            gates, leaves = self._window([x >> 1, y >> 1], size)
            whole = all(leaf < self.body.first_gate for leaf in leaves)
            model = self._solve(x, y, gates, leaves)
            if model is None:
                return None
            if whole:
                assignment = np.zeros(self.space.num_variables, bool)
                for leaf in leaves:
                    assignment[leaf - FIRST_TAP] = model[leaf]
                return self._consistent(assignment, leaves)
        raise _GaveUp

    def _window(self, roots: list[int], size: int) -> tuple[list[int], list[int]]:
        """The topmost gates below `roots`, at most `size`, and the nets where they end."""
        gates: set[int] = set()
        border = {r for r in roots if r != FALSE}
        first = self.body.first_gate
        while len(gates) < size:
            net = max(border, default=0)  # the latest net cannot lie below another of the border
            if net < first:
                break
            border.remove(net)
            gates.add(net)
            operands = self.literal[self.body.fanin[net - first]] >> 1
            border.update(n for n in operands.tolist() if n != FALSE)
        return sorted(gates), sorted(border)

    def _solve(self, x: int, y: int, gates: list[int], leaves: list[int]) -> dict[int, bool] | None:
        """Values of the window's nets on which literals x and y differ, or None."""
        variable = {net: i + 1 for i, net in enumerate([*leaves, *gates])}

        def signed(literal: int) -> int:
            return -variable[literal >> 1] if literal & 1 else variable[literal >> 1]

        clauses = []
        for net in gates:
            clauses += self._gate_clauses(net, variable)
        inputs = [leaf for leaf in leaves if leaf < self.body.first_gate]
        for low, high in pairwise(inputs):  # thresholds of one element stand in ascending order
            if self.element[low - FIRST_TAP] == self.element[high - FIRST_TAP]:
                clauses.append([-variable[high], variable[low]])
        if x <= 1 or y <= 1:  # one is a constant: the other must be its opposite
            other, constant = (y, x) if x <= 1 else (x, y)
            clauses.append([-signed(other) if constant == 1 else signed(other)])
        else:
            clauses += [[signed(x), signed(y)], [-signed(x), -signed(y)]]
        with _solver_class()(bootstrap_with=clauses) as solver:
            solver.conf_budget(_CONFLICTS)
            answer = solver.solve_limited()
            if answer is None:
                raise _GaveUp
            if not answer:
                return None
            model = solver.get_model()
        return {net: model[v - 1] > 0 for net, v in variable.items() if v <= len(model)}

    def _gate_clauses(self, net: int, variable: dict[int, int]) -> list[list[int]]:
        """A clause for each row of the gate's table, read through its operands' literals."""
        body = self.body
        g = net - body.first_gate
        table, k = int(body.table[g]), body.k
        operands = self.literal[body.fanin[g]].tolist()
        clauses = []
        for row in range(1 << k):
            clause, possible = [], True
            for j, literal in enumerate(operands):
                value = row >> (k - 1 - j) & 1
                if literal <= 1:
                    possible &= literal == value
                else:
                    v = variable[literal >> 1]
                    clause.append(-v if value ^ (literal & 1) else v)
            if possible:
                out = variable[net]
                clauses.append([*clause, out if table >> row & 1 else -out])
        return clauses

    def _consistent(
        self, assignment: npt.NDArray[np.bool_], leaves: list[int]
    ) -> npt.NDArray[np.bool_]:
        """Values for variables outside the window: a passed threshold implies lower ones."""
        for leaf in leaves:
            if assignment[leaf - FIRST_TAP]:
                lower = leaf - FIRST_TAP
                while lower > 0 and self.element[lower - 1] == self.element[lower]:
                    lower -= 1
                assignment[lower : leaf - FIRST_TAP] = True
        return assignment


def _always_equal(
    table: npt.NDArray[np.uint64],
    operands: Literals,
    other: tuple[npt.NDArray[np.uint64], Literals] | None,
    atoms: Literals,
    target: Literals,
) -> npt.NDArray[np.bool_]:
    """(n,) whether gate i equals its target whatever values the nets of `atoms` take.

    The target is the literal `target` where `other` is None, else the gate `other`, complemented
    where `target` is 1. All nets read must be among `atoms` (n, m), literals; every assignment of
    them that gives equal nets equal values and net 0 False is tried.
    """
    nets = atoms >> 1
    equal = np.ones(len(table), bool)
    same = [(i, j, nets[:, i] == nets[:, j]) for i, j in combinations(range(atoms.shape[1]), 2)]
    false = nets == FALSE
    for bits in range(1 << atoms.shape[1]):
        value = [bits >> i & 1 for i in range(atoms.shape[1])]
        possible = ~false[:, np.array(value, bool)].any(axis=1)
        for i, j, is_same in same:
            if value[i] != value[j]:
                possible &= ~is_same
        k = operands.shape[1]
        mine = _row(table, operands, value[:k])
        if other is None:
            theirs = value[-1] ^ (target & 1)
        else:
            theirs = _row(other[0], other[1], value[k:]) ^ target
        equal &= ~possible | (mine == theirs)
    return equal


def _row(
    table: npt.NDArray[np.uint64], operands: Literals, value: Sequence[int]
) -> npt.NDArray[np.int64]:
    """(n,) the gates' outputs where the operands' nets have these values."""
    index = np.zeros(len(table), np.uint64)
    for j, bit in enumerate(value[: operands.shape[1]]):
        index = index * np.uint64(2) + ((operands[:, j] & 1) ^ bit).astype(np.uint64)
    return (table >> index & np.uint64(1)).astype(np.int64)
