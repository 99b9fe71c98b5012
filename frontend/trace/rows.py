"""Whole-array helpers on integer rows: numbering distinct rows, sorting a row's few entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_DENSE_LIMIT: Final = 1 << 16
_KEY_LIMIT: Final = 1 << 62


def number_rows(columns: Sequence[npt.NDArray[Any]]) -> tuple[Ints, Ints]:
    """Number the distinct rows that `columns` (each (n,) of integers) form together.

    Returns:
        (n,) the number of each row, dense from 0, and (m,) one row that has each number.
    """
    length = len(columns[0]) if columns else 0
    ids, count = np.zeros(length, np.int64), 1
    for column in columns:
        if not length:
            break
        low, high = int(column.min()), int(column.max())
        size = high - low + 1
        if size == 1:
            continue
        digits = column.astype(np.int64) - low if size < _KEY_LIMIT else column
        if size >= _KEY_LIMIT or count * size >= _KEY_LIMIT:
            ids, count = _compress(ids, count)
            digits = np.unique(digits, return_inverse=True)[1].reshape(-1)
            size = int(digits.max()) + 1
        ids = ids * size + digits
        count *= size
        if count > 8 * length + _DENSE_LIMIT:
            ids, count = _compress(ids, count)
    ids, count = _compress(ids, count)
    first = np.zeros(count if length else 0, np.int64)
    first[ids[::-1]] = np.arange(length)[::-1]
    return ids, first


def number_wide_rows(rows: npt.NDArray[Any]) -> tuple[Ints, Ints]:
    """Number the distinct rows of an array (n, w) of integers, as `number_rows` does."""
    if rows.shape[1] <= 4 and len(rows):
        return number_rows(list(rows.T))
    packed = np.ascontiguousarray(rows)
    void = packed.view(np.dtype((np.void, packed.dtype.itemsize * packed.shape[1]))).reshape(-1)
    _, first, ids = np.unique(void, return_index=True, return_inverse=True)
    return ids.reshape(-1).astype(np.int64), first.astype(np.int64)


def _compress(ids: Ints, count: int) -> tuple[Ints, int]:
    if count <= 8 * len(ids) + _DENSE_LIMIT:
        seen = np.zeros(count, bool)
        seen[ids] = True
        number = np.cumsum(seen) - 1
        return number[ids], int(seen.sum())
    distinct, inverse = np.unique(ids, return_inverse=True)
    return inverse.reshape(-1).astype(np.int64), len(distinct)


def sort_descending(rows: Ints) -> Ints:
    """Each row of (n, k) in descending order, so that unused entries, 0, come last."""
    if rows.shape[1] < 2:
        return rows
    if rows.shape[1] == 2:
        return np.stack([rows.max(axis=1), rows.min(axis=1)], axis=1)
    return -np.sort(-rows, axis=1)


def merge_rows(parts: Sequence[Ints]) -> Ints:
    """The union of the nonzero entries of several (n, k_i) arrays, row by row, descending.

    Returns one of `parts` itself if that holds the others.
    """
    parts = sorted((part for part in parts if part.shape[1]), key=lambda part: -part.shape[1])
    if not parts:
        return np.zeros((0, 0), np.int64)
    union, *others = parts
    others = [part for part in others if part is not union and not _holds(union, part)]
    if not others:
        return union
    rows = sort_descending(np.concatenate([union, *others], axis=1))
    twice = (rows[:, 1:] == rows[:, :-1]) & (rows[:, 1:] != 0)
    if twice.any():
        rows[:, 1:][twice] = 0
        rows = sort_descending(rows)
    used = sum(bool(column.any()) for column in rows.T)
    return np.ascontiguousarray(rows[:, :used])


def _holds(union: Ints, part: Ints) -> bool:
    """Whether each row of `part` is among that of `union`, but for zeros."""
    for column in part.T:
        found = column == 0
        for other in union.T:
            found |= column == other
        if not found.all():
            return False
    return True


def place_codes(rows: Ints, union: Ints, unused: int) -> Ints:
    """(n,) where each row's entries stand in its row of `union`: three bits for each column of
    `rows`, the first in the lowest; `unused` for entries 0.
    """
    code = np.zeros(len(rows), np.int64)
    for place, column in enumerate(rows.T):
        found = np.full(len(rows), unused, np.int64)
        for other in range(union.shape[1] - 1, -1, -1):
            found[column == union[:, other]] = other
        found[column == 0] = unused
        code |= found << (3 * place)
    return code


def spread_index(shape: tuple[int, ...], to: tuple[int, ...]) -> Ints | None:
    """Flat index that broadcasts elements of `shape` over `to`; None if they are the same."""
    size = int(np.prod(shape, dtype=np.int64))
    if size == int(np.prod(to, dtype=np.int64)):
        return None
    return np.broadcast_to(np.arange(size).reshape(shape), to).reshape(-1)
