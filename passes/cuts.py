"""Cuts of up to six nets and their truth tables, enumerated bottom-up by compiled kernels.

A cut of a net is a set of nets, its leaves, through which every path from the inputs to it leads;
priority cuts are the few best a net (Mishchenko et al., "Combinational and sequential mapping with
priority cuts", ICCAD 2007). Here leaves ascend, and leaf j is index bit j of the cut's table, the
first the *least* significant, so that a table of few leaves repeats over those that it lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from lgir.body import IntArray, Mask
from lgir.ops import Tables

Sizes = npt.NDArray[np.int8]

compiled: Final[Callable[[Any], Any]] = njit(cache=True, nogil=True, error_model="numpy")

_LOW: Final = np.array(
    [
        0x5555_5555_5555_5555,
        0x3333_3333_3333_3333,
        0x0F0F_0F0F_0F0F_0F0F,
        0x00FF_00FF_00FF_00FF,
        0x0000_FFFF_0000_FFFF,
        0x0000_0000_FFFF_FFFF,
    ],
    np.uint64,
)
"""Bits of a table where leaf j is False."""

variable: Final = ~_LOW[0]
"""The table of a net over itself."""


@compiled
def merge_leaves(a, size_a, b, size_b, most, out):  # type: ignore[no-untyped-def]
    """The union of two ascending sets in `out`; its size, or `most` + 1 where it has more."""
    i = j = n = 0
    while i < size_a or j < size_b:
        if n == most:
            return most + 1
        if j == size_b or (i < size_a and a[i] < b[j]):
            out[n] = a[i]
            i += 1
        else:
            if i < size_a and a[i] == b[j]:
                i += 1
            out[n] = b[j]
            j += 1
        n += 1
    return n


@compiled
def spread(table, leaves, size, wider, wider_size):  # type: ignore[no-untyped-def]
    """The table of a cut over the leaves of a wider one."""
    at = wider_size - 1
    for j in range(size - 1, -1, -1):
        while wider[at] != leaves[j]:
            at -= 1
        for p in range(j, at):  # leaf p moves up past p + 1, which the table ignores
            step = np.uint64(1 << p)
            # Bits with leaf p True and p + 1 False change places with those the other way round.
            moved = ((table >> step) ^ table) & ~_LOW[p] & _LOW[p + 1]
            table = table ^ moved ^ (moved << step)
        at -= 1
    return table


@compiled
def gate_table(table, x, y):  # type: ignore[no-untyped-def]
    """A two-input gate on two words: bit 2 x + y of `table` for each bit of them."""
    out = np.uint64(0)
    if table & 1:
        out |= ~x & ~y
    if table & 2:
        out |= ~x & y
    if table & 4:
        out |= x & ~y
    if table & 8:
        out |= x & y
    return out


def small_cuts(
    fanin: IntArray, table: Tables, gate: Mask, nets: int, most: int
) -> tuple[IntArray, Sizes, Tables, Sizes]:
    """Cuts of at most four leaves of two-input gates, `most` a net: those of most gates a leaf.

    Args:
        fanin, table, gate: by net, (N, 2), (N,) and (N,); a net that is no gate is but a leaf.
        nets: how many of the nets to look at.

    Returns:
        leaves (nets, most, 4), sizes and tables (nets, most) int8 and uint16, counts (nets,) int8.
    """
    leaves = np.zeros((nets, most, 4), np.int32)
    size = np.zeros((nets, most), np.int8)
    tables = np.zeros((nets, most), np.uint16)
    count = np.zeros(nets, np.int8)
    _small_cuts(fanin, table, gate, leaves, size, tables, count)
    return leaves, size, tables, count


@compiled
def _small_cuts(fanin, table, gate, leaves, size, tables, count):  # type: ignore[no-untyped-def]
    nets, most = size.shape
    spans = np.zeros((nets, most), np.int8)  # gates between a cut and its net, or more
    one = np.empty((2, 1), np.int32)
    merged = np.empty(4, np.int32)
    for net in range(nets):
        if not gate[net]:
            continue
        a, b = fanin[net, 0], fanin[net, 1]
        one[0, 0], one[1, 0] = a, b
        kept = 0
        for i in range(-1, np.int64(count[a])):
            x_leaves = one[0] if i < 0 else leaves[a, i]
            x_size = 1 if i < 0 else np.int64(size[a, i])
            x = variable if i < 0 else np.uint64(tables[a, i]) * np.uint64(0x1_0001_0001_0001)
            x_span = 0 if i < 0 else np.int64(spans[a, i])
            for j in range(-1, np.int64(count[b])):
                y_leaves = one[1] if j < 0 else leaves[b, j]
                y_size = 1 if j < 0 else np.int64(size[b, j])
                n = merge_leaves(x_leaves, x_size, y_leaves, y_size, 4, merged)
                if n > 4 or _has(leaves[net], size[net], kept, merged, n):
                    continue
                span = min(1 + x_span + (0 if j < 0 else np.int64(spans[b, j])), 127)
                at = kept
                while at > 0 and np.int64(size[net, at - 1]) - spans[net, at - 1] > n - span:
                    at -= 1
                if at == most:
                    continue
                kept = min(kept + 1, most)
                for c in range(kept - 1, at, -1):
                    leaves[net, c] = leaves[net, c - 1]
                    size[net, c] = size[net, c - 1]
                    tables[net, c] = tables[net, c - 1]
                    spans[net, c] = spans[net, c - 1]
                leaves[net, at, :n] = merged[:n]
                size[net, at], spans[net, at] = n, span
                y = variable if j < 0 else np.uint64(tables[b, j]) * np.uint64(0x1_0001_0001_0001)
                wide_x = spread(x, x_leaves, x_size, merged, n)
                wide_y = spread(y, y_leaves, y_size, merged, n)
                tables[net, at] = gate_table(table[net], wide_x, wide_y)
        count[net] = kept


@compiled
def _has(leaves, size, count, wanted, n):  # type: ignore[no-untyped-def]
    """Whether the first n of `wanted` are a cut already."""
    for c in range(count):
        if size[c] == n:
            same = True
            for i in range(n):
                same &= leaves[c, i] == wanted[i]
            if same:
                return True
    return False
