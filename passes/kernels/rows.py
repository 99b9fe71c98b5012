"""Equal rows of arrays, found by hashing or by sorting: the base of sharing gates and taps."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.passes.kernels.literals import Index


def first_equal(columns: list[npt.NDArray[Any]]) -> Index:
    """Return the index of the first row equal to each row (n,), given the columns of the rows.

    Rows are hashed in rounds. In each round, the first row of a slot is the first of its kind, and
    the rows equal to it are settled; the others try other slots.
    """
    n = len(columns[0])
    first = np.arange(n)
    rows, key = first, row_hash(columns)
    bits = n.bit_length() + 1
    table = np.empty(1 << bits, np.int32)
    while len(rows):
        slot = (key >> np.uint64(64 - bits)).astype(np.int64)
        table[slot[::-1]] = rows[::-1]  # Of several assignments to a slot, numpy keeps the last.
        head = table[slot]
        same = np.logical_and.reduce([column[rows] == column[head] for column in columns])
        if rows is first:
            first = np.where(same, head, first)
        else:
            first[rows[same]] = head[same]
        rows, key = rows[~same], key[~same] * np.uint64(0x9E37_79B9_7F4A_7C15)
    return first


def row_hash(columns: list[npt.NDArray[Any]]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each row (n,): splitmix64's finalizer over a running sum."""
    h = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        h += column.astype(np.uint64)
        h ^= h >> np.uint64(30)
        h *= np.uint64(0xBF58476D1CE4E5B9)
        h ^= h >> np.uint64(27)
        h *= np.uint64(0x94D049BB133111EB)
        h ^= h >> np.uint64(31)
    return h


def unique_rows(rows: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], Index]:
    """Return the distinct rows in lexicographic order, and the position of each row among them."""
    order = np.lexsort(rows.T[::-1])
    ranked = rows[order]
    is_new = np.concatenate([[True], (ranked[1:] != ranked[:-1]).any(axis=1)])
    position = np.empty(len(rows), np.int64)
    position[order] = np.cumsum(is_new) - 1
    return ranked[is_new], position


def runs(*keys: npt.NDArray[np.integer]) -> tuple[Index, Index]:
    """Return, for sorted rows, the number of the run of equal rows, and the position in the run."""
    start = np.ones(len(keys[0]), bool)
    start[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    run = np.cumsum(start) - 1
    return run, np.arange(len(start)) - np.flatnonzero(start)[run]
