"""Lower the moves of maps from where they are computed to where they are read."""

from __future__ import annotations

from typing import Final

import numpy as np

from lgir.backends.llvm.llvm_text import FunctionWriter
from lgir.backends.llvm.records import INTEGER, POINTER, StepRecord
from lgir.backends.llvm.single_sample.sample_kernels import (
    SampleKernels,
    offset_table,
    row_mask,
    sample_layout,
)
from lgir.backends.llvm.single_sample.steps import MOVED_CELLS, MoveMaps

_MOVE: Final = sample_layout(
    valid=POINTER,
    space=(INTEGER, 3),
    source_pitch=(INTEGER, 2),
    out_pitch=(INTEGER, 2),
)
"""`count` is the channels; a row holds the offset written and the offsets read."""


def lower_move(step: MoveMaps, kernels: SampleKernels) -> StepRecord:
    """Return the record of a move of maps."""
    num_sources, narrow = step.sources.shape[1], step.vectors_per_row == 1
    name = f"move_{step.stride}_{num_sources}{'_narrow' if narrow else ''}"
    shape = step.stride, step.cells_at_once, num_sources, narrow
    return _MOVE.record(
        kernels.use(name, _write_move, *shape),
        count=len(step.out),
        space=step.space,
        source_pitch=step.source_pitch,
        out_pitch=step.out_pitch,
        rows=offset_table(np.concatenate([step.out[:, None], step.sources], axis=1)),
        valid=row_mask(step.space[2], MOVED_CELLS),
    )


def _write_move(
    f: FunctionWriter, stride: int, cells_at_once: int, num_sources: int, narrow: bool
) -> None:
    """OR `num_sources` maps per row of the table, and write every stride-th cell of their rows.

    `valid` is a mask of a row's cells, and the cells behind a row become False. The cells that the
    stride skips are the upper bytes of wider integers, which are truncated. `narrow` says that a
    row of cells takes one vector.
    """
    rows, valid = _MOVE.load(f, "rows"), _MOVE.load(f, "valid")
    space = [_MOVE.load(f, "space", axis) for axis in range(3)]
    pitches = [
        [_MOVE.load(f, name, axis) for name in ("source_pitch", "out_pitch")] for axis in range(2)
    ]
    source_type, cell_type = f"<{cells_at_once} x i{8 * stride}>", f"<{cells_at_once} x i8>"

    def write_cells(out: str, sources: list[str], x: str, source_x: str) -> None:
        value, *others = (f.load(source_type, f.gep(source, source_x), 1) for source in sources)
        for other in others:
            value = f.let(f"or {source_type} {value}, {other}")
        if stride > 1:
            value = f.let(f"trunc {source_type} {value} to {cell_type}")
        mask = f.load(cell_type, f.gep(valid, x), 1)
        f.store(cell_type, f.let(f"and {cell_type} {value}, {mask}"), f.gep(out, x), 1)

    def write_row(out: str, sources: list[str]) -> None:
        if narrow:
            write_cells(out, sources, "0", "0")
        else:
            with f.loop(space[2], step=cells_at_once) as x:
                write_cells(out, sources, x.index, f.let(f"mul i64 {x.index}, {stride}"))

    with f.loop(_MOVE.load(f, "count")) as c:
        row = f.gep(rows, f.let(f"mul i64 {c.index}, {4 * (1 + num_sources)}"))
        out, *sources = (
            f.gep("%planes", f.load_u32(f.gep(row, str(4 * i)))) for i in range(1 + num_sources)
        )
        with f.loop(space[0], ("i64", "0"), ("i64", "0")) as z:
            with f.loop(space[1], *(("i64", offset) for offset in z.carried)) as y:
                source_offset, out_offset = y.carried
                starts = [f.gep(source, source_offset) for source in sources]
                write_row(f.gep(out, out_offset), starts)
                y.next = [
                    f.let(f"add i64 {offset}, {pitch}")
                    for offset, pitch in zip(y.carried, pitches[1], strict=True)
                ]
            z.next = [
                f.let(f"add i64 {offset}, {pitch}")
                for offset, pitch in zip(z.carried, pitches[0], strict=True)
            ]
