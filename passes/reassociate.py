"""`reassociate`: turn trees of one associative operation into chains of sorted operands.

A maximal tree of ANDs (or, by De Morgan, ORs and mixtures), or of XORs, whose inner gates have one
reader each, is a set of literals. Equal literals collapse, opposite ones decide the tree, and the
rest is written as a chain in order of nets. A chain packs into (n - 1) / (k - 1) tables of k
inputs, as few as any tree can, which balanced trees do not; and chains with a common beginning
share it under `cse`.

Options: none. Cost: linear, a sort of the literals. Bodies with gates of more than two inputs are
left as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import XOR
from lgir.passes.kernels.literals import Index
from lgir.passes.simplify import fold
from lgir.registry import register_pass

Mask = npt.NDArray[np.bool_]
Kinds = npt.NDArray[np.int8]

_OTHER, _AND, _XOR = 0, 1, 2
"""Kinds of two-input gates up to complements."""


def _classify_tables() -> npt.NDArray[np.int8]:
    """Return rows (16, 4): the kind of each table, and whether inputs 0, 1 and the output flip."""
    parsed = np.zeros((16, 4), np.int8)
    for p in range(2):
        for q in range(2):
            # The AND of two literals is True at one index, where both literals are True.
            table = 1 << (2 * (1 - p) + (1 - q))
            parsed[table], parsed[15 ^ table] = (_AND, p, q, 0), (_AND, p, q, 1)
    parsed[XOR], parsed[15 ^ XOR] = (_XOR, 0, 0, 0), (_XOR, 0, 0, 1)
    return parsed


def _tables_by_kind() -> npt.NDArray[np.uint8]:
    """Return the table (3, 2, 2, 2) by kind and complements of inputs 0, 1 and the output."""
    tables = np.zeros((3, 2, 2, 2), np.uint8)
    for p, q, o in np.ndindex(2, 2, 2):
        tables[_AND, p, q, o] = 1 << (2 * (1 - p) + (1 - q)) ^ 15 * o
        tables[_XOR, p, q, o] = XOR if p ^ q ^ o == 0 else 15 ^ XOR
    return tables


_CLASSIFIED: Final = _classify_tables()
_TABLES: Final = _tables_by_kind()


@register_pass("reassociate")
def reassociate(graph: Graph) -> Graph:
    """Turn trees of ANDs and ORs, or of XORs, into sorted chains, which pack into wider tables."""
    while (chained := graph.map_bodies(chain_body)) is not graph:
        graph = fold(chained)  # Operands that cancel may join trees.
    return graph


@dataclass(frozen=True)
class _TwoInputGates:
    """The two-input gates of a body, as operations on literals.

    Attributes:
        kind: (G,) _AND, _XOR or _OTHER.
        complements: (2, G) whether each operand is complemented.
        output_complement: (G,) whether the output is complemented.
    """

    kind: Kinds
    complements: Kinds
    output_complement: Kinds


@dataclass(frozen=True)
class _TreeLeaves:
    """The leaves of all trees, sorted by tree and then in the order of the chain.

    Attributes:
        root: the gate number of the tree's root, one per literal.
        literal: 2 * net + complement.
    """

    root: Index
    literal: Index


def chain_body(body: Body) -> Body:
    """Return the body with its trees as chains; the same object if each is a chain already.

    A body with gates of more than two inputs is left as it is.
    """
    if body.k != 2:
        return body
    kind, *complements, output_complement = _CLASSIFIED[body.table].T
    gates = _TwoInputGates(kind, np.stack(complements), output_complement)
    inner, parent = _inner_gates(body, gates)
    root = _roots(inner, parent)
    leaves = _tree_leaves(body, gates, inner, root)
    new = _rebuild(body, kind, _chain_complements(gates, root), inner, leaves)
    return body if new == body else new


def _chain_complements(gates: _TwoInputGates, root: Index) -> Index:
    """Return whether each root complements its chain (G,).

    An AND has its own complement; an XOR tree has the parity of all of its gates' complements.
    """
    is_xor = gates.kind == _XOR
    complement = gates.output_complement
    parity = np.bincount(root[is_xor], complement[is_xor], len(root)).astype(np.int64)
    return np.where(is_xor, parity & 1, complement)


def _inner_gates(body: Body, gates: _TwoInputGates) -> tuple[Mask, Index]:
    """Return which gates (G,) continue their only reader's operation, and that reader (G,).

    The reader of any other gate is given as the gate itself.
    """
    first, kind = body.first_gate, gates.kind
    num_readers = np.bincount(body.fanin.ravel(), minlength=body.num_nets)
    num_readers[body.outputs] += 2
    inner = np.zeros(body.num_gates, bool)
    parent = np.arange(body.num_gates)
    for j in range(2):
        operand = body.fanin[:, j].astype(np.int64) - first
        reader = np.flatnonzero((operand >= 0) & (kind != _OTHER))
        child = operand[reader]
        continues = (kind[child] == kind[reader]) & (num_readers[child + first] == 1)
        # An AND continues its reader if its complement and the reader's cancel; an XOR always does.
        continues &= (kind[child] == _XOR) | (
            gates.output_complement[child] == gates.complements[j][reader]
        )
        inner[child[continues]] = True
        parent[child[continues]] = reader[continues]
    return inner, parent


def _roots(inner: Mask, parent: Index) -> Index:
    """Return the root of each gate's tree (G,), by pointer jumping."""
    root = np.where(inner, parent, np.arange(len(parent)))
    while not np.array_equal(jumped := root[root], root):
        root = jumped
    return root


def _tree_leaves(body: Body, gates: _TwoInputGates, inner: Mask, root: Index) -> _TreeLeaves:
    first = body.first_gate
    roots, literals = [], []
    for j in range(2):
        operand = body.fanin[:, j].astype(np.int64)
        is_leaf = gates.kind != _OTHER
        gate = np.flatnonzero(operand >= first)
        child = operand[gate] - first
        is_leaf[gate] &= ~(inner[child] & (root[child] == root[gate]))
        rows = np.flatnonzero(is_leaf)
        roots.append(root[rows])
        literals.append(2 * operand[rows] + gates.complements[j][rows])
    tree, literal = np.concatenate(roots), np.concatenate(literals)
    order = np.lexsort((literal, tree))
    tree, literal = tree[order], literal[order]
    return _TreeLeaves(tree, _without_repeats(tree, literal, gates.kind[tree]))


def _without_repeats(tree: Index, literal: Index, kind: Kinds) -> Index:
    """Return the literals with constants (0 False, 1 True) for repeats, which `fold` removes."""
    same_tree = tree[1:] == tree[:-1]
    literal = literal.copy()
    opposite = np.flatnonzero(same_tree & (literal[1:] ^ literal[:-1] == 1) & (kind[1:] == _AND))
    equal = np.flatnonzero(same_tree & (literal[1:] == literal[:-1]))
    ands = equal[kind[equal] == _AND]
    # Of n equal XOR operands, every other one cancels the one before it.
    xors = equal[kind[equal] == _XOR]
    start = np.flatnonzero(np.concatenate([[True], np.diff(xors) != 1]))
    if len(xors):
        run = np.repeat(xors[start], np.diff([*start, len(xors)]))
        xors = xors[(xors - run) % 2 == 0]
    literal[ands + 1] = 1
    literal[opposite] = literal[opposite + 1] = 0
    literal[xors] = literal[xors + 1] = 0
    return literal


def _rebuild(
    body: Body, kind: Kinds, chain_complement: Index, inner: Mask, leaves: _TreeLeaves
) -> Body:
    """Return the body with chains for trees; a chain ends at the position of its root."""
    first, gates = body.first_gate, body.num_gates
    count = np.bincount(leaves.root, minlength=gates)  # Literals of each tree.
    size = np.where(kind != _OTHER, count - 1, 1)
    size[inner] = 0
    position = first + np.cumsum(size) - 1  # The new net of each gate that is not inner.
    new_id = np.concatenate([np.arange(first), position])
    fanin = np.zeros((int(size.sum()), 2), np.int64)
    table = np.zeros(len(fanin), np.uint8)
    other = np.flatnonzero(kind == _OTHER)
    fanin[position[other] - first] = new_id[body.fanin[other]]
    table[position[other] - first] = body.table[other]

    start = np.concatenate([[True], leaves.root[1:] != leaves.root[:-1]])
    number = np.arange(len(start)) - np.flatnonzero(start)[np.cumsum(start) - 1]
    # Each literal after a tree's first makes a gate with the chain up to it.
    row = np.flatnonzero(number > 0)
    tree, step = leaves.root[row], number[row]
    net = position[tree] - count[tree] + 1 + step
    literal, previous = leaves.literal[row], leaves.literal[row - 1]
    is_first = step == 1
    left = np.where(is_first, previous, literal)
    right = np.where(is_first, literal, 2 * (net - 1))
    fanin[net - first, 0] = new_id[left >> 1]
    fanin[net - first, 1] = np.where(is_first, new_id[right >> 1], right >> 1)
    is_last = step == count[tree] - 1
    complement = chain_complement[tree] & is_last
    table[net - first] = _TABLES[kind[tree], left & 1, right & 1, complement]
    return Body.build(body.taps, fanin, table, new_id[body.outputs])
