"""Code of their own for trees that a convolution evaluates at every position.

With wiring as data, the shifted copies of a tree under a pool load every leaf anew. In code of a
tree's own, copies and neighbouring positions share registers, operations are immediates and two
gates are one `vpternlog`: half the loads and a third of the instructions. Trees of one shape differ
in registers, offsets and immediates, which are assigned and patched for all of them at once, so
that this costs tens of microseconds a tree, much as in copy-and-patch (Xu and Kjolstad, OOPSLA
2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from lgir.backends.llvm.avx512.evex import LINE, Bytes, Gpr, Sequences
from lgir.backends.llvm.avx512.operand_windows import OperandWindows, find_operand_windows
from lgir.backends.llvm.avx512.registers import PositionCode
from lgir.backends.llvm.avx512.selection import (
    ACCUMULATOR,
    Instruction,
    Shape,
    Tables,
    gate_tables,
    select,
    shape_of,
)
from lgir.backends.lowering.cones import Ints
from lgir.backends.lowering.steps import ConeStep, Planes

_PLANES, _ROW, _OUT_ROW = Gpr.RDI, Gpr.R15, Gpr.R14
"""All planes, and these as inputs and outputs of a row of positions see them."""
_POSITIONS, _ROWS = Gpr.RCX, Gpr.RBP
"""Those to go."""
_SAVED: Final = (Gpr.RBX, Gpr.RBP, Gpr.R13, Gpr.R14, Gpr.R15)
_MOST_REGISTERS: Final = 16
"""For values between a tree's gates, of 32."""
_AT_ONCE: Final = 4096
"""Trees whose code is made together."""
_NONE: Final = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Geometry:
    """What trees share whose code is made together: their shape; positions, `rows` of `columns`,
    with planes from one to the next in inputs and outputs along both axes; and planes to add for
    each of the copies that are ORed.
    """

    shape: Shape
    rows: int
    columns: int
    in_row: int
    in_column: int
    out_row: int
    out_column: int
    shifts: tuple[int, ...]

    @property
    def kept(self) -> int:
        """Planes to the cells that stay in registers from a position of a row to the next: 0 where
        that does not pay.
        """
        return self.in_column if self.columns > 2 else 0


def geometry_of(step: ConeStep) -> Geometry | None:
    """The geometry of a step whose trees can have code of their own; None for others."""
    rows, columns = step.space[1:]
    flat = step.space[0] == 1 and rows * columns > 1
    if step.stage is None or not flat or "cut" in step.expr.leaves():
        return None
    shape = shape_of(step.expr)
    if _registers(shape) > _MOST_REGISTERS:
        return None
    (_, in_row, in_column), (_, out_row, out_column) = step.in_step, step.out_step
    shifts = tuple(step.shifts.tolist())
    return Geometry(shape, rows, columns, in_row, in_column, out_row, out_column, shifts)


@cache
def _registers(shape: Shape) -> int:
    """Registers that a copy of a tree takes, beside the accumulator."""
    tables = np.zeros((1, _gates(shape)), np.uint64)
    copies = [select(shape, tables, 1 + ACCUMULATOR, pooled=pooled) for pooled in (False, True)]
    return max(i.target for copy in copies for i in copy) - ACCUMULATOR


def _gates(shape: Shape) -> int:
    return 1 + sum(map(_gates, shape)) if shape else 0


def tree_functions(runs: Sequence[Sequence[ConeStep]]) -> list[Bytes]:
    """For each run of steps, which must not depend on each other, a function `void (planes)`,
    position-independent, in the System V convention, that evaluates their trees one after another.
    """
    alike: dict[Geometry, list[tuple[int, ConeStep]]] = {}  # of whatever run
    for number, run in enumerate(runs):
        for step in run:
            geometry = geometry_of(step)
            assert geometry is not None
            alike.setdefault(geometry, []).append((number, step))
    parts, sizes = [np.zeros(0, np.uint8)], [_NONE]
    keys, owners = [_NONE], [_NONE]
    for geometry, steps in alike.items():
        leaves = np.concatenate([step.leaves for _, step in steps])
        out = np.concatenate([step.out for _, step in steps])
        tables = np.concatenate([gate_tables(step.expr, step.masks) for _, step in steps])
        owners += [np.full(len(step.leaves), number) for number, step in steps]
        keys.append(leaves.min(axis=1))
        for i in range(0, len(leaves), _AT_ONCE):
            j = i + _AT_ONCE
            code, size = _evaluation(leaves[i:j], tables[i:j], out[i:j], geometry)
            parts.append(code)
            sizes.append(size)
    code, size, owner = np.concatenate(parts), np.concatenate(sizes), np.concatenate(owners)
    start = np.cumsum(size) - size
    # Neighbours in the code then tend to read the same channels.
    order = np.lexsort((np.concatenate(keys), owner))
    edges = np.cumsum(np.bincount(owner, minlength=len(runs)))
    functions = []
    for mine in np.split(order, edges)[: len(runs)]:
        own = size[mine]
        offset = np.repeat(start[mine] - np.cumsum(own) + own, own)
        functions.append(_function(code[np.arange(len(offset)) + offset]))
    return functions


def _function(trees: Bytes) -> Bytes:
    head, tail = Sequences(1), Sequences(1)
    for register in _SAVED:
        head.push(register)
    for register in reversed(_SAVED):
        tail.pop(register)
    tail.leave()
    return np.concatenate([head.finish(), trees, tail.finish()])


def tree_work(step: ConeStep) -> tuple[int, int]:
    """Lines loaded and vector instructions of a step's trees, of all positions, if there are
    registers for everything that is read again.
    """
    g = geometry_of(step)
    assert g is not None
    copies = _select(gate_tables(step.expr, step.masks[:1]), g)
    windows = _windows(copies[0], step.leaves, g)
    cells, kept = windows.cell.max(axis=1) + 1, windows.early.sum(axis=1)
    loads = int((kept + g.columns * (cells - kept)).sum()) * g.rows
    positions = len(step.leaves) * g.rows * g.columns
    logic = sum(i.table is not None for copy in copies for i in copy)
    return loads, positions * logic


def _select(tables: Tables, geometry: Geometry) -> list[list[Instruction]]:
    """The instructions of each copy. Neighbouring ones have registers of their own where there are
    enough, and so need not wait for each other.
    """
    registers = _registers(geometry.shape)
    turns = 2 if registers <= _MOST_REGISTERS // 2 else 1
    return [
        select(geometry.shape, tables, 1 + ACCUMULATOR + copy % turns * registers, pooled=copy > 0)
        for copy in range(len(geometry.shifts))
    ]


def _windows(copy: list[Instruction], leaves: Planes, geometry: Geometry) -> OperandWindows:
    """What trees read that have copies such as `copy`."""
    order = [-1 - x for i in copy for x in (i.second, i.third) if x < 0]
    reads = leaves[:, None, order] + np.array(geometry.shifts)[:, None]
    return find_operand_windows(reads.reshape(len(leaves), -1), geometry.kept)


def _evaluation(
    leaves: Planes, tables: Tables, out: Planes, geometry: Geometry
) -> tuple[Bytes, Ints]:
    """The code of n trees, and how long each is, (n,)."""
    g = geometry
    copies = _select(tables, g)
    instructions = [instruction for copy in copies for instruction in copy]
    scratch = 1 + max(ACCUMULATOR, *(i.target for i in instructions))
    trees = PositionCode(_windows(copies[0], leaves, g), scratch)
    s = trees.sequences
    s.copy(_ROW, _PLANES)
    s.copy(_OUT_ROW, _PLANES)
    s.set(_ROWS, g.rows)
    row = s.length.copy()
    trees.begin(_ROW, _OUT_ROW, out)
    if g.columns > 1:
        s.set(_POSITIONS, g.columns)
        trees.load_early()
    position = s.length.copy()
    for instruction in instructions:
        trees.emit(instruction)
    trees.store()
    if g.columns > 1:
        trees.move_on(g.in_column, g.out_column)
        s.count_down(_POSITIONS)
        s.jump(back=s.length - position)
    s.add(_ROW, g.in_row * LINE)
    s.add(_OUT_ROW, g.out_row * LINE)
    s.count_down(_ROWS)
    s.jump(back=s.length - row)
    return s.finish(), s.length
