"""Write machine code for trees that a convolution evaluates at every position.

With wiring as data, the shifted copies of a tree under a pool load every leaf anew. In machine code
of a tree's own, copies and neighboring positions share registers, operations are immediates, and
most instructions are two gates: half the loads and a third of the instructions. Trees of one shape
differ in registers, offsets and immediates, which are assigned for all of them at once, much as in
copy-and-patch compilation (Xu and Kjolstad, OOPSLA 2021). So a tree takes tens of microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from lgir.backends.llvm.avx512.evex_encoder import LINE, CodeBytes, CodeSequences, Gpr, Ints
from lgir.backends.llvm.avx512.instruction_selection import (
    ACCUMULATOR,
    GateTables,
    Instruction,
    TreeShape,
    gate_tables,
    select_instructions,
    tree_shape,
)
from lgir.backends.llvm.avx512.register_allocation import PositionEmitter
from lgir.backends.llvm.avx512.tree_reads import TreeReads, analyze_tree_reads
from lgir.backends.lowering.steps import ConeStep, Planes

_PLANES: Final = Gpr.RDI
"""Points to the planes: the first argument in the System V calling convention."""
_INPUT_ROW: Final = Gpr.R15
"""Points to the planes as the inputs of a row of positions see them."""
_OUTPUT_ROW: Final = Gpr.R14
"""Points to the planes as the outputs of a row of positions see them."""
_COLUMNS_LEFT, _ROWS_LEFT = Gpr.RCX, Gpr.RBP
_SAVED: Final = (Gpr.RBX, Gpr.RBP, Gpr.R13, Gpr.R14, Gpr.R15)
"""The registers of the callee that are overwritten."""
_MAX_REGISTERS: Final = 16
"""Registers, of 32, that values between a tree's gates may take."""
_BATCH: Final = 4096
"""Trees whose code is written at once."""


@dataclass(frozen=True)
class TreeGeometry:
    """What trees share whose code is written at once; distances are in planes.

    Attributes:
        shape: the shape of the trees.
        rows: the positions along the slower axis.
        columns: the positions along the faster axis.
        in_row: the distance between the reads of successive rows.
        in_column: the distance between the reads of successive columns.
        out_row: the distance between the results of successive rows.
        out_column: the distance between the results of successive columns.
        shifts: the distances of the copies that are ORed.
    """

    shape: TreeShape
    rows: int
    columns: int
    in_row: int
    in_column: int
    out_row: int
    out_column: int
    shifts: tuple[int, ...]

    @property
    def carried_step(self) -> int:
        """The distance from a column to the next one that finds lines in registers.

        It is 0 if rows are so short that this does not pay.
        """
        return self.in_column if self.columns > 2 else 0


def tree_geometry(step: ConeStep) -> TreeGeometry | None:
    """Return the geometry of a step if its trees can have machine code, else None."""
    rows, columns = step.space[1:]
    is_flat = step.space[0] == 1 and rows * columns > 1
    if step.stage is None or not is_flat or "cut" in step.expr.leaves():
        return None
    shape = tree_shape(step.expr)
    if _num_registers(shape) > _MAX_REGISTERS:
        return None
    (_, in_row, in_column), (_, out_row, out_column) = step.in_step, step.out_step
    shifts = tuple(step.shifts.tolist())
    return TreeGeometry(shape, rows, columns, in_row, in_column, out_row, out_column, shifts)


@cache
def _num_registers(shape: TreeShape) -> int:
    """Return how many registers a copy of a tree takes, beside the accumulator."""
    tables = np.zeros((1, _num_gates(shape)), np.uint64)
    copies = [
        select_instructions(shape, tables, 1 + ACCUMULATOR, pooled=pooled)
        for pooled in (False, True)
    ]
    return max(i.target for copy in copies for i in copy) - ACCUMULATOR


def _num_gates(shape: TreeShape) -> int:
    return 1 + sum(map(_num_gates, shape)) if shape else 0


def write_tree_functions(runs: Sequence[Sequence[ConeStep]]) -> list[CodeBytes]:
    """Return a function per run of steps, which evaluates their trees one after another.

    The steps of a run must not depend on each other, and each must have a geometry. A function is
    `void (planes)` in the System V calling convention. It is position-independent.
    """
    by_geometry: dict[TreeGeometry, list[tuple[int, ConeStep]]] = {}
    for number, run in enumerate(runs):
        for step in run:
            geometry = tree_geometry(step)
            assert geometry is not None
            by_geometry.setdefault(geometry, []).append((number, step))
    no_numbers = np.zeros(0, np.int64)
    codes, sizes = [np.zeros(0, np.uint8)], [no_numbers]
    lowest_leaves, run_numbers = [no_numbers], [no_numbers]
    for geometry, steps in by_geometry.items():
        leaves = np.concatenate([step.leaves for _, step in steps])
        out = np.concatenate([step.out for _, step in steps])
        tables = np.concatenate([gate_tables(step.expr, step.masks) for _, step in steps])
        run_numbers += [np.full(len(step.leaves), number) for number, step in steps]
        lowest_leaves.append(leaves.min(axis=1))
        for start in range(0, len(leaves), _BATCH):
            batch = slice(start, start + _BATCH)
            code, size = _write_trees(leaves[batch], tables[batch], out[batch], geometry)
            codes.append(code)
            sizes.append(size)
    code, size = np.concatenate(codes), np.concatenate(sizes)
    run_number = np.concatenate(run_numbers)
    # Trees that are neighbors in the code then tend to read the same channels.
    order = np.lexsort((np.concatenate(lowest_leaves), run_number))
    edges = np.cumsum(np.bincount(run_number, minlength=len(runs)))
    start_of_tree = np.cumsum(size) - size
    functions = []
    for trees in np.split(order, edges)[: len(runs)]:
        tree_size = size[trees]
        start_in_function = np.cumsum(tree_size) - tree_size
        distance = np.repeat(start_of_tree[trees] - start_in_function, tree_size)
        functions.append(_function(code[np.arange(len(distance)) + distance]))
    return functions


def _function(body: CodeBytes) -> CodeBytes:
    """Return `body` between a prologue and an epilogue that save registers."""
    prologue, epilogue = CodeSequences(1), CodeSequences(1)
    for register in _SAVED:
        prologue.push(register)
    for register in reversed(_SAVED):
        epilogue.pop(register)
    epilogue.vzeroupper_ret()
    return np.concatenate([prologue.concatenated(), body, epilogue.concatenated()])


def tree_work(step: ConeStep) -> tuple[int, int]:
    """Return the lines loaded and the vector instructions of a step's trees, at all positions.

    The lines are as many as if there were registers for everything that is read again.
    """
    geometry = tree_geometry(step)
    assert geometry is not None
    copies = _select_copies(gate_tables(step.expr, step.masks[:1]), geometry)
    reads = _reads_of(copies[0], step.leaves, geometry)
    cells, carried = reads.cell.max(axis=1) + 1, reads.is_carried.sum(axis=1)
    loads_per_row = carried + geometry.columns * (cells - carried)
    positions = len(step.leaves) * geometry.rows * geometry.columns
    instructions = sum(i.table is not None for copy in copies for i in copy)
    return int(loads_per_row.sum()) * geometry.rows, positions * instructions


def _select_copies(tables: GateTables, geometry: TreeGeometry) -> list[list[Instruction]]:
    """Return the instructions of each copy.

    If there are enough registers, successive copies have different ones and need not wait for each
    other.
    """
    num_registers = _num_registers(geometry.shape)
    turns = 2 if num_registers <= _MAX_REGISTERS // 2 else 1
    first_free = [
        1 + ACCUMULATOR + copy % turns * num_registers for copy in range(len(geometry.shifts))
    ]
    return [
        select_instructions(geometry.shape, tables, free, pooled=copy > 0)
        for copy, free in enumerate(first_free)
    ]


def _reads_of(copy: list[Instruction], leaves: Planes, geometry: TreeGeometry) -> TreeReads:
    """Return the reads of trees whose copies all read leaves in the order of `copy`."""
    order = [leaf for instruction in copy for leaf in instruction.leaves]
    reads = leaves[:, None, order] + np.array(geometry.shifts)[:, None]
    return analyze_tree_reads(reads.reshape(len(leaves), -1), geometry.carried_step)


def _write_trees(
    leaves: Planes, tables: GateTables, out: Planes, geometry: TreeGeometry
) -> tuple[CodeBytes, Ints]:
    """Return the code of n trees, one after the other, and the size (n,) of each."""
    g = geometry
    copies = _select_copies(tables, g)
    instructions = [instruction for copy in copies for instruction in copy]
    scratch = 1 + max(ACCUMULATOR, *(i.target for i in instructions))
    position = PositionEmitter(_reads_of(copies[0], leaves, g), scratch)
    s = position.sequences
    s.mov(_INPUT_ROW, _PLANES)
    s.mov(_OUTPUT_ROW, _PLANES)
    s.mov_immediate(_ROWS_LEFT, g.rows)
    row_start = s.length.copy()
    position.begin_row(_INPUT_ROW, _OUTPUT_ROW, out)
    if g.columns > 1:
        s.mov_immediate(_COLUMNS_LEFT, g.columns)
        position.load_carried()
    column_start = s.length.copy()
    for instruction in instructions:
        position.emit(instruction)
    position.store()
    if g.columns > 1:
        position.next_position(g.in_column, g.out_column)
        s.dec(_COLUMNS_LEFT)
        s.jnz_back(s.length - column_start)
    s.add(_INPUT_ROW, g.in_row * LINE)
    s.add(_OUTPUT_ROW, g.out_row * LINE)
    s.dec(_ROWS_LEFT)
    s.jnz_back(s.length - row_start)
    return s.concatenated(), s.length
