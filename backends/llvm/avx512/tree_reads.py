"""Analyze what trees read at a position: which lines are read again, there or at the next position.

Several copies of a tree under a pool read the same lines, and the windows of neighboring positions
overlap. Register allocation keeps such lines in registers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lgir.backends.llvm.avx512.evex_encoder import Bools, Ints


@dataclass(frozen=True)
class TreeReads:
    """The reads of n trees at one position; each tree makes r reads, in the order of its code.

    The cells of a tree are the distinct lines that it reads, at most c, in ascending order. All
    trees have the same cells at every position, with lines a constant number of planes further on.

    Attributes:
        cell: (n, r) the cell of each read.
        line: (n, c) the plane of each cell at the first position. A tree of fewer cells repeats its
            last one.
        last_read: (n, c) the last read of each cell, -1 for cells that a tree lacks.
        is_carried: (n, c) whether a cell's line was already read at the position before.
        carried_from: (n, c) the cell that had the line there; 0 if it is not carried.
    """

    cell: Ints
    line: Ints
    last_read: Ints
    is_carried: Bools
    carried_from: Ints


def analyze_tree_reads(reads: Ints, step: int) -> TreeReads:
    """Return the cells of trees that read the planes `reads` (n, r) at the first position.

    `step` is the number of planes to the next position; 0 if no line is carried.
    """
    n, r = reads.shape
    order = np.argsort(reads, axis=1, kind="stable")
    ascending = np.take_along_axis(reads, order, axis=1)
    is_first = np.ones((n, r), bool)
    is_first[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    cell_ascending = np.cumsum(is_first, axis=1) - 1
    cell = np.empty((n, r), np.int64)
    np.put_along_axis(cell, order, cell_ascending, axis=1)
    num_cells = int(cell_ascending[:, -1].max()) + 1
    tree = np.arange(n)[:, None]
    line = np.repeat(ascending[:, -1:], num_cells, axis=1)
    line[tree, cell_ascending] = ascending
    # The sort is stable, and of assignments to one index the last one stays.
    last_read = np.full((n, num_cells), -1)
    last_read[tree, cell_ascending] = order
    is_carried = np.zeros((n, num_cells), bool)
    carried_from = np.zeros((n, num_cells), np.int64)
    if step:
        exists = np.arange(num_cells) <= cell_ascending[:, -1:]
        is_carried, carried_from = _cells_ahead(line, exists, step)
    return TreeReads(cell, line, last_read, is_carried, carried_from)


def _cells_ahead(line: Ints, exists: Bools, step: int) -> tuple[Bools, Ints]:
    """Return whether each cell has one `step` planes ahead in its tree, and which one."""
    lowest, num_cells = int(line.min()), exists.sum(axis=1)
    # Keys of a tree's lines that no other tree's lines have, even `step` planes ahead.
    span = int(line.max()) - lowest + step + 1
    key = np.arange(len(line))[:, None] * span + line - lowest
    keys = key[exists]
    match = np.minimum(np.searchsorted(keys, key + step), len(keys) - 1)
    has_match = exists & (keys[match] == key + step)
    first_of_tree = (np.cumsum(num_cells) - num_cells)[:, None]
    return has_match, np.where(has_match, match - first_of_tree, 0)
