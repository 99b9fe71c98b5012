"""Positions of a convolution that stand for all of them."""

from __future__ import annotations

import numpy as np

from lgir.equivalence.arrays import Index
from lgir.equivalence.value_map import LogicValue, ValueMap
from lgir.ir.nodes import Logic, Threshold
from lgir.ir.sets import distinct
from lgir.ir.types import Shape


def position_classes(values: ValueMap, roots: list[LogicValue], cut: int) -> Index:
    """Return positions (flat) that stand for all: one of each class.

    Positions are of one class if the same reads, direct or through values that are not cut off,
    fall outside. All positions are returned if reads do not move in step, or if the inputs differ
    between positions. `cut` is that of `netlist_at_positions`.
    """
    space = roots[0].op.space
    everywhere = np.arange(roots[0].op.positions)
    if not space:
        return everywhere
    rank = len(space)
    # By axis, (scale, offset, size): position p reads inside if 0 <= p * scale + offset < size.
    conditions: list[set[tuple[int, int, int]]] = [set() for _ in space]
    scale_of_size: dict[Shape, Shape] = {}
    seen = set()
    pending = [(root, (1,) * rank, (0,) * rank) for root in roots]
    while pending:
        value, scale, offset = pending.pop()
        stride = value.op.stride
        for source, *shift in np.unique(np.delete(value.op.body.taps, 1, axis=1), axis=0).tolist():
            name = value.node.inputs[source]
            size = values.shape(value.graph, name)[1:]
            new_scale = tuple(a * s for a, s in zip(scale, stride, strict=True))
            new_offset = tuple(b * s + d for b, s, d in zip(offset, stride, shift, strict=True))
            for axis in range(rank):
                conditions[axis].add((new_scale[axis], new_offset[axis], size[axis]))
            in_step = scale_of_size.setdefault(size, new_scale) == new_scale
            if not in_step or not _is_uniform(values, value.graph, name):
                return everywhere
            owner = distinct(values.owners(values.literals(value.graph, name)[:, 0] >> 1))
            for i in owner[owner >= 0].tolist():
                visit = (i, new_scale, new_offset)
                home = values.logic_values[i]
                is_leaf = i < cut and home.shared.all() and home not in roots
                if visit not in seen and not is_leaf:
                    seen.add(visit)
                    pending.append((home, new_scale, new_offset))
    chosen = [_axis_classes(n, sorted(conditions[axis])) for axis, n in enumerate(space)]
    return np.ravel_multi_index(np.meshgrid(*chosen, indexing="ij"), space).ravel()


def _axis_classes(positions: int, conditions: list[tuple[int, int, int]]) -> list[int]:
    """Return the first position along an axis of each class, by which conditions hold there."""
    first: dict[tuple[bool, ...], int] = {}
    for p in range(positions):
        inside = tuple(0 <= scale * p + offset < size for scale, offset, size in conditions)
        first.setdefault(inside, p)
    return list(first.values())


def _is_uniform(values: ValueMap, graph: int, name: str) -> bool:
    """Return whether a value relates to others in the same way at every position."""
    node = values.producer(graph, name)
    if node is None or isinstance(node.op, Logic):
        return True
    return isinstance(node.op, Threshold) and node.op.levels.ndim <= 2
