"""Apply rules to bodies wherever that saves gates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import full_mask
from lgir.ir.types import FALSE
from lgir.passes.kernels.literals import Index
from lgir.passes.rules.matching import Matches, find
from lgir.passes.rules.terms import Rule, Term
from lgir.passes.simplify import fold


def apply_rules(graph: Graph, rules: Sequence[Rule]) -> Graph:
    """Return the graph with every rule applied wherever that saves gates, until none does.

    A gate of the pattern counts as saved if the match alone reads it. Run `fix(fold,cse,dce)`
    before, so that gates are in normal form, and after, to remove what is left over.
    """
    while (new := graph.map_bodies(partial(_apply_once, rules=rules))) is not graph:
        graph = fold(new)
    return graph


def _apply_once(body: Body, rules: Sequence[Rule]) -> Body:
    for each in rules:
        body = rewrite_body(body, each)
    return body


def rewrite_body(body: Body, each: Rule) -> Body:
    """Return the body after one round of one rule: matches that save gates and do not overlap."""
    matches = find(body, each.pattern)
    if not len(matches):
        return body
    matches = matches.take(_saved_gates(body, matches) > each.result.size)
    matches = _without_overlaps(body, matches)
    if not len(matches):
        return body
    return _Replacement(body.widened(each.fanin), matches, each.result).body()


def _saved_gates(body: Body, matches: Matches) -> Index:
    """Return how many gates go with each match (n,): its root, and gates that it alone reads."""
    num_readers = np.bincount(body.fanin.ravel(), minlength=body.num_nets)
    num_readers[body.outputs] += 2
    saved = np.ones(len(matches), np.int64)
    for i, net in enumerate(matches.inner):
        repeated = np.zeros(len(matches), bool)
        for earlier in matches.inner[:i]:
            repeated |= earlier == net
        saved += (num_readers[net] == 1) & ~repeated
    return saved


def _without_overlaps(body: Body, matches: Matches) -> Matches:
    """Return the matches that come first at each of their gates, so that no two share one."""
    nets = np.stack([matches.root >> 1, *matches.inner])
    claim = np.full(body.num_nets, len(matches))
    for row in nets:
        np.minimum.at(claim, row, np.arange(len(matches)))
    return matches.take((claim[nets] == np.arange(len(matches))).all(axis=0))


class _Replacement:
    """A body while the gates of `result` are laid down before the root of each match."""

    def __init__(self, body: Body, matches: Matches, result: Term) -> None:
        self._origin = body
        self._result = result
        self._complement = matches.root & 1  # The pattern equals the complement of its root's net.
        roots = (matches.root >> 1) - body.first_gate
        num_added = max(result.size - 1, 0)
        size = np.ones(body.num_gates, np.int64)
        size[roots] += num_added
        position = body.first_gate + np.cumsum(size) - 1
        self._new_id = np.concatenate([np.arange(body.first_gate), position])
        self._fanin = np.zeros((int(size.sum()), body.k), np.int64)
        self._table = np.zeros(len(self._fanin), np.uint64)
        self._fanin[position - body.first_gate] = self._new_id[body.fanin]
        self._table[position - body.first_gate] = body.table
        self._root_net = position[roots]
        self._next_net = self._root_net - num_added
        self._bound: dict[str, Index] = {
            name: 2 * self._new_id[x >> 1] | (x & 1) for name, x in matches.bound.items()
        }

    def body(self) -> Body:
        """Return the body with the result in place of every match."""
        origin = self._origin
        literal = self._build(self._result)
        row = self._root_net - origin.first_gate
        if self._result.head == "lut":
            flipped = self._table[row] ^ np.uint64(full_mask(origin.k))
            self._table[row] = np.where(self._complement == 1, flipped, self._table[row])
        else:
            self._put(row, 0b10, [literal ^ self._complement])
        outputs = self._new_id[origin.outputs]
        return Body.build(origin.taps, self._fanin, self._table, outputs)

    def _build(self, term: Term) -> Index:
        """Lay down the gates of a term, operands first, and return its literals."""
        if term.head.startswith("?"):
            return self._bound[term.head]
        if term.head in ("0", "1"):
            return np.full(len(self._root_net), int(term.head))
        args = [self._build(arg) for arg in term.args]
        if term.head == "not":
            complement: Index = args[0] ^ 1
            return complement
        self._put(self._next_net - self._origin.first_gate, term.table, args)
        literal: Index = 2 * self._next_net
        self._next_net = self._next_net + 1
        return literal

    def _put(self, row: Index, table: int, args: list[Index]) -> None:
        """Make the gates `row` compute `table` of the literals `args`."""
        n, k = len(args), self._origin.k
        self._fanin[row] = FALSE
        absorbed = np.zeros(len(row), np.uint64)
        for i in range(1 << n):
            index = np.zeros(len(row), np.int64)
            for j, literal in enumerate(args):
                index = index << 1 | ((i >> (n - 1 - j) & 1) ^ (literal & 1))
            value = np.uint64(table) >> index.astype(np.uint64) & np.uint64(1)
            absorbed |= value * np.uint64(((1 << (1 << (k - n))) - 1) << (i << (k - n)))
        for j, literal in enumerate(args):
            self._fanin[row, j] = literal >> 1
        self._table[row] = absorbed
