"""Bodies where most gates have one reader: a forest, whose trees are evaluated as cones.

A tree of gates moves a line for each leaf and two for its result; what is between stays in
registers. Where the results are only counted, a chunk of them is counted while it is in the cache,
and its planes serve again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, Final

import numpy as np

from lgir.backends.lowering import chunked_popcount
from lgir.backends.lowering.chunked_popcount import ChunkedPopcount, PlaneSource
from lgir.backends.lowering.cones import (
    Bools,
    ConeCutter,
    ConeExpr,
    ConeGroup,
    Ints,
    reachable,
)
from lgir.backends.lowering.legalize import is_legal
from lgir.backends.lowering.steps import ConeStep, Planes, Step
from lgir.ir.body import Body

MIN_INNER: Final = 0.5
"""Share of gates with a single reader from which a body is evaluated as a forest."""
MAX_TEMPLATES: Final = 64
"""Shapes of trees that get a template, at a millisecond or ten each, once per machine."""

_NOWHERE: Final = (0, 0, 0)
_ONCE: Final = np.zeros(1, np.int64)


def find_forest(body: Body) -> list[ConeGroup]:
    """The cones of a body where most gates have one reader, or none. Trees that do not have one of
    the most frequent shapes are cut into their gates.
    """
    uses = np.zeros(body.num_nets, np.int64)
    arity = body.arity()
    for column in range(body.k):
        np.add.at(uses, body.fanin[arity > column, column], 1)
    uses[body.outputs] += 2
    inner = int((uses[body.first_gate :] == 1).sum())
    if inner < MIN_INNER * body.num_gates or not is_legal(body):
        return []
    cutter = ConeCutter(body, once=True)
    found = cutter.cut()
    trees: Counter[ConeExpr] = Counter()
    for cones in found:
        trees[cones.expr] += len(cones.roots)
    usual = {expr for expr, _ in trees.most_common(MAX_TEMPLATES)}
    if len(usual) < len(trees):
        rare = np.concatenate([cones.roots for cones in found if cones.expr not in usual])
        cuts = reachable(body, cutter.by_level, rare, stop=cutter.is_root)
        cuts[: body.first_gate] = False
        found = cutter.cut(cuts)
        if sum(len(cones.roots) for cones in found) > (1 - MIN_INNER) * body.num_gates:
            return []
    return [_sorted(cutter.extract(cones)) for cones in found]


def schedule_forest(
    body: Body, groups: list[ConeGroup], plane: Planes, slots: PlaneSource, classes: Ints | None
) -> tuple[list[Step], Planes | None]:
    """The steps of a forest.

    Args:
        groups: of `find_forest`.
        plane: (num_nets,) of taps; those of roots are filled in, -1 for roots that were counted.
        classes: (outputs,) the group that each output is counted in, where outputs have no other
            use.

    Returns:
        The steps, and the bit-sliced count (classes, width) of outputs counted, if any were.
    """
    steps: list[Step] = []
    counter = None
    if classes is not None and len(body.outputs) > chunked_popcount.CHUNK:
        counter = ChunkedPopcount(body.outputs, classes, plane, slots)
    read = np.zeros(body.num_nets, bool)
    for group in groups:
        read[group.leaves] = True
    for group in sorted(groups, key=lambda g: g.level):
        kept = read[group.roots] if counter is not None else np.ones(len(group.roots), bool)
        plane[group.roots[kept]] = slots.take(int(kept.sum()))
        if kept.any():
            steps.append(_cones(group, np.flatnonzero(kept), plane))
        if counter is not None:
            rows = np.flatnonzero(~kept)
            while len(rows):
                now, rows = np.split(rows, [counter.room])
                counter.place(group.roots[now])
                steps.append(_cones(group, now, plane))
                steps += counter.count_full()
    if counter is None:
        return steps, None
    return [*steps, *counter.count()], counter.counts


def _sorted(group: ConeGroup) -> ConeGroup:
    """The group with rows of equal masks together, after exchanging equal subtrees where that makes
    masks equal: a target loads masks once for a run of rows.

    Outputs of a class follow one another, so that of a run longer than a chunk, strides spread
    every class over every chunk.
    """
    leaves, masks, key = _in_order(group.expr, list(group.leaves.T), list(group.masks.T[:-1]))
    inverted = group.masks[:, -1]
    row = np.arange(len(key))
    order = np.lexsort((row % -(-len(row) // chunked_popcount.CHUNK), inverted, key))
    return replace(
        group,
        leaves=np.stack([x[order] for x in leaves], axis=1),
        masks=np.stack([x[order] for x in (*masks, inverted)], axis=1),
        roots=group.roots[order],
    )


def _in_order(
    expr: ConeExpr, leaves: list[Ints], masks: list[Bools]
) -> tuple[list[Ints], list[Bools], Ints]:
    """A tree's leaves and masks, of all rows, with equal subtrees in the order of their keys, and
    the tree's key, whose bits are its masks. Consumes leaves and masks; see `ConeExpr.num_masks`.
    """
    if not expr.args:
        leaf = leaves.pop(0)
        return [leaf], [], np.zeros(len(leaf), np.int64)
    parts = [_in_order(arg, leaves, masks) for arg in expr.args]
    own = [masks.pop(0) for _ in range(expr.masks)]
    if expr.kind in ("and", "xor") and expr.args[0] == expr.args[1]:
        (leaves_a, masks_a, a), (leaves_b, masks_b, b) = parts
        swap = a > b
        if expr.kind == "and":
            swap |= (a == b) & own[0] & ~own[1]
            own = _exchange(swap, own[:1], own[1:])
        merged = _exchange(swap, leaves_a, leaves_b), _exchange(swap, masks_a, masks_b)
    else:
        merged = [x for part in parts for x in part[0]], [x for part in parts for x in part[1]]
    key = np.zeros(len(merged[0][0]), np.int64)
    for mask in [*merged[1], *own][-62:]:  # of more, the last: the order is then less complete
        key = key << 1 | mask
    return merged[0], [*merged[1], *own], key


def _exchange(swap: Bools, a: list[Any], b: list[Any]) -> list[Any]:
    """Columns a and then b, exchanged in the rows where `swap` holds."""
    pairs = list(zip(a, b, strict=True))
    return [*(np.where(swap, y, x) for x, y in pairs), *(np.where(swap, x, y) for x, y in pairs)]


def _cones(group: ConeGroup, rows: Ints, plane: Planes) -> ConeStep:
    leaves, out = plane[group.leaves[rows]], plane[group.roots[rows]]
    masks = group.masks[rows]
    return ConeStep(group.expr, leaves, masks, out, (1, 1, 1), _NOWHERE, _NOWHERE, _ONCE)
