"""Halos: the cells around a value that convolutions read past its edges, and that stay False.

A halo takes the place of a branch: a template reads past an edge as it reads anywhere else, and
finds the zero padding. Successive lines share their cells: those past the end of one line are the
cells before the start of the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.ir.types import Shape

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Halo:
    """The cells that are read `before` and `after` a value, per axis of space."""

    before: Shape
    after: Shape

    @property
    def between(self) -> Shape:
        """The cells between one line and the next, per axis: as many as either side needs."""
        return tuple(map(max, self.before, self.after))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is read past any edge."""
        return not any(self.between)


def no_halo(rank: int) -> Halo:
    """Return the halo of a value with `rank` axes of space that is read within its edges only."""
    return Halo((0,) * rank, (0,) * rank)


def find_halos(graph: Graph) -> dict[str, Halo]:
    """Return the halo of every value that a convolution reads, by the value's name.

    Inputs of one node get the same extents, edges and halos included, in all axes but the slowest,
    so that a template reads all of them at one offset from the position.
    """
    convolutions = [(node, op) for node, op in graph.of_type(Logic) if op.positions > 1]
    space = {name: np.array(value.shape[1:]) for name, value in graph.values.items()}
    before: dict[str, Ints] = {}
    after: dict[str, Ints] = {}
    for node, op in convolutions:
        last = (np.array(op.space) - 1) * np.array(op.stride)
        for i, name in enumerate(node.inputs):
            offsets = op.body.taps[op.body.taps[:, 0] == i, 2:].astype(np.int64)
            past_end = offsets + last - space[name] + 1
            low, high = (-offsets).max(axis=0, initial=0), past_end.max(axis=0, initial=0)
            before[name] = np.maximum(low, before.get(name, 0))
            after[name] = np.maximum(high, after.get(name, 0))
    is_stable = False
    while not is_stable:
        is_stable = True
        for node, _ in convolutions:
            between = {name: np.maximum(before[name], after[name]) for name in node.inputs}
            widest = np.max([space[name] + between[name] for name in node.inputs], axis=0)
            for name in node.inputs:
                missing = widest - space[name] - between[name]
                missing[0] = 0  # The slowest axis has no part in the strides.
                if missing.any():
                    after[name] = np.where(missing > 0, between[name] + missing, after[name])
                    is_stable = False
    return {
        name: Halo(tuple(cells.tolist()), tuple(after[name].tolist()))
        for name, cells in before.items()
    }
