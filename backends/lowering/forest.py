"""Evaluate a dense body in which most gates have one reader as a forest of trees.

A tree of gates moves a cache line for each leaf and two for its result; everything between stays in
registers. If the results are only counted, a chunk of them is counted while it is in the cache, and
its planes are used again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, Final

import numpy as np

from lgir.backends.lowering import chunked_popcount
from lgir.backends.lowering.chunked_popcount import ChunkedPopcount
from lgir.backends.lowering.cone_cutter import ConeCutter, reachable
from lgir.backends.lowering.cones import Bools, ConeExpr, ConeGroup, Ints
from lgir.backends.lowering.layouts import PartialCount
from lgir.backends.lowering.legalize import is_legal
from lgir.backends.lowering.plane_allocator import PlanePool
from lgir.backends.lowering.steps import ConeStep, Planes, Step
from lgir.ir.body import Body

MIN_INNER: Final = 0.5
"""The share of gates with a single reader from which a body is evaluated as a forest."""
MAX_TEMPLATES: Final = 64
"""The tree shapes that get a template: each takes one to ten milliseconds, once per machine."""

_SINGLE_POSITION: Final = (1, 1, 1)
_NO_ADVANCE: Final = (0, 0, 0)
_NO_SHIFT: Final = np.zeros(1, np.int64)
_KEY_BITS: Final = 62
"""The masks of a tree that fit its sort key."""


def find_forest(body: Body) -> list[ConeGroup]:
    """Return the trees of a body in which most gates have one reader; an empty list for others.

    Trees that do not have one of the most frequent shapes are cut into their gates.
    """
    uses = np.zeros(body.num_nets, np.int64)
    arity = body.arity()
    for column in range(body.k):
        np.add.at(uses, body.fanin[arity > column, column], 1)
    uses[body.outputs] += 2
    num_inner = int((uses[body.first_gate :] == 1).sum())
    if num_inner < MIN_INNER * body.num_gates or not is_legal(body):
        return []
    cutter = ConeCutter(body, once=True)
    cut = cutter.cut()
    trees_by_shape: Counter[ConeExpr] = Counter()
    for cones in cut.cones:
        trees_by_shape[cones.expr] += len(cones.roots)
    frequent = {expr for expr, _ in trees_by_shape.most_common(MAX_TEMPLATES)}
    if len(frequent) < len(trees_by_shape):
        rare = np.concatenate([cones.roots for cones in cut.cones if cones.expr not in frequent])
        extra_roots = reachable(body, cutter.by_level, rare, stop=cut.is_root)
        extra_roots[: body.first_gate] = False
        cut = cutter.cut(extra_roots)
        if sum(len(cones.roots) for cones in cut.cones) > (1 - MIN_INNER) * body.num_gates:
            return []
    return [_sort_by_masks(cut.extract(cones)) for cones in cut.cones]


def schedule_forest(
    body: Body, forest: list[ConeGroup], plane: Planes, pool: PlanePool, groups: Ints | None
) -> tuple[list[Step], PartialCount | None]:
    """Return the steps of a forest, and the count of outputs that are counted.

    Args:
        forest: the trees, as `find_forest` returns them.
        plane: (num_nets,) the planes of constants and taps; those of roots are filled in.
        pool: where results take planes.
        groups: (outputs,) the group in which each output is counted, if outputs have no other use.
    """
    steps: list[Step] = []
    popcount = None
    if groups is not None and len(body.outputs) > chunked_popcount.CHUNK:
        popcount = ChunkedPopcount(body.outputs, groups, plane, pool)
    is_read = np.zeros(body.num_nets, bool)
    for cones in forest:
        is_read[cones.leaves] = True
    for cones in sorted(forest, key=lambda group: group.level):
        is_kept = np.ones(len(cones.roots), bool) if popcount is None else is_read[cones.roots]
        plane[cones.roots[is_kept]] = pool.take(int(is_kept.sum()))
        if is_kept.any():
            steps.append(_tree_step(cones, np.flatnonzero(is_kept), plane))
        if popcount is not None:
            rows = np.flatnonzero(~is_kept)
            while len(rows):
                fitting, rows = np.split(rows, [popcount.free_planes])
                popcount.place(cones.roots[fitting])
                steps.append(_tree_step(cones, fitting, plane))
                steps += popcount.count_if_full()
    if popcount is None:
        return steps, None
    last, counted = popcount.finish()
    return [*steps, *last], counted


def _sort_by_masks(group: ConeGroup) -> ConeGroup:
    """Return the group with rows of equal masks together: a target loads masks once per run.

    Equal subtrees are exchanged if that makes masks equal. Outputs of a class follow one another,
    so the rows of a run longer than a chunk are taken in strides, which spread every class over
    every chunk.
    """
    leaves, masks, key = _normalize(group.expr, list(group.leaves.T), list(group.masks.T[:-1]))
    inverted = group.masks[:, -1]
    row = np.arange(len(key))
    order = np.lexsort((row % -(-len(row) // chunked_popcount.CHUNK), inverted, key))
    return replace(
        group,
        leaves=np.stack([x[order] for x in leaves], axis=1),
        masks=np.stack([x[order] for x in (*masks, inverted)], axis=1),
        roots=group.roots[order],
    )


def _normalize(
    expr: ConeExpr, leaves: list[Ints], masks: list[Bools]
) -> tuple[list[Ints], list[Bools], Ints]:
    """Return the leaves and masks of a tree with equal subtrees in the order of their keys.

    The third result is the key of the tree in each row, whose bits are its masks. Consumes the
    columns of `leaves` and `masks`, which are in the order of `ConeExpr.num_masks`.
    """
    if not expr.args:
        leaf = leaves.pop(0)
        return [leaf], [], np.zeros(len(leaf), np.int64)
    operands = [_normalize(arg, leaves, masks) for arg in expr.args]
    gate_masks = [masks.pop(0) for _ in range(expr.masks)]
    if expr.kind in ("and", "xor") and expr.args[0] == expr.args[1]:
        (leaves_a, masks_a, key_a), (leaves_b, masks_b, key_b) = operands
        swap = key_a > key_b
        if expr.kind == "and":
            swap |= (key_a == key_b) & gate_masks[0] & ~gate_masks[1]
            gate_masks = _exchange(swap, gate_masks[:1], gate_masks[1:])
        tree_leaves = _exchange(swap, leaves_a, leaves_b)
        tree_masks = _exchange(swap, masks_a, masks_b)
    else:
        tree_leaves = [column for operand in operands for column in operand[0]]
        tree_masks = [column for operand in operands for column in operand[1]]
    tree_masks = [*tree_masks, *gate_masks]
    key = np.zeros(len(tree_leaves[0]), np.int64)
    # Of more masks, the key has the last ones: the order is then less complete.
    for mask in tree_masks[-_KEY_BITS:]:
        key = key << 1 | mask
    return tree_leaves, tree_masks, key


def _exchange(swap: Bools, a: list[Any], b: list[Any]) -> list[Any]:
    """Return the columns of a, then those of b, exchanged in the rows in which `swap` holds."""
    pairs = list(zip(a, b, strict=True))
    return [*(np.where(swap, y, x) for x, y in pairs), *(np.where(swap, x, y) for x, y in pairs)]


def _tree_step(group: ConeGroup, rows: Ints, plane: Planes) -> ConeStep:
    """Return the step that evaluates some `rows` of a group."""
    return ConeStep(
        group.expr,
        plane[group.leaves[rows]],
        group.masks[rows],
        plane[group.roots[rows]],
        _SINGLE_POSITION,
        _NO_ADVANCE,
        _NO_ADVANCE,
        _NO_SHIFT,
    )
