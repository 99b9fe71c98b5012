"""Rewrite rules: patterns over gates, matched on whole bodies at once.

    rule("(or (and ?x ?y) (and ?x ?z))", "(and ?x (or ?y ?z))")

Operators are the names of two-input operations (`and`, `or`, `xor`, `nand`, ...), `not`, and
`(lut TABLE ?a ?b ?c)` for any table of `lgir.ir.truth_tables`; `0` and `1` are constants, `?x` is
any net or its complement. A pattern matches whatever the order of operands and wherever inverters
have been absorbed: gates are compared up to permutation and complement of their inputs and output.
This follows tinygrad's pattern matcher in form, and vectorises it: a match is a row of arrays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import permutations, product

import numpy as np
import numpy.typing as npt

from lgir.errors import ParseError, unknown_name
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import MAX_FANIN, NAME_TO_TABLE, full_mask, table_dtype, widen_table
from lgir.ir.types import FALSE
from lgir.passes.kernels.bodies import map_bodies
from lgir.passes.kernels.literals import Index
from lgir.passes.simplify import fold

Mask = npt.NDArray[np.bool_]

_TOKEN = re.compile(r"\s*([()]|[^\s()]+)")
_CONSTANTS = {"0": 0, "1": 1, "false": 0, "true": 1}


@dataclass(frozen=True)
class Term:
    """An expression: `head` is "?name", "0", "1", "not" or "lut"; a lut has a table."""

    head: str
    args: tuple[Term, ...] = ()
    table: int = 0

    @property
    def size(self) -> int:
        """Gates that the expression takes."""
        return (self.head == "lut") + sum(arg.size for arg in self.args)

    @property
    def variables(self) -> frozenset[str]:
        own = frozenset([self.head]) if self.head.startswith("?") else frozenset()
        return own.union(*(arg.variables for arg in self.args))


@dataclass(frozen=True)
class Rule:
    """`pattern` may be replaced by `result`, which has the same value."""

    pattern: Term
    result: Term
    text: str

    def __str__(self) -> str:
        return self.text

    @cached_property
    def fanin(self) -> int:
        """Inputs of the widest gate on either side."""
        return max(_widest(self.pattern), _widest(self.result))


def rule(pattern: str, result: str) -> Rule:
    """A rewrite rule from two s-expressions, proved for all values of its variables.

    Raises:
        ParseError: an expression cannot be read, the pattern is not a gate, or the two sides
            differ for some values of the variables.
    """
    left, right = parse_term(pattern), parse_term(result)
    text = f"{pattern} => {result}"
    if left.head != "lut":
        raise ParseError(f"rule {text}: the pattern must be a gate, not a variable or constant")
    if extra := right.variables - left.variables:
        raise ParseError(f"rule {text}: {min(extra)} does not occur in the pattern")
    names = sorted(left.variables)
    if len(names) > 16:
        raise ParseError(f"rule {text}: {len(names)} variables; at most 16 are supported")
    for values in product((0, 1), repeat=len(names)):
        given = dict(zip(names, values, strict=True))
        if _value(left, given) != _value(right, given):
            shown = ", ".join(f"{k}={v}" for k, v in given.items())
            raise ParseError(f"rule {text}: the sides differ for {shown}")
    return Rule(left, right, text)


def parse_term(text: str) -> Term:
    """An s-expression as a term."""
    tokens = [m[1] for m in _TOKEN.finditer(text)]
    term, rest = _parse(tokens, text)
    if rest:
        raise ParseError(f"{text!r}: {rest[0]!r} after the end of the expression")
    return term


def _parse(tokens: list[str], text: str) -> tuple[Term, list[str]]:
    if not tokens:
        raise ParseError(f"{text!r}: the expression ends too early")
    head, rest = tokens[0], tokens[1:]
    if head != "(":
        if re.fullmatch(r"\?\w+", head):
            return Term(head), rest
        if head in _CONSTANTS:
            return Term(str(_CONSTANTS[head])), rest
        raise ParseError(f"{text!r}: {head!r} is not a ?variable, 0 or 1")
    if not rest:
        raise ParseError(f"{text!r}: the expression ends too early")
    name, rest = rest[0], rest[1:]
    table = None
    if name == "lut":
        if not rest or not re.fullmatch(r"0x[0-9a-fA-F]+|0b[01]+|\d+", rest[0]):
            raise ParseError(f"{text!r}: lut needs a table, for example (lut 0xca ?s ?a ?b)")
        table, rest = int(rest[0], 0), rest[1:]
    args = []
    while rest and rest[0] != ")":
        arg, rest = _parse(rest, text)
        args.append(arg)
    if not rest:
        raise ParseError(f"{text!r}: a parenthesis is not closed")
    return _term(name, table, tuple(args), text), rest[1:]


def _term(name: str, table: int | None, args: tuple[Term, ...], text: str) -> Term:
    if name == "not":
        if len(args) != 1:
            raise ParseError(f"{text!r}: not takes one operand, {len(args)} given")
        return Term("not", args)
    if table is None:
        if name not in NAME_TO_TABLE:
            raise unknown_name("operation", name, [*NAME_TO_TABLE, "not", "lut"])
        if len(args) != 2:
            raise ParseError(f"{text!r}: {name} takes two operands, {len(args)} given")
        table = NAME_TO_TABLE[name]
    if not 1 <= len(args) <= MAX_FANIN or table > full_mask(len(args)):
        raise ParseError(f"{text!r}: table {table:#x} does not fit {len(args)} operands")
    return Term("lut", args, table)


def _value(term: Term, given: dict[str, int]) -> int:
    if term.head.startswith("?"):
        return given[term.head]
    if term.head in ("0", "1"):
        return int(term.head)
    values = [_value(arg, given) for arg in term.args]
    if term.head == "not":
        return 1 - values[0]
    index = int("".join(map(str, values)), 2)
    return term.table >> index & 1


def _widest(term: Term) -> int:
    own = len(term.args) if term.head == "lut" else 1
    return max([own, *(_widest(arg) for arg in term.args)])


def apply_rules(graph: Graph, rules: Sequence[Rule]) -> Graph:
    """The graph with every rule applied wherever that saves gates, until none does.

    A gate of the pattern counts as saved where the match alone reads it. Run `fix(fold,cse,dce)`
    before, so that gates are in normal form, and after, to remove what is left over.
    """
    while (new := map_bodies(graph, partial(_apply_once, rules=rules))) is not graph:
        graph = fold(new)
    return graph


def _apply_once(body: Body, rules: Sequence[Rule]) -> Body:
    for each in rules:
        body = rewrite_body(body, each)
    return body


@dataclass(frozen=True)
class Matches:
    """Where a pattern matches: each field has an entry per match.

    `root` is the literal (2 * net + complement) that the pattern equals, `inner` the nets of its
    other gates, `bound` the literals of its variables.
    """

    root: Index
    inner: tuple[Index, ...]
    bound: dict[str, Index]

    def __len__(self) -> int:
        return len(self.root)

    def take(self, rows: Index | Mask) -> Matches:
        return Matches(
            self.root[rows],
            tuple(x[rows] for x in self.inner),
            {name: x[rows] for name, x in self.bound.items()},
        )


def find(body: Body, pattern: Term) -> Matches:
    """All matches of `pattern` in a body of normal form, in order of their roots."""
    body = body.widened(_widest(pattern))
    arity = body.arity()
    gates = 2 * np.arange(body.first_gate, body.num_nets)
    start = Matches(np.concatenate([gates, gates + 1]), (), {})
    parts = list(_search([(pattern, start.root)], start, body, arity, first=True))
    if not parts:
        none = np.zeros(0, np.int64)
        inner = tuple(none for _ in range(pattern.size - 1))
        return Matches(none, inner, dict.fromkeys(pattern.variables, none))
    found = Matches(
        np.concatenate([m.root for m in parts]),
        tuple(np.concatenate(x) for x in zip(*(m.inner for m in parts), strict=True)),
        {name: np.concatenate([m.bound[name] for m in parts]) for name in pattern.variables},
    )
    return found.take(np.argsort(found.root, kind="stable"))


def _search(
    goals: list[tuple[Term, Index]],
    state: Matches,
    body: Body,
    arity: npt.NDArray[np.uint8],
    first: bool = False,
) -> Iterator[Matches]:
    """The rows of `state` that meet all goals (a term and the literals it must equal)."""
    if not len(state):
        return
    if not goals:
        yield state
        return
    (term, literal), *rest = goals

    def narrowed(keep: Mask) -> tuple[list[tuple[Term, Index]], Matches]:
        return [(t, x[keep]) for t, x in rest], state.take(keep)

    if term.head == "not":
        yield from _search([(term.args[0], literal ^ 1), *rest], state, body, arity)
    elif term.head in ("0", "1"):
        yield from _search(*narrowed(literal == int(term.head)), body, arity)
    elif term.head in state.bound:
        yield from _search(*narrowed(literal == state.bound[term.head]), body, arity)
    elif term.head.startswith("?"):
        bound = {**state.bound, term.head: literal}
        yield from _search(rest, Matches(state.root, state.inner, bound), body, arity)
    else:
        net = literal >> 1
        gate = np.flatnonzero(net >= body.first_gate)
        gate = gate[arity[net[gate] - body.first_gate] == len(term.args)]
        row = net[gate] - body.first_gate
        table = body.table[row].astype(np.uint64)
        odd = (literal[gate] & 1).astype(bool)
        table = np.where(odd, table ^ np.uint64(full_mask(body.k)), table)
        for wanted, order, phases in _variants(term.table, len(term.args), body.k):
            hit = table == np.uint64(wanted)
            if not hit.any():
                continue
            keep = gate[hit]
            taken = state.take(keep)
            if not first:
                taken = replace(taken, inner=(*taken.inner, net[keep]))
            operands = body.fanin[row[hit]].astype(np.int64)
            goals = [
                (arg, 2 * operands[:, position] ^ phase)
                for arg, position, phase in zip(term.args, order, phases, strict=True)
            ]
            # What binds most comes first: gates before variables.
            goals.sort(key=lambda goal: goal[0].head.startswith("?"))
            yield from _search(goals + [(t, x[keep]) for t, x in rest], taken, body, arity)


def _variants(table: int, n: int, k: int) -> Iterator[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """Tables of k inputs that compute `table` of n with operand i read from input order[i], and
    complemented where phases[i] is 1.
    """
    for order in permutations(range(n)):
        for phases in product((0, 1), repeat=n):
            wanted = 0
            for i in range(1 << n):
                x = [i >> (n - 1 - j) & 1 for j in range(n)]
                index = 0
                for position, phase in zip(order, phases, strict=True):
                    index = index << 1 | x[position] ^ phase
                wanted |= (table >> index & 1) << i
            yield int(widen_table(np.array([wanted], table_dtype(n)), n, k)[0]), order, phases


def rewrite_body(body: Body, each: Rule) -> Body:
    """One round of one rule: matches that save gates and do not overlap."""
    matches = find(body, each.pattern)
    if not len(matches):
        return body
    readers = np.bincount(body.fanin.ravel(), minlength=body.num_nets)
    readers[body.outputs] += 2
    saved = np.ones(len(matches), np.int64)
    for i, net in enumerate(matches.inner):
        again = np.zeros(len(matches), bool)
        for earlier in matches.inner[:i]:
            again |= earlier == net
        saved += (readers[net] == 1) & ~again
    matches = matches.take(saved > each.result.size)
    root = matches.root >> 1
    nets = np.stack([root, *matches.inner])
    claim = np.full(body.num_nets, len(matches))
    for row in nets:
        np.minimum.at(claim, row, np.arange(len(matches)))
    matches = matches.take((claim[nets] == np.arange(len(matches))).all(axis=0))
    return _replaced(body.widened(each.fanin), matches, each.result) if len(matches) else body


def _replaced(body: Body, matches: Matches, result: Term) -> Body:
    """The body with `result` standing where each match has its root."""
    roots = (matches.root >> 1) - body.first_gate
    extra = max(result.size - 1, 0)
    size = np.ones(body.num_gates, np.int64)
    size[roots] += extra
    place = body.first_gate + np.cumsum(size) - 1
    new_id = np.concatenate([np.arange(body.first_gate), place])
    fanin = np.zeros((int(size.sum()), body.k), np.int64)
    table = np.zeros(len(fanin), np.uint64)
    fanin[place - body.first_gate] = new_id[body.fanin]
    table[place - body.first_gate] = body.table
    next_net = place[roots] - extra
    bound: dict[str, Index] = {
        name: 2 * new_id[x >> 1] | (x & 1) for name, x in matches.bound.items()
    }

    def build(term: Term) -> Index:
        """Literals of the term, its gates being laid down operands first."""
        nonlocal next_net
        if term.head.startswith("?"):
            return bound[term.head]
        if term.head in ("0", "1"):
            return np.full(len(roots), int(term.head))
        args = [build(arg) for arg in term.args]
        if term.head == "not":
            complement: Index = args[0] ^ 1
            return complement
        put(next_net - body.first_gate, term.table, args)
        own: Index = 2 * next_net
        next_net = next_net + 1
        return own

    def put(row: Index, wanted: int, args: list[Index]) -> None:
        n = len(args)
        fanin[row] = FALSE
        out = np.zeros(len(row), np.uint64)
        for i in range(1 << n):
            index = np.zeros(len(row), np.int64)
            for j, literal in enumerate(args):
                index = index << 1 | ((i >> (n - 1 - j) & 1) ^ (literal & 1))
            value = np.uint64(wanted) >> index.astype(np.uint64) & np.uint64(1)
            out |= value * np.uint64(((1 << (1 << (body.k - n))) - 1) << (i << (body.k - n)))
        for j, literal in enumerate(args):
            fanin[row, j] = literal >> 1
        table[row] = out

    top = build(result)
    row = place[roots] - body.first_gate
    odd = matches.root & 1  # the pattern equals the complement of its root's net
    if result.head == "lut":
        flipped = table[row] ^ np.uint64(full_mask(body.k))
        table[row] = np.where(odd == 1, flipped, table[row])
    else:
        put(row, 0b10, [top ^ odd])
    return Body.build(body.taps, fanin, table, new_id[body.outputs])
