"""Trees that are evaluated once each, as in a forest: rows of leaves, in runs of equal masks.

What limits is memory: leaves are spread over the second-level cache and beyond it, and each row is
read once a block, from further away still. So rows are small: two bytes a leaf where planes are
near each other, and none for results, which follow one another. What is far is asked for ahead.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.kernels import evaluate_tree
from lgir.backends.llvm.llvm_text import PLANE_BYTES, FunctionWriter
from lgir.backends.llvm.records import KERNEL_PARAMS, Field
from lgir.backends.lowering.cones import ConeExpr
from lgir.backends.lowering.steps import Planes

_NEAR: Final = 1 << 16
"""Planes that two bytes can tell apart: 4 MiB."""
_NEAREST: Final = 1 << 14
"""Planes that a second-level cache may hold: 1 MiB."""
_NEW: Final = 0.02
"""Share of leaves that no tree has read before from which these limit."""
_AHEAD: Final[dict[str, dict[int, int]]] = {"near": {}, "new": {2: 24}, "far": {2: 24, 1: 2}}
"""Trees between asking for leaves and reading them, by the level of the cache they come to: the
second-level cache can wait for more lines at once than the first.
"""
_BYTES_AHEAD: Final = 512
"""Of tables, between asking for them and reading them."""
_PLANE_SHIFT: Final = PLANE_BYTES.bit_length() - 1

Words = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


def tree_kernel(name: str, expr: ConeExpr, reach: str, *, ternary: bool) -> str:
    """COUNT runs of trees: for each, at MASKS, a u32, how many trees, and a byte a mask; at ROWS a
    row a tree: the planes of its leaves, counted from the offset BASE. Results go to planes that
    follow one another, from the offset OUT.

    Where their `reach` is "near", leaves are u16, and the caches hold them close enough for the
    processor to run ahead by itself. "new" ones are u16 and come from further away; "far" ones are
    u32. Both are asked for: the table of rows goes on for as many as _AHEAD says.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    kinds, masks = expr.leaves(), expr.num_masks() + 1
    word, ahead = 4 if reach == "far" else 2, _AHEAD[reach]
    row_bytes, run_bytes = word * len(kinds), 4 + masks
    rows_ahead = max(ahead.values(), default=0) * row_bytes + _BYTES_AHEAD
    runs, count = f.load_field("%step", Field.MASKS, "ptr"), f.load_field("%step", Field.COUNT)
    base = f.gep("%planes", f.load_field("%step", Field.BASE))
    first = f.load_field("%step", Field.ROWS, "ptr")
    out = f.gep("%planes", f.load_field("%step", Field.OUT))

    def leaf(row: str, i: int) -> str:
        plane = f.load(f"i{8 * word}", f.gep(row, str(word * i)), word)
        plane = f.let(f"zext i{8 * word} {plane} to i64")
        return f.gep(base, f.let(f"shl i64 {plane}, {_PLANE_SHIFT}"))

    with f.loop(count, ("ptr", first), ("ptr", out)) as outer:
        run = f.gep(runs, f.let(f"mul i64 {outer.index}, {run_bytes}"))
        f.prefetch(f.gep(run, str(_BYTES_AHEAD)))
        trees = f.let(f"zext i32 {f.load('i32', run, 1)} to i64")
        words = [f.load("i8", f.gep(run, str(4 + i)), 1) for i in range(masks)]
        mask = [f.broadcast(w, "i8") for w in words]
        rows, results = outer.carried
        with f.loop(trees) as loop:
            row = f.gep(rows, f.let(f"mul i64 {loop.index}, {row_bytes}"))
            f.prefetch(f.gep(row, str(rows_ahead)))
            for level, trees_ahead in ahead.items():
                later = f.gep(row, str(trees_ahead * row_bytes))
                for i in range(len(kinds)):
                    f.prefetch(leaf(later, i), level)
            leaves = [(kind, leaf(row, i)) for i, kind in enumerate(kinds)]
            value = evaluate_tree(f, expr, leaves, list(mask), {"tap": "0", "cut": "0"})
            place = f.let(f"mul i64 {loop.index}, {PLANE_BYTES}")
            f.store_plane(f.op("xor", value, mask[-1]), results, place)
        outer.next = [
            f.gep(rows, f.let(f"mul i64 {trees}, {row_bytes}")),
            f.gep(results, f.let(f"mul i64 {trees}, {PLANE_BYTES}")),
        ]
    f.emit("ret void")
    return f.text()


def tree_rows(leaves: Planes, read: npt.NDArray[np.bool_]) -> tuple[Words, int, str]:
    """For trees of `leaves` (n, L): the table of rows, the plane that these count from, and how far
    leaves reach, see `tree_kernel`. `read` (planes,) marks what trees have read, these included.
    """
    new = 1 - float(read[leaves].mean())
    read[leaves] = True
    first = int(leaves.min())
    span = int(leaves.max()) - first + 1
    reach = "far" if span > _NEAR else "new" if new > _NEW and span > _NEAREST else "near"
    ahead = max(_AHEAD[reach].values(), default=0)
    rows = np.pad(leaves - first, ((0, ahead), (0, 0)))
    return rows.astype(np.uint32) if reach == "far" else rows.astype(np.uint16), first, reach


def mask_runs(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """(runs, 4 + M): how many equal rows of `masks` (n, M) follow one another, a u32, and which."""
    begins = np.concatenate([[True], (masks[1:] != masks[:-1]).any(axis=1)])
    first = np.flatnonzero(begins)
    sizes = np.diff(first, append=len(masks)).astype("<u4")
    words = np.where(masks[first], np.uint8(0xFF), np.uint8(0))
    return np.concatenate([sizes[:, None].view(np.uint8), words], axis=1)
