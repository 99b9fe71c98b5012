"""`reassociate`: trees of one associative operation become chains of sorted operands.

A maximal tree of ANDs (or, by De Morgan, ORs and mixtures), or of XORs, whose inner gates have one
reader each, is a set of literals. Equal literals collapse, opposite ones decide the tree; the rest
is written as a chain in order of nets. A chain packs into tables of k inputs as well as any tree
can, (n - 1) / (k - 1) of them, which balanced trees do not; and chains with a common beginning
share it under `cse`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import XOR
from lgir.passes.kernels.bodies import map_bodies
from lgir.passes.kernels.literals import Index
from lgir.passes.simplify import fold
from lgir.registry import register_pass

Mask = npt.NDArray[np.bool_]
Kinds = npt.NDArray[np.int8]


def _parse_tables() -> npt.NDArray[np.int8]:
    """(16, 4): kind (0 other, 1 AND, 2 XOR), complement of input 0, of input 1, of the output."""
    found = np.zeros((16, 4), np.int8)
    for p in range(2):
        for q in range(2):
            # The AND of two literals is True in one row, where both inputs are as wanted.
            row = 1 << (2 * (1 - p) + (1 - q))
            found[row], found[15 ^ row] = (1, p, q, 0), (1, p, q, 1)
    found[XOR], found[15 ^ XOR] = (2, 0, 0, 0), (2, 0, 0, 1)
    return found


_PARSED: Final = _parse_tables()

_UNPARSED: Final = np.zeros((3, 2, 2, 2), np.uint8)
for _p, _q, _o in np.ndindex(2, 2, 2):
    _UNPARSED[1, _p, _q, _o] = 1 << (2 * (1 - _p) + (1 - _q)) ^ 15 * _o
    _UNPARSED[2, _p, _q, _o] = XOR if _p ^ _q ^ _o == 0 else 15 ^ XOR


@register_pass("reassociate")
def reassociate(graph: Graph) -> Graph:
    """Turn trees of ANDs and ORs, or of XORs, into sorted chains, which pack into wider tables."""
    while (chained := map_bodies(graph, chain_body)) is not graph:
        graph = fold(chained)  # operands that cancel may join trees
    return graph


@dataclass(frozen=True)
class _Trees:
    """Literals (2 * net + complement) of each tree, sorted by tree and then as the chain reads."""

    root: Index  # gate number of the tree's root, one a literal
    literal: Index


def chain_body(body: Body) -> Body:
    """The body with its trees as chains; the same object where each is one already.

    A body with gates of more than two inputs is left as it is.
    """
    if body.k != 2:
        return body
    kind, *phase = _PARSED[body.table].T
    inner, parent = _inner_gates(body, kind, phase)
    root = _roots(inner, parent)
    trees = _collect(body, kind, phase, inner, root)
    new = _rebuild(body, kind, _output_phase(kind, phase[2], root), inner, trees)
    return body if new == body else new


def _output_phase(kind: Kinds, odd: Kinds, root: Index) -> Index:
    """(G,) whether each root complements its chain: an AND's own complement, an XOR tree's all."""
    parity = np.bincount(root[kind == 2], odd[kind == 2], len(root)).astype(np.int64)
    return np.where(kind == 2, parity & 1, odd)


def _inner_gates(body: Body, kind: Kinds, phase: list[Kinds]) -> tuple[Mask, Index]:
    """(G,) gates that continue their only reader's operation, and that reader (or the gate)."""
    gates = body.num_gates
    first = body.first_gate
    readers = np.bincount(body.fanin.ravel(), minlength=body.num_nets)
    readers[body.outputs] += 2
    inner = np.zeros(gates, bool)
    parent = np.arange(gates)
    for j in range(2):
        operand = body.fanin[:, j].astype(np.int64) - first
        reader = np.flatnonzero((operand >= 0) & (kind > 0))
        child = operand[reader]
        same = (kind[child] == kind[reader]) & (readers[child + first] == 1)
        # An AND is taken up where its complement and its reader's cancel; an XOR always.
        same &= (kind[child] == 2) | (phase[2][child] == phase[j][reader])
        inner[child[same]] = True
        parent[child[same]] = reader[same]
    return inner, parent


def _roots(inner: Mask, parent: Index) -> Index:
    """(G,) the root of each gate's tree, by pointer jumping."""
    root = np.where(inner, parent, np.arange(len(parent)))
    while not np.array_equal(jumped := root[root], root):
        root = jumped
    return root


def _collect(
    body: Body,
    kind: Kinds,
    phase: list[Kinds],
    inner: Mask,
    root: Index,
) -> _Trees:
    first = body.first_gate
    roots, literals = [], []
    for j in range(2):
        operand = body.fanin[:, j].astype(np.int64)
        leaf = kind > 0
        gate = np.flatnonzero(operand >= first)
        child = operand[gate] - first
        leaf[gate] &= ~(inner[child] & (root[child] == root[gate]))
        rows = np.flatnonzero(leaf)
        roots.append(root[rows])
        literals.append(2 * operand[rows] + phase[j][rows])
    tree, literal = np.concatenate(roots), np.concatenate(literals)
    order = np.lexsort((literal, tree))
    tree, literal = tree[order], literal[order]
    return _Trees(tree, _without_repeats(tree, literal, kind[tree]))


def _without_repeats(tree: Index, literal: Index, kind: Kinds) -> Index:
    """Literals with constants (0 False, 1 True) for what repeats; `fold` removes those."""
    same_tree = tree[1:] == tree[:-1]
    literal = literal.copy()
    opposite = np.flatnonzero(same_tree & (literal[1:] ^ literal[:-1] == 1) & (kind[1:] == 1))
    equal = np.flatnonzero(same_tree & (literal[1:] == literal[:-1]))
    ands = equal[kind[equal] == 1]
    # Of n equal XOR operands every other cancels the one before it.
    xors = equal[kind[equal] == 2]
    start = np.flatnonzero(np.concatenate([[True], np.diff(xors) != 1]))
    if len(xors):
        run = np.repeat(xors[start], np.diff([*start, len(xors)]))
        xors = xors[(xors - run) % 2 == 0]
    literal[ands + 1] = 1
    literal[opposite] = literal[opposite + 1] = 0
    literal[xors] = literal[xors + 1] = 0
    return literal


def _rebuild(body: Body, kind: Kinds, odd: Index, inner: Mask, trees: _Trees) -> Body:
    """Chains in place of trees. A chain stands where its root stood, so operands come first."""
    first, gates = body.first_gate, body.num_gates
    count = np.bincount(trees.root, minlength=gates)  # literals of each tree
    size = np.where(kind > 0, count - 1, 1)
    size[inner] = 0
    place = first + np.cumsum(size) - 1  # the new net of each gate that is not inner
    new_id = np.concatenate([np.arange(first), place])
    fanin = np.zeros((int(size.sum()), 2), np.int64)
    table = np.zeros(len(fanin), np.uint8)
    other = np.flatnonzero(kind == 0)
    fanin[place[other] - first] = new_id[body.fanin[other]]
    table[place[other] - first] = body.table[other]

    start = np.concatenate([[True], trees.root[1:] != trees.root[:-1]])
    position = np.arange(len(start)) - np.flatnonzero(start)[np.cumsum(start) - 1]
    # Each literal after a tree's first makes a gate with what came before it.
    at = np.flatnonzero(position > 0)
    tree, step = trees.root[at], position[at]
    net = place[tree] - count[tree] + 1 + step
    own, before = trees.literal[at], trees.literal[at - 1]
    opens = step == 1
    one = np.where(opens, before, own)
    two = np.where(opens, own, 2 * (net - 1))
    fanin[net - first, 0] = new_id[one >> 1]
    fanin[net - first, 1] = np.where(opens, new_id[two >> 1], two >> 1)
    ends = step == count[tree] - 1
    table[net - first] = _UNPARSED[kind[tree], one & 1, two & 1, odd[tree] & ends]
    return Body.build(body.taps, fanin, table, new_id[body.outputs])
