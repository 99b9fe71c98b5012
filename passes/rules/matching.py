"""Find all matches of a pattern in a body, as rows of arrays, by backtracking over its terms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations, product

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.truth_tables import full_mask, table_dtype, widen_table
from lgir.passes.kernels.literals import Index
from lgir.passes.rules.terms import Term

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Matches:
    """The matches of a pattern: every array has an entry per match.

    Attributes:
        root: the literal (2 * net + complement) that the pattern equals.
        inner: the nets of the pattern's other gates, an array per gate.
        bound: the literals of the pattern's variables.
    """

    root: Index
    inner: tuple[Index, ...]
    bound: dict[str, Index]

    def __len__(self) -> int:
        return len(self.root)

    def take(self, rows: Index | Mask) -> Matches:
        """Return the chosen matches."""
        return Matches(
            self.root[rows],
            tuple(nets[rows] for nets in self.inner),
            {name: literals[rows] for name, literals in self.bound.items()},
        )


def find(body: Body, pattern: Term) -> Matches:
    """Return all matches of `pattern` in a body in normal form, in order of their roots."""
    body = body.widened(pattern.max_fanin)
    arity = body.arity()
    gates = 2 * np.arange(body.first_gate, body.num_nets)
    candidates = Matches(np.concatenate([gates, gates + 1]), (), {})
    parts = list(_search([(pattern, candidates.root)], candidates, body, arity, at_root=True))
    if not parts:
        none = np.zeros(0, np.int64)
        inner = tuple(none for _ in range(pattern.size - 1))
        return Matches(none, inner, dict.fromkeys(pattern.variables, none))
    matches = Matches(
        np.concatenate([m.root for m in parts]),
        tuple(np.concatenate(nets) for nets in zip(*(m.inner for m in parts), strict=True)),
        {name: np.concatenate([m.bound[name] for m in parts]) for name in pattern.variables},
    )
    return matches.take(np.argsort(matches.root, kind="stable"))


Goal = tuple[Term, Index]
"""A term and the literals (n,) that it must equal in each of n candidates."""


def _search(
    goals: list[Goal],
    candidates: Matches,
    body: Body,
    arity: npt.NDArray[np.uint8],
    at_root: bool = False,
) -> Iterator[Matches]:
    """Yield the candidates that meet all goals."""
    if not len(candidates):
        return
    if not goals:
        yield candidates
        return
    (term, literal), *rest = goals

    def narrowed(keep: Mask) -> tuple[list[Goal], Matches]:
        return [(t, x[keep]) for t, x in rest], candidates.take(keep)

    if term.head == "not":
        yield from _search([(term.args[0], literal ^ 1), *rest], candidates, body, arity)
    elif term.head in ("0", "1"):
        yield from _search(*narrowed(literal == int(term.head)), body, arity)
    elif term.head in candidates.bound:
        yield from _search(*narrowed(literal == candidates.bound[term.head]), body, arity)
    elif term.head.startswith("?"):
        bound = {**candidates.bound, term.head: literal}
        yield from _search(rest, Matches(candidates.root, candidates.inner, bound), body, arity)
    else:
        yield from _search_gate(term, literal, rest, candidates, body, arity, at_root)


def _search_gate(
    term: Term,
    literal: Index,
    rest: list[Goal],
    candidates: Matches,
    body: Body,
    arity: npt.NDArray[np.uint8],
    at_root: bool,
) -> Iterator[Matches]:
    """Yield the candidates in which `literal` is a gate as `term` says, and that meet the rest."""
    net = literal >> 1
    row = np.flatnonzero(net >= body.first_gate)
    row = row[arity[net[row] - body.first_gate] == len(term.args)]
    gate = net[row] - body.first_gate
    table = body.table[gate].astype(np.uint64)
    complemented = (literal[row] & 1).astype(bool)
    table = np.where(complemented, table ^ np.uint64(full_mask(body.k)), table)
    for variant, order, phases in _variants(term.table, len(term.args), body.k):
        hit = table == np.uint64(variant)
        if not hit.any():
            continue
        keep = row[hit]
        kept = candidates.take(keep)
        if not at_root:
            kept = replace(kept, inner=(*kept.inner, net[keep]))
        operands = body.fanin[gate[hit]].astype(np.int64)
        goals = [
            (arg, 2 * operands[:, position] ^ phase)
            for arg, position, phase in zip(term.args, order, phases, strict=True)
        ]
        # Terms that bind most come first: gates before variables.
        goals.sort(key=lambda goal: goal[0].head.startswith("?"))
        yield from _search(goals + [(t, x[keep]) for t, x in rest], kept, body, arity)


@cache
def _variants(
    table: int, n: int, k: int
) -> tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]:
    """Return tables of k inputs that compute `table` of n inputs, each with an order and phases.

    Operand i of `table` is input order[i] of the returned table, complemented if phases[i] is 1.
    """
    rows = np.arange(1 << n)
    bits = rows[:, None] >> np.arange(n - 1, -1, -1) & 1  # (rows, inputs), the first input first
    outputs = np.array([table >> i & 1 for i in range(1 << n)], table_dtype(n))
    weights = 1 << np.arange(n - 1, -1, -1)
    variants = []
    for order in permutations(range(n)):
        # An operand's complement flips its bit in the index: index ^ flips, one row for each.
        index = bits[:, order] @ weights
        values = outputs[index[None] ^ rows[:, None]]
        wide = widen_table((values << rows.astype(values.dtype)).sum(1, dtype=values.dtype), n, k)
        variants += [
            (int(variant), order, phases)
            for variant, phases in zip(wide, product((0, 1), repeat=n), strict=True)
        ]
    return tuple(variants)
