"""Lower the evaluation of perfect trees: over the cells of maps, or over the trees of a layer."""

from __future__ import annotations

from typing import Final

import numpy as np

from lgir.backends.llvm.llvm_text import PLANE, FunctionWriter
from lgir.backends.llvm.records import INTEGER, StepRecord
from lgir.backends.llvm.single_sample.perfect_trees import PerfectTreeTemplate
from lgir.backends.llvm.single_sample.plan import by_vector
from lgir.backends.llvm.single_sample.sample_kernels import (
    SampleKernels,
    offset_table,
    sample_layout,
)
from lgir.backends.llvm.single_sample.steps import LANES, POSITIONS, DenseTrees, MapTrees

_DWORDS: Final = f"<{POSITIONS // 4} x i32>"
"""The type of POSITIONS cells."""

_MAP_TREES: Final = sample_layout(vectors=INTEGER)
"""`count` is the trees; a row holds the leaves' offsets, the result's offset, and the masks."""
_DENSE_TREES: Final = sample_layout(leaves=INTEGER)
"""`count` is the vectors of trees, and `rows` their masks."""


def lower_map_trees(step: MapTrees, kernels: SampleKernels) -> StepRecord:
    """Return the record of trees over the cells of maps."""
    template = step.template
    masks = np.where(step.masks, np.uint32(0xFFFF_FFFF), np.uint32(0))
    words = [offset_table(step.leaves), offset_table(step.out[:, None]), masks]
    return _MAP_TREES.record(
        kernels.use(f"maps_{template.name}", _write_map_trees, template),
        count=len(step.out),
        vectors=step.vectors,
        rows=np.concatenate(words, axis=1),
    )


def lower_dense_trees(step: DenseTrees, kernels: SampleKernels) -> StepRecord:
    """Return the record of trees of a dense layer."""
    template = step.template
    return _DENSE_TREES.record(
        kernels.use(f"rows_{template.name}", _write_dense_trees, template),
        count=step.vectors,
        leaves=step.leaves,
        out=step.out,
        rows=by_vector(-step.masks.astype(np.int8)),
    )


def _write_map_trees(f: FunctionWriter, template: PerfectTreeTemplate) -> None:
    """Evaluate each row's tree at `vectors` vectors of POSITIONS cells."""
    count, vectors = _MAP_TREES.load(f, "count"), _MAP_TREES.load(f, "vectors")
    rows = _MAP_TREES.load(f, "rows")
    cells = f.let(f"mul i64 {vectors}, {POSITIONS}")
    num_leaves = template.num_leaves
    num_words = num_leaves + 1 + template.num_masks
    with f.loop(count) as i:
        row = f.gep(rows, f.let(f"mul i64 {i.index}, {4 * num_words}"))
        words = [f.gep(row, str(4 * word)) for word in range(num_words)]
        *leaves, out = (f.gep("%planes", f.load_u32(word)) for word in words[: num_leaves + 1])
        masks = [_write_splat(f, f.load("i32", word, 4)) for word in words[num_leaves + 1 :]]
        with f.loop(cells, step=POSITIONS) as x:
            operands = [f.load(_DWORDS, f.gep(leaf, x.index), 1) for leaf in leaves]
            value = _write_tree(f, template, _DWORDS, operands, masks)
            f.store(_DWORDS, value, f.gep(out, x.index), 1)


def _write_dense_trees(f: FunctionWriter, template: PerfectTreeTemplate) -> None:
    """Evaluate `count` vectors of trees, from the bits at `leaves` to `out`.

    The leaves of one vector follow each other, and so do its masks in `rows`.
    """
    count, masks = _DENSE_TREES.load(f, "count"), _DENSE_TREES.load(f, "rows")
    leaves = f.gep("%planes", _DENSE_TREES.load(f, "leaves"))
    out = f.gep("%planes", _DENSE_TREES.load(f, "out"))
    with f.loop(count) as i:
        leaf = f.gep(leaves, f.let(f"mul i64 {i.index}, {LANES * template.num_leaves}"))
        mask = f.gep(masks, f.let(f"mul i64 {i.index}, {LANES * template.num_masks}"))
        value = _write_tree(
            f,
            template,
            PLANE,
            [f.load(PLANE, f.gep(leaf, str(LANES * j)), 1) for j in range(template.num_leaves)],
            [f.load(PLANE, f.gep(mask, str(LANES * j)), 1) for j in range(template.num_masks)],
        )
        f.store(PLANE, value, f.gep(out, f.let(f"mul i64 {i.index}, {LANES}")), 1)


def _write_tree(
    f: FunctionWriter, template: PerfectTreeTemplate, kind: str, leaves: list[str], masks: list[str]
) -> str:
    """Write the value of a tree of vectors of type `kind`; see `PerfectTrees` for the masks.

    The text is plain logic, which LLVM selects three-input instructions for.
    """

    def op(name: str, a: str, b: str) -> str:
        return f.let(f"{name} {kind} {a}, {b}")

    if not template.height:
        layer = masks
        for x in reversed(leaves):
            pairs = zip(layer[::2], layer[1::2], strict=True)
            layer = [op("xor", zero, op("and", x, op("xor", zero, one))) for zero, one in pairs]
        return layer[0]
    next_mask, values = iter(masks), leaves
    while len(values) > 1:
        pairs, values = zip(values[::2], values[1::2], strict=True), []
        for x, y in pairs:
            b, a, ab = next(next_mask), next(next_mask), next(next_mask)
            value = op("and", x, op("xor", a, op("and", y, ab)))
            values.append(op("xor", value, op("and", y, b)))
    return op("xor", values[0], next(next_mask))


def _write_splat(f: FunctionWriter, word: str) -> str:
    """Write a vector of copies of an i32."""
    one = f.let(f"insertelement {_DWORDS} poison, i32 {word}, i64 0")
    return f.let(f"shufflevector {_DWORDS} {one}, {_DWORDS} poison, <8 x i32> zeroinitializer")
