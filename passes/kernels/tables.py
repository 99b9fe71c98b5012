"""Truth-table algebra on whole arrays: one numpy operation for every gate of a level at once.

Tables are those of `lgir.ir.truth_tables`: `k` inputs, 2**k bits, the first input the most
significant index bit. Every function takes (n,) tables of one dtype and returns the same.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy.typing as npt

from lgir.ir.truth_tables import full_mask, variable_table

Tables = npt.NDArray[Any]


@cache
def low_mask(k: int, j: int) -> int:
    """Bits of a table where input j is False."""
    return full_mask(k) & ~variable_table(k, j)


def step(k: int, j: int) -> int:
    """Distance between the bits of a table that differ in input j only."""
    return 1 << (k - 1 - j)


def cofactor(t: Tables, k: int, j: int, value: bool) -> Tables:
    """The tables with input j fixed; they no longer depend on it."""
    s = step(k, j)
    if value:
        high = t & variable_table(k, j)
        return high | (high >> s)
    low = t & low_mask(k, j)
    return low | (low << s)


def flip(t: Tables, k: int, j: int) -> Tables:
    """The tables with input j complemented."""
    s = step(k, j)
    return ((t & variable_table(k, j)) >> s) | ((t & low_mask(k, j)) << s)


@cache
def _swap_mask(k: int, j: int) -> int:
    """Bits of a table where input j is False and input j + 1 is True."""
    return low_mask(k, j) & variable_table(k, j + 1)


def swap_adjacent(t: Tables, k: int, j: int) -> Tables:
    """The tables with inputs j and j + 1 exchanged."""
    s = step(k, j + 1)
    moved: Tables = ((t >> s) ^ t) & _swap_mask(k, j)
    swapped: Tables = t ^ moved ^ (moved << s)
    return swapped


def merge_adjacent(t: Tables, k: int, j: int) -> Tables:
    """The tables where input j + 1 is fed the same net as input j; only j matters afterwards."""
    high: Tables = cofactor(t, k, j + 1, True) & variable_table(k, j)
    low: Tables = cofactor(t, k, j + 1, False) & low_mask(k, j)
    return high | low


@cache
def sorting_steps(k: int) -> tuple[int, ...]:
    """Positions j of compare-exchanges (j, j + 1) that sort k columns (odd-even transposition)."""
    return tuple(j for round_ in range(k) for j in range(round_ % 2, k - 1, 2))
