"""Trees that are evaluated once each, as in a forest: rows of leaves, in runs of equal masks.

What limits is memory: leaves are spread over the second-level cache and beyond it, and each row is
read once a block, from further away still. So rows are small: two bytes a leaf where planes are
near each other, and none for results, which follow one another. What is far is asked for ahead.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.cones import Expr
from lgir.backends.llvm.ir import PLANE_BYTES, Function
from lgir.backends.llvm.kernels import evaluate_tree
from lgir.backends.llvm.records import PARAMS, Field

_NEAR: Final = 1 << 16
"""Planes that two bytes can tell apart: 4 MiB."""
_AHEAD: Final = {2: 24, 1: 2}
"""Trees between asking for far leaves and reading them, by the level of the cache they come to."""
_BYTES_AHEAD: Final = 512
"""Of tables, between asking for them and reading them."""
_PLANE_SHIFT: Final = PLANE_BYTES.bit_length() - 1

Words = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


def tree_kernel(name: str, expr: Expr, near: bool, *, ternary: bool) -> str:
    """COUNT runs of trees: for each, at MASKS, a u32, how many trees, and a byte a mask; at ROWS a
    row a tree: the planes of its leaves, counted from the offset BASE. Results go to planes that
    follow one another, from the offset OUT.

    Leaves that are `near` are u16. The caches hold these close enough for the processor to run
    ahead by itself. Others are u32 and asked for twice, since the second-level cache can wait for
    more lines at once than the first: the table of rows must go on for as many as _AHEAD says.
    """
    f = Function(name, PARAMS, ternary=ternary)
    kinds, masks = expr.leaves(), expr.num_masks() + 1
    word, ahead = (2, {}) if near else (4, _AHEAD)
    row_bytes, run_bytes = word * len(kinds), 4 + masks
    rows_ahead = max(ahead.values(), default=0) * row_bytes + _BYTES_AHEAD
    runs, count = f.field("%step", Field.MASKS, "ptr"), f.field("%step", Field.COUNT)
    base = f.at("%planes", f.field("%step", Field.BASE))
    first = f.field("%step", Field.ROWS, "ptr")
    out = f.at("%planes", f.field("%step", Field.OUT))

    def leaf(row: str, i: int) -> str:
        plane = f.load(f"i{8 * word}", f.at(row, str(word * i)), word)
        plane = f.let(f"zext i{8 * word} {plane} to i64")
        return f.at(base, f.let(f"shl i64 {plane}, {_PLANE_SHIFT}"))

    with f.loop(count, ("ptr", first), ("ptr", out)) as outer:
        run = f.at(runs, f.let(f"mul i64 {outer.index}, {run_bytes}"))
        f.prefetch(f.at(run, str(_BYTES_AHEAD)))
        trees = f.let(f"zext i32 {f.load('i32', run, 1)} to i64")
        words = [f.load("i8", f.at(run, str(4 + i)), 1) for i in range(masks)]
        mask = [f.broadcast(w, "i8") for w in words]
        rows, results = outer.carried
        with f.loop(trees) as loop:
            row = f.at(rows, f.let(f"mul i64 {loop.index}, {row_bytes}"))
            f.prefetch(f.at(row, str(rows_ahead)))
            for level, trees_ahead in ahead.items():
                later = f.at(row, str(trees_ahead * row_bytes))
                for i in range(len(kinds)):
                    f.prefetch(leaf(later, i), level)
            leaves = [(kind, leaf(row, i)) for i, kind in enumerate(kinds)]
            value = evaluate_tree(f, expr, leaves, list(mask), {"tap": "0", "cut": "0"})
            place = f.let(f"mul i64 {loop.index}, {PLANE_BYTES}")
            f.store_plane(f.op("xor", value, mask[-1]), results, place)
        outer.next = [
            f.at(rows, f.let(f"mul i64 {trees}, {row_bytes}")),
            f.at(results, f.let(f"mul i64 {trees}, {PLANE_BYTES}")),
        ]
    f.emit("ret void")
    return f.text()


def tree_rows(leaves: npt.NDArray[np.int64]) -> tuple[Words, int, bool]:
    """For trees of `leaves` (n, L): the table of rows, the plane that these count from, and whether
    leaves are near, see `tree_kernel`.
    """
    first = int(leaves.min())
    if int(leaves.max()) - first < _NEAR:
        return (leaves - first).astype(np.uint16), first, True
    ahead = max(_AHEAD.values())
    return np.pad(leaves - first, ((0, ahead), (0, 0))).astype(np.uint32), first, False


def mask_runs(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """(runs, 4 + M): how many equal rows of `masks` (n, M) follow one another, a u32, and which."""
    begins = np.concatenate([[True], (masks[1:] != masks[:-1]).any(axis=1)])
    first = np.flatnonzero(begins)
    sizes = np.diff(first, append=len(masks)).astype("<u4")
    words = np.where(masks[first], np.uint8(0xFF), np.uint8(0))
    return np.concatenate([sizes[:, None].view(np.uint8), words], axis=1)
