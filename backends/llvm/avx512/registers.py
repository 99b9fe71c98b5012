"""Registers: which hold what a tree reads, while its code for one position is written.

A linear scan (Poletto and Sarkar, TOPLAS 1999) over the reads of many trees at once. A line that is
read again stays in a register, as long as there are any; one that the next position reads as well
is moved to where that looks for it. All else is an operand in memory.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lgir.backends.llvm.avx512.evex import LINE, Gpr, Memory, Sequences
from lgir.backends.llvm.avx512.operand_windows import OperandWindows
from lgir.backends.llvm.avx512.selection import ACCUMULATOR, Instruction
from lgir.backends.lowering.cones import Ints
from lgir.backends.lowering.steps import Planes
from lgir.ir.truth_tables import swap_inputs

BASES: Final = (Gpr.RSI, Gpr.RDX, Gpr.R8, Gpr.R9, Gpr.R10, Gpr.R11, Gpr.RBX, Gpr.R13)
OUT: Final = Gpr.RAX
"""Registers that point to what a tree reads and writes."""
MOST_KEPT: Final = 12
"""Vector registers that a tree may keep from one position to the next, of 32."""

_NEAR: Final = 256
"""Lines that an offset of one byte reaches, half of them before its base."""
MOST_PLANES: Final = (1 << 31) // LINE - _NEAR
"""Planes that offsets of 32 bits reach, bases being up to half of `_NEAR` above what is read."""
_REGISTERS: Final = 32


class PositionCode:
    """Code of n trees for one position, under construction. Registers up to `scratch` are taken by
    instructions.
    """

    def __init__(self, windows: OperandWindows, scratch: int) -> None:
        self.windows = windows
        self.scratch = scratch
        n, cells = windows.line.shape
        self.sequences = Sequences(n)
        self.tree = np.arange(n)
        self.read = 0
        self.base, self.bases = _bases(windows.line)
        rank = np.cumsum(windows.early, axis=1)
        self.early = windows.early & (rank <= MOST_KEPT)
        self.home = np.where(self.early, _REGISTERS - rank, -1)
        self.register = self.home.copy()
        # The early cell whose home a late cell is moved to, -1 for cells that are not late.
        self.follows = np.full((n, cells), -1)
        tree, cell = np.nonzero(self.early)
        self.follows[tree, windows.late[tree, cell]] = cell
        most = _REGISTERS - self.early.sum(axis=1)
        self.free = (np.left_shift(1, most) - 1) & ~((2 << scratch) - 1)

    def begin(self, inputs: Gpr, outputs: Gpr, out: Planes) -> None:
        """At the first position of the row whose planes these registers point to, with the trees'
        results at the planes `out` (n,).
        """
        for i, register in enumerate(BASES[: self.bases.shape[1]]):
            base = self.bases[:, i]
            self.sequences.lea(register, inputs, base * LINE, base >= 0)
        self.sequences.lea(OUT, outputs, out * LINE)

    def load_early(self) -> None:
        """Loads what positions but the first find in registers."""
        for cell in np.flatnonzero(self.early.any(axis=0)):
            where = self.early[:, cell]
            cells = np.full(len(where), cell)
            self.sequences.load(self.register[:, cell], self._memory(cells), where)

    def store(self) -> None:
        n = self.sequences.n
        self.sequences.store(ACCUMULATOR, Memory(np.full(n, OUT), np.zeros(n, np.int64)))

    def move_on(self, step: int, out: int) -> None:
        """To the next position, with late cells where it looks for early ones."""
        # In ascending order, so that a cell that is both has moved on before it is replaced.
        for cell in np.flatnonzero(self.early.any(axis=0)):
            late = self.windows.late[:, cell]
            source, home = self.register[self.tree, late], self.home[:, cell]
            where = self.early[:, cell] & (source != home)
            self.sequences.move(home, source, self._memory(late), where)
        for i, register in enumerate(BASES[: self.bases.shape[1]]):
            self.sequences.add(register, step * LINE, self.bases[:, i] >= 0)
        self.sequences.add(OUT, out * LINE)

    def emit(self, instruction: Instruction) -> None:
        s = self.sequences
        begin = self.read
        if instruction.table is None:
            source, cell = self._operand(instruction.third, begin)
            s.move(np.full(s.n, instruction.target), source, self._memory(cell))
            if instruction.third < 0:
                self._release(cell)
            return
        second, second_cell = self._operand(instruction.second, begin)
        third, third_cell = self._operand(instruction.third, begin)
        # One operand can be in memory, the third.
        both = (second < 0) & (third < 0)
        swap = (second < 0) & ~both
        if both.any():
            s.load(np.full(s.n, self.scratch), self._memory(second_cell), both)
            second = np.where(both, self.scratch, second)
        second, third = np.where(swap, third, second), np.where(swap, second, third)
        table = np.where(swap, swap_inputs(instruction.table, 3, 1, 2), instruction.table)
        cell = np.where(swap, second_cell, third_cell)
        s.ternary(instruction.target, second, third, table, self._memory(cell))
        for operand, cells in ((instruction.second, second_cell), (instruction.third, third_cell)):
            if operand < 0:
                self._release(cells)

    def _operand(self, operand: int, begin: int) -> tuple[Ints, Ints]:
        """The register of an operand, -1 where it stays in memory, and its cell. Cells that are
        read again are loaded, as long as there are registers. The instruction's reads are those
        from `begin` on.
        """
        n, w = self.sequences.n, self.windows
        if operand >= 0:
            return np.full(n, operand), np.zeros(n, np.int64)
        cell = w.cell[:, self.read]
        self.read += 1
        register = self.register[self.tree, cell]
        absent = register < 0
        follows = self.follows[self.tree, cell]
        late = follows >= 0
        vacant = absent & late & (w.last[self.tree, follows] < begin)
        vacant &= self.follows[self.tree, follows] < 0
        again = absent & ~vacant & (late | (w.last[self.tree, cell] >= self.read))
        lowest = self.free & -self.free
        number = np.bitwise_count(lowest - 1).astype(np.int64)
        fresh = np.where(again & (lowest > 0), number, -1)
        self.free &= ~np.where(fresh >= 0, lowest, 0)
        loaded = np.where(vacant, self.home[self.tree, follows], fresh)
        self.sequences.load(loaded, self._memory(cell), loaded >= 0)
        register = np.where(absent, loaded, register)
        self.register[self.tree, cell] = register
        return register, cell

    def _release(self, cell: Ints) -> None:
        """Frees the registers of cells that were read for the last time, but for early and late
        ones.
        """
        register = self.register[self.tree, cell]
        done = (self.windows.last[self.tree, cell] < self.read) & (register >= 0)
        done &= ~self.early[self.tree, cell] & (self.follows[self.tree, cell] < 0)
        self.free |= np.where(done, np.left_shift(1, np.maximum(register, 0)), 0)
        self.register[self.tree[done], cell[done]] = -1

    def _memory(self, cell: Ints) -> Memory:
        base = self.base[self.tree, cell]
        lines = self.windows.line[self.tree, cell] - self.bases[self.tree, base]
        return Memory(np.array(BASES)[base], lines)


def _bases(line: Ints) -> tuple[Ints, Ints]:
    """The base register that reaches each line (n, c), and where these point (n, b), -1 for those
    that a tree lacks. Where there are too few, one base reaches all by longer offsets.
    """
    n, cells = line.shape
    base, bases = np.zeros((n, cells), np.int64), np.full((n, len(BASES)), -1)
    lowest, number = line[:, 0].copy(), np.zeros(n, np.int64)
    tree = np.arange(n)
    bases[:, 0] = lowest + _NEAR // 2
    for i in range(1, cells):
        beyond = line[:, i] >= lowest + _NEAR
        lowest = np.where(beyond, line[:, i], lowest)
        number += beyond
        enough = number < len(BASES)
        bases[tree[enough], number[enough]] = lowest[enough] + _NEAR // 2
        base[:, i] = number
    many = number >= len(BASES)
    base[many], bases[many, 0], bases[many, 1:] = 0, 0, -1
    return base, bases[:, : int(base.max()) + 1]
