"""Sweeping: which nets of a body are equal, or complements, whatever its taps read.

Random simulation sorts nets into classes of equal signatures; level by level each net is proved
equal to the first of its class, by truth tables of small windows, all of a level at once, else one
by one by SAT on growing windows, read through the equalities found so far. What refutes a guess
refines the classes (fraiging, Mishchenko et al. 2005).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.equivalence.windows import Chains, Windows
from lgir.errors import LgirError
from lgir.ir.body import Body
from lgir.ir.simulate import Words, evaluate_body, pack_planes, unpack_planes
from lgir.ir.types import FALSE, FIRST_TAP

Literals = npt.NDArray[np.int32]
Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_SIMULATED: Final = 1 << 23  # words of nets held at a time, 64 MiB
_WINDOWS: Final = (48, 512, 8192)  # gates of a window between two nets
_REFUTATIONS: Final = (16, 64)  # how many, at least and at most, before classes are drawn anew


class TimeUp(Exception):
    """The clock ran out."""


class GaveUp(Exception):
    """A pair of nets whose window grew too large or whose formula is too hard."""


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Attributes:
        conflicts: of the SAT solver for each pair of nets, after which the pair is left alone.
        words: of 64 samples each that draw the first classes.
        deadline: of `time.monotonic()`, after which TimeUp is raised.
        seed: of the samples.
    """

    conflicts: int = 20_000
    words: int = 32
    deadline: float = np.inf
    seed: int = 0


def solver_class() -> Any:
    """The SAT solver. Raises LgirError where python-sat is not installed."""
    try:
        from pysat.solvers import Glucose4
    except ImportError as error:
        raise LgirError(
            'proofs and sweeping need a SAT solver; install it with: pip install "lgir[sat]"'
        ) from error
    return Glucose4


class Sweep:
    """Finds for each net of a body the literal, over the first nets of classes, that it equals.

    Gates must stand in order of level. `literal` (num_nets,) is 2 * net + complement, 0 and 1 for
    the constants. `on_refuted` is told assignments (n, T) of the taps on which nets thought equal
    differ.
    """

    def __init__(
        self,
        body: Body,
        chains: Chains,
        effort: Effort = Effort(),
        on_refuted: Callable[[Mask], None] | None = None,
    ) -> None:
        self.solver = solver_class()
        self.body = body
        self.effort = effort
        self.on_refuted = on_refuted
        self.literal = 2 * np.arange(body.num_nets, dtype=np.int32)
        self.literal[1] = 1
        self.chains = chains
        self._windows = Windows(body, self.literal, chains)
        self._implied = _implications(chains)
        self._below = dict(zip(*(x.tolist() for x in self._implied), strict=True))
        self._fanin = body.fanin  # (G, K)
        self._refuted: list[Mask] = []
        self._waiting: list[int] = []  # nets whose guesses were refuted since classes were drawn
        self._classes = _Classes(body)
        self._classes.add(draw(chains, effort.words, effort.seed))

    def run(self) -> None:
        """Prove what can be proved. Raises TimeUp."""
        for gates in self.body.gates_by_level():
            self._settle(gates + self.body.first_gate)
        while self._refuted:
            self._settle(self._refine())

    def _settle(self, nets: Index) -> None:
        """Prove nets, which stand in one level or below it, equal to the heads of their classes."""
        while len(nets):
            if time.monotonic() > self.effort.deadline:
                raise TimeUp
            nets = self._by_tables(nets)
            if len(self._refuted) >= _REFUTATIONS[0]:
                nets = np.concatenate([nets, self._refine()])
            else:
                nets = self._by_solver(nets)

    def _by_tables(self, nets: Index) -> Index:
        """Note which nets truth tables prove equal to their heads; returns what they leave open."""
        nets = nets[self._classes.head[nets] != nets]
        if not len(nets):
            return nets
        target = self._target(nets)
        equal, refuted = self._windows.compare(self.literal[nets], target)
        self.literal[nets[equal]] = target[equal]
        settled = equal.copy()
        for pair, leaves, values in refuted:
            settled[pair] = True
            self._waiting.append(int(nets[pair]))
            if len(self._refuted) < _REFUTATIONS[1]:
                self._refuted.append(self._assignment(leaves.tolist(), values.tolist()))
        return nets[~settled]

    def _by_solver(self, nets: Index) -> Index:
        """One net after the other; returns what is open again once classes were drawn anew."""
        for at, net in enumerate(nets.tolist()):
            target = int(self._target(nets[at : at + 1])[0])
            try:
                found = self.difference(int(self.literal[net]), target)
            except GaveUp:
                continue
            if found is None:
                self.literal[net] = target
                continue
            self._waiting.append(net)
            self._refuted.append(found)
            if len(self._refuted) >= _REFUTATIONS[1]:
                return np.concatenate([nets[at + 1 :], self._refine()])
        return nets[:0]

    def _refine(self) -> Index:
        """Tell apart what the gathered counterexamples tell apart; returns nets to try again."""
        planes = around(np.array(self._refuted), self.chains, self.effort.seed + len(self._waiting))
        nets = np.array(self._waiting, np.int64)
        self._refuted.clear()
        self._waiting.clear()
        if self.on_refuted is not None:
            self.on_refuted(unpack_planes(planes, 64 * planes.shape[1]))
        self._classes.add(planes)
        return nets

    def _target(self, nets: Index) -> Literals:
        """(n,) the literals that the nets are guessed to equal."""
        found: Literals = self.literal[self._classes.head[nets]] ^ self._classes.odd[nets]
        return found

    def difference(self, x: int, y: int) -> Mask | None:
        """Values (T,) of the taps on which literals x and y differ, or None: there are none.

        Raises GaveUp where neither is found, TimeUp where the clock ran out.
        """
        if x == y:
            return None
        if x <= 1 and y <= 1:
            return np.zeros(self.body.num_taps, bool)
        for size in _WINDOWS:
            if time.monotonic() > self.effort.deadline:
                raise TimeUp
            gates, leaves = self._window([x >> 1, y >> 1], size)
            values = self._solve(x, y, gates, leaves)
            if values is None:
                return None
            if not leaves or leaves[-1] < self.body.first_gate:
                return self._assignment(leaves, values)
        raise GaveUp

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
            operands = self.literal[self._fanin[net - first]] >> 1
            border.update(n for n in operands.tolist() if n != FALSE)
        return sorted(gates), sorted(border)

    def _solve(self, x: int, y: int, gates: list[int], leaves: list[int]) -> list[bool] | None:
        """Values of the leaves on which literals x and y differ, or None."""
        variable = {net: i for i, net in enumerate([FALSE, *leaves, *gates], start=1)}

        def signed(literal: int) -> int:
            return -variable[literal >> 1] if literal & 1 else variable[literal >> 1]

        clauses = [[-1], [signed(x), signed(y)], [-signed(x), -signed(y)]]
        body, k = self.body, self.body.k
        for net in gates:
            gate = net - body.first_gate
            inputs = [signed(literal) for literal in self.literal[self._fanin[gate]].tolist()]
            inputs.append(variable[net])
            for pattern in gate_clauses(int(body.table[gate]), k):
                clauses.append([inputs[j] if plus else -inputs[j] for j, plus in pattern])
        for leaf in leaves:
            if (lower := self._next_lower(leaf, variable)) is not None:
                clauses.append([-variable[leaf], variable[lower]])
        with self.solver(bootstrap_with=clauses) as solver:
            solver.conf_budget(self.effort.conflicts)
            answer = solver.solve_limited()
            if answer is None:
                raise GaveUp
            if not answer:
                return None
            return [value > 0 for value in solver.get_model()[1 : 1 + len(leaves)]]

    def _next_lower(self, leaf: int, among: dict[int, int]) -> int | None:
        """The highest of the nets `among` that a tap implies directly or not."""
        tap = self._below.get(leaf - FIRST_TAP)
        while tap is not None and tap + FIRST_TAP not in among:
            tap = self._below.get(tap)
        return None if tap is None else tap + FIRST_TAP

    def _assignment(self, leaves: list[int], values: list[bool]) -> Mask:
        """(T,) values of all taps: False unless implied, where the window did not ask."""
        found = np.zeros(self.body.num_taps, bool)
        for leaf, value in zip(leaves, values, strict=True):
            tap = leaf - FIRST_TAP if value else None
            while tap is not None and not found[tap]:
                found[tap] = True
                tap = self._below.get(tap)
        return found


def by_level(body: Body) -> Body:
    """The body with its gates in order of level, so that the first of equal nets is shallowest."""
    order = np.argsort(body.levels()[body.first_gate :], kind="stable")
    new_id = np.arange(body.num_nets, dtype=np.int32)
    new_id[body.first_gate + order] = np.arange(body.first_gate, body.num_nets, dtype=np.int32)
    return Body.build(body.taps, new_id[body.fanin[order]], body.table[order], new_id[body.outputs])


class _Classes:
    """Guesses which nets are equal up to complement, from simulated samples.

    `head` (num_nets,) is the first net of each net's class, `odd` whether the two are complements.
    """

    def __init__(self, body: Body) -> None:
        self.body = body
        self._key = np.zeros(body.num_nets, np.uint64)
        self._first: Mask | None = None  # the nets' values on the first sample

    def add(self, planes: Words) -> None:
        """Take in more samples: (T, words)."""
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


def draw(chains: Chains, words: int, seed: int) -> Words:
    """(T, words) samples of taps: uniform, sparse and dense in turn, the first all False or True.

    A chain passes any number of its members equally often.
    """
    rng = np.random.default_rng(seed)
    count = len(chains.group)
    planes = rng.integers(1 << 64, size=(count, words), dtype=np.uint64)
    extra = rng.integers(1 << 64, size=(2, count, words), dtype=np.uint64)
    planes[:, 2::4] &= extra[0, :, 2::4] & extra[1, :, 2::4]
    planes[:, 3::4] |= extra[0, :, 3::4] | extra[1, :, 3::4]
    order = np.lexsort((chains.rank, chains.group))
    group = chains.group[order]
    start = np.concatenate([[True], group[1:] != group[:-1]])[: len(order)]
    number = np.cumsum(start) - 1
    place = np.arange(count) - np.flatnonzero(start)[number]
    size = np.bincount(number)[number] if count else number
    tied = np.flatnonzero(size > 1)
    for word in range(words if len(tied) else 0):
        passed = rng.random((64, int(number.max()) + 1), np.float32)[:, number[tied]]
        bits = np.floor(passed * (size[tied] + 1)) > place[tied]
        planes[order[tied], word] = pack_planes(bits)[:, 0]
    planes[:, :1] &= ~np.uint64(3)
    planes[:, :1] |= np.uint64(2)
    return planes


def around(found: Mask, chains: Chains, seed: int) -> Words:
    """(T, words) planes of the samples (n, T), then of samples that differ from them in places.

    What tells two nets apart often tells others apart nearby (distance-one simulation).
    """
    count = 64 * max(2, -(-len(found) // 64))
    planes = pack_planes(found[np.arange(count) % len(found)])
    _, group = np.unique(chains.group, return_inverse=True)
    rng = np.random.default_rng(seed)
    size = (4, int(group.max(initial=-1)) + 1, count // 64)
    place = np.bitwise_and.reduce(rng.integers(1 << 64, size=size, dtype=np.uint64))[group]
    place &= pack_planes((np.arange(count) >= len(found))[:, None])
    changed: Words = planes ^ (planes ^ draw(chains, count // 64, seed)) & place
    return changed


def _implications(chains: Chains) -> tuple[Index, Index]:
    """Taps, and the tap of next lower rank that each implies."""
    order = np.lexsort((chains.rank, chains.group))
    same = chains.group[order[1:]] == chains.group[order[:-1]]
    return order[1:][same], order[:-1][same]


@cache
def gate_clauses(table: int, k: int) -> tuple[tuple[tuple[int, bool], ...], ...]:
    """Clauses of `output == table(inputs)`: literals (place, positive), the output in place k.

    Rows of the table are covered by cubes, each grown greedily.
    """
    clauses = []
    for value in (False, True):
        rows = {i for i in range(1 << k) if bool(table >> i & 1) == value}
        open_rows = set(rows)
        while open_rows:
            row = min(open_rows)
            cube = {row}
            free: set[int] = set()
            for j in range(k):
                grown = cube | {i ^ 1 << (k - 1 - j) for i in cube}
                if grown <= rows:
                    cube, free = grown, free | {j}
            open_rows -= cube
            fixed = [j for j in range(k) if j not in free]
            clause = [(j, not row >> (k - 1 - j) & 1) for j in fixed]
            clauses.append((*clause, (k, value)))
    return tuple(clauses)
