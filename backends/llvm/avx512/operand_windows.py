"""What trees read at a position: the lines under their window, which of them several copies of a
tree read, and which the position before has read already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lgir.backends.lowering.cones import Bools, Ints


@dataclass(frozen=True)
class OperandWindows:
    """Of n trees, which make r reads a position, in the order of their code.

    Cells are the distinct lines that a tree reads at a position, at most c, in ascending order.

    Attributes:
        cell: (n, r) what each read reads.
        line: (n, c) where cells are at the first position, in planes. A tree that has fewer cells
            repeats its last one.
        last: (n, c) the last read of each cell.
        early: (n, c) cells that hold what the position before had in the cell `late` (n, c).
    """

    cell: Ints
    line: Ints
    last: Ints
    early: Bools
    late: Ints


def find_operand_windows(reads: Ints, step: int) -> OperandWindows:
    """The windows of trees that read the planes `reads` (n, r) at the first position, and `step`
    planes on at the next one; 0 where there is none.
    """
    n, r = reads.shape
    order = np.argsort(reads, axis=1, kind="stable")
    ascending = np.take_along_axis(reads, order, axis=1)
    fresh = np.ones((n, r), bool)
    fresh[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    number = np.cumsum(fresh, axis=1) - 1
    cell = np.empty((n, r), np.int64)
    np.put_along_axis(cell, order, number, axis=1)
    cells = int(number[:, -1].max()) + 1
    tree = np.arange(n)[:, None]
    line = np.repeat(ascending[:, -1:], cells, axis=1)
    line[tree, number] = ascending
    # Reads of a cell are in their order, and the last assignment to an index stays.
    last = np.full((n, cells), -1)
    last[tree, number] = order
    early, late = np.zeros((n, cells), bool), np.zeros((n, cells), np.int64)
    if step:
        early, late = _ahead(line, np.arange(cells) <= number[:, -1:], step)
    return OperandWindows(cell, line, last, early, late)


def _ahead(line: Ints, exists: Bools, step: int) -> tuple[Bools, Ints]:
    """Whether there is a cell `step` lines ahead, and which one."""
    base, count = int(line.min()), exists.sum(axis=1)
    span = int(line.max()) - base + step + 1
    place = np.arange(len(line))[:, None] * span + line - base
    places = place[exists]
    at = np.minimum(np.searchsorted(places, place + step), len(places) - 1)
    found = exists & (places[at] == place + step)
    return found, np.where(found, at - (np.cumsum(count) - count)[:, None], 0)
