"""Forests: trees that are evaluated once each, with rows of leaves in runs of equal masks.

Memory is the bottleneck: leaves are spread over the second-level cache and beyond it, and each row
is read once per block, from further away still. So rows are small: two bytes per leaf if planes are
near each other, and none for results, which follow one another. What is far is prefetched.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.llvm_text import PLANE_BYTES, FunctionWriter
from lgir.backends.llvm.records import INTEGER, KERNEL_PARAMS, POINTER, RecordLayout, StepRecord
from lgir.backends.llvm.steps.step_kind import ProgramContext
from lgir.backends.llvm.steps.tree_text import evaluate_tree
from lgir.backends.lowering.cones import ConeExpr
from lgir.backends.lowering.steps import ConeStep, Planes

RECORD: Final = RecordLayout(rows=POINTER, count=INTEGER, masks=POINTER, base=INTEGER, out=INTEGER)
_U16_PLANES: Final = 1 << 16
"""Planes that two bytes can tell apart: 4 MiB."""
_L2_PLANES: Final = 1 << 14
"""Planes that a second-level cache may hold: 1 MiB."""
_NEW_SHARE: Final = 0.02
"""Share of leaves that no tree has read before, above which these are the bottleneck."""
_PREFETCHES: Final[dict[str, dict[int, int]]] = {
    "near": {},
    "new": {2: 24},
    "far": {2: 24, 1: 2},
}
"""By reach, the trees between the prefetch of leaves and their use, by the level of the cache they
come to: the second-level cache can wait for more lines at once than the first.
"""
_TABLE_PREFETCH_BYTES: Final = 512
"""Bytes of tables between their prefetch and their use."""
_PLANE_SHIFT: Final = PLANE_BYTES.bit_length() - 1

LeafRows = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


def forest_record(step: ConeStep, program: ProgramContext) -> StepRecord:
    """Return the record of a step whose trees are evaluated once and have adjacent results."""
    rows, first, reach = leaf_rows(step.leaves, program.read_by_trees)
    name = f'"{reach} tree {step.expr}"'
    kernel = program.kernels.use(name, forest_kernel, step.expr, reach)
    runs = mask_runs(step.masks)
    return RECORD.record(
        kernel,
        rows=rows,
        count=len(runs),
        masks=runs,
        base=first * PLANE_BYTES,
        out=int(step.out[0]) * PLANE_BYTES,
    )


def forest_kernel(name: str, expr: ConeExpr, reach: str, *, ternary: bool) -> str:
    """Write the kernel of `count` runs of trees.

    For each run, `masks` holds the number of its trees, a u32, and one byte per mask; `rows` holds
    one row per tree: the planes of its leaves, counted from the offset `base`. Results go to planes
    that follow one another, from the offset `out`.

    If `reach` is "near", leaves are u16, and the caches hold them close enough for the processor to
    run ahead by itself. "new" leaves are u16 and come from further away; "far" ones are u32. Both
    are prefetched, for which the table of rows goes on past its end.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    kinds, masks = expr.leaves(), expr.num_masks() + 1
    word, prefetches = 4 if reach == "far" else 2, _PREFETCHES[reach]
    row_bytes, run_bytes = word * len(kinds), 4 + masks
    rows_ahead = max(prefetches.values(), default=0) * row_bytes + _TABLE_PREFETCH_BYTES
    runs, count = RECORD.load(f, "masks"), RECORD.load(f, "count")
    base = f.gep("%planes", RECORD.load(f, "base"))
    first = RECORD.load(f, "rows")
    out = f.gep("%planes", RECORD.load(f, "out"))

    def leaf(row: str, i: int) -> str:
        plane = f.load(f"i{8 * word}", f.gep(row, str(word * i)), word)
        plane = f.let(f"zext i{8 * word} {plane} to i64")
        return f.gep(base, f.let(f"shl i64 {plane}, {_PLANE_SHIFT}"))

    with f.loop(count, ("ptr", first), ("ptr", out)) as outer:
        run = f.gep(runs, f.let(f"mul i64 {outer.index}, {run_bytes}"))
        f.prefetch(f.gep(run, str(_TABLE_PREFETCH_BYTES)))
        trees = f.let(f"zext i32 {f.load('i32', run, 1)} to i64")
        words = [f.load("i8", f.gep(run, str(4 + i)), 1) for i in range(masks)]
        mask = [f.broadcast(w, "i8") for w in words]
        rows, results = outer.carried
        with f.loop(trees) as loop:
            row = f.gep(rows, f.let(f"mul i64 {loop.index}, {row_bytes}"))
            f.prefetch(f.gep(row, str(rows_ahead)))
            for level, trees_ahead in prefetches.items():
                later = f.gep(row, str(trees_ahead * row_bytes))
                for i in range(len(kinds)):
                    f.prefetch(leaf(later, i), level)
            leaves = [(kind, leaf(row, i)) for i, kind in enumerate(kinds)]
            value = evaluate_tree(f, expr, leaves, list(mask), {"tap": "0", "cut": "0"})
            result = f.let(f"mul i64 {loop.index}, {PLANE_BYTES}")
            f.store_plane(f.op("xor", value, mask[-1]), results, result)
        outer.next = [
            f.gep(rows, f.let(f"mul i64 {trees}, {row_bytes}")),
            f.gep(results, f.let(f"mul i64 {trees}, {PLANE_BYTES}")),
        ]
    f.emit("ret void")
    return f.text()


def leaf_rows(leaves: Planes, read: npt.NDArray[np.bool_]) -> tuple[LeafRows, int, str]:
    """Return the table of rows, the plane that they count from, and the reach of their leaves.

    Args:
        leaves: (trees, leaves) planes.
        read: (planes,) the planes that trees have read before; these trees are added.

    Returns:
        Rows (trees + prefetched ones, leaves), and the reach as in `forest_kernel`.
    """
    new = 1 - float(read[leaves].mean())
    read[leaves] = True
    first = int(leaves.min())
    span = int(leaves.max()) - first + 1
    if span > _U16_PLANES:
        reach = "far"
    else:
        reach = "new" if new > _NEW_SHARE and span > _L2_PLANES else "near"
    prefetched = max(_PREFETCHES[reach].values(), default=0)
    rows = np.pad(leaves - first, ((0, prefetched), (0, 0)))
    return rows.astype(np.uint32) if reach == "far" else rows.astype(np.uint16), first, reach


def mask_runs(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return runs of equal rows of `masks` (trees, masks), as bytes (runs, 4 + masks).

    A run is the number of its rows, a little-endian u32, and the masks as 0 or 0xFF.
    """
    begins = np.concatenate([[True], (masks[1:] != masks[:-1]).any(axis=1)])
    first = np.flatnonzero(begins)
    sizes = np.diff(first, append=len(masks)).astype("<u4")
    words = np.where(masks[first], np.uint8(0xFF), np.uint8(0))
    return np.concatenate([sizes[:, None].view(np.uint8), words], axis=1)
