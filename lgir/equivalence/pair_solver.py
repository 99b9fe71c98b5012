"""SAT on growing windows: whether two literals of a netlist can differ."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np

from lgir.equivalence.arrays import Literals, Mask
from lgir.equivalence.effort import Effort, GaveUp
from lgir.equivalence.implications import Implications
from lgir.errors import LgirError
from lgir.ir.body import Body
from lgir.ir.types import FALSE, FIRST_TAP

_WINDOW_GATES: Final = (48, 512, 8192)  # gates of the windows that are tried one after another


def solver_class() -> Any:
    """Return the class of the SAT solver. Raises LgirError if python-sat is not installed."""
    try:
        from pysat.solvers import Glucose4
    except ImportError as error:
        raise LgirError(
            'proofs and sweeping need a SAT solver; install it with: pip install "lgir[sat]"'
        ) from error
    return Glucose4


class PairSolver:
    """Compares two literals of a body by SAT, reading nets as the literals that they equal.

    `literal` (num_nets,) is what each net is known to equal; its owner updates it in place.
    """

    def __init__(
        self, body: Body, literal: Literals, implications: Implications, effort: Effort
    ) -> None:
        self._solver = solver_class()
        self._body = body
        self._literal = literal
        self._effort = effort
        self._next_lower = implications.next_lower()

    def difference(self, x: int, y: int) -> Mask | None:
        """Return values (T,) of the taps on which literals x and y differ, or None: there are none.

        Raises GaveUp if neither is found, and TimeUp after the deadline.
        """
        if x == y:
            return None
        if x <= 1 and y <= 1:
            return np.zeros(self._body.num_taps, bool)
        for size in _WINDOW_GATES:
            self._effort.check_time()
            gates, leaves = self._window([x >> 1, y >> 1], size)
            values = self._solve(x, y, gates, leaves)
            if values is None:
                return None
            if not leaves or leaves[-1] < self._body.first_gate:
                return self.assignment(leaves, values)
        raise GaveUp

    def assignment(self, leaves: list[int], values: list[bool]) -> Mask:
        """Return values (T,) of all taps, from those of the taps that are the nets `leaves`.

        Other taps are False unless a True one implies them.
        """
        result = np.zeros(self._body.num_taps, bool)
        for leaf, value in zip(leaves, values, strict=True):
            tap = leaf - FIRST_TAP if value else None
            while tap is not None and not result[tap]:
                result[tap] = True
                tap = self._next_lower.get(tap)
        return result

    def _window(self, roots: list[int], size: int) -> tuple[list[int], list[int]]:
        """Return the topmost gates below `roots`, at most `size`, and the nets that they end at."""
        gates: set[int] = set()
        border = {r for r in roots if r != FALSE}
        first = self._body.first_gate
        while len(gates) < size:
            net = max(border, default=0)  # the latest net cannot lie below another of the border
            if net < first:
                break
            border.remove(net)
            gates.add(net)
            operands = self._literal[self._body.fanin[net - first]] >> 1
            border.update(n for n in operands.tolist() if n != FALSE)
        return sorted(gates), sorted(border)

    def _solve(self, x: int, y: int, gates: list[int], leaves: list[int]) -> list[bool] | None:
        """Return values of the leaves on which literals x and y differ, or None: there are none."""
        variable = {net: i for i, net in enumerate([FALSE, *leaves, *gates], start=1)}

        def signed(literal: int) -> int:
            return -variable[literal >> 1] if literal & 1 else variable[literal >> 1]

        clauses = [[-1], [signed(x), signed(y)], [-signed(x), -signed(y)]]
        body, k = self._body, self._body.k
        for net in gates:
            gate = net - body.first_gate
            inputs = [signed(literal) for literal in self._literal[body.fanin[gate]].tolist()]
            inputs.append(variable[net])
            for clause in gate_clauses(int(body.table[gate]), k):
                clauses.append([inputs[j] if positive else -inputs[j] for j, positive in clause])
        for leaf in leaves:
            if (lower := self._implied_among(leaf, variable)) is not None:
                clauses.append([-variable[leaf], variable[lower]])
        with self._solver(bootstrap_with=clauses) as solver:
            solver.conf_budget(self._effort.conflicts)
            satisfiable = solver.solve_limited()
            if satisfiable is None:
                raise GaveUp
            if not satisfiable:
                return None
            return [value > 0 for value in solver.get_model()[1 : 1 + len(leaves)]]

    def _implied_among(self, leaf: int, nets: dict[int, int]) -> int | None:
        """Return the highest of `nets` that the tap `leaf` implies, or None."""
        tap = self._next_lower.get(leaf - FIRST_TAP)
        while tap is not None and tap + FIRST_TAP not in nets:
            tap = self._next_lower.get(tap)
        return None if tap is None else tap + FIRST_TAP


@cache
def gate_clauses(table: int, k: int) -> tuple[tuple[tuple[int, bool], ...], ...]:
    """Return the clauses of `output == table(inputs)` for one gate of `k` inputs.

    A literal is (place, positive), the output having place k. Rows of the table are covered by
    cubes, each of which is grown greedily.
    """
    clauses = []
    for value in (False, True):
        rows = {i for i in range(1 << k) if bool(table >> i & 1) == value}
        uncovered = set(rows)
        while uncovered:
            row = min(uncovered)
            cube = {row}
            free: set[int] = set()
            for j in range(k):
                grown = cube | {i ^ 1 << (k - 1 - j) for i in cube}
                if grown <= rows:
                    cube, free = grown, free | {j}
            uncovered -= cube
            fixed = [j for j in range(k) if j not in free]
            clause = [(j, not row >> (k - 1 - j) & 1) for j in fixed]
            clauses.append((*clause, (k, value)))
    return tuple(clauses)
