"""Allocate vector registers for what trees read, while their code for one position is emitted.

This is a linear scan (Poletto and Sarkar, TOPLAS 1999) over the reads of many trees at once. A line
that is read again stays in a register, as long as one is free. A line that the next position reads
as well is moved to the register in which that position expects it. Every other line is an operand
in memory.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lgir.backends.llvm.avx512.evex_encoder import (
    LINE,
    Bools,
    CodeSequences,
    Gpr,
    Ints,
    MemoryOperand,
)
from lgir.backends.llvm.avx512.instruction_selection import ACCUMULATOR, Instruction, Leaf, Operand
from lgir.backends.llvm.avx512.tree_reads import TreeReads
from lgir.ir.truth_tables import swap_inputs

_BASES: Final = (Gpr.RSI, Gpr.RDX, Gpr.R8, Gpr.R9, Gpr.R10, Gpr.R11, Gpr.RBX, Gpr.R13)
"""Registers that point to what a tree reads."""
_OUT: Final = Gpr.RAX
"""The register that points to a tree's result."""
MAX_CARRIED: Final = 12
"""Vector registers that a tree may keep from one position to the next, of 32."""

_DISP8_LINES: Final = 256
"""Lines that an offset of one byte reaches, half of them before its base."""
MAX_PLANES: Final = (1 << 31) // LINE - _DISP8_LINES
"""Planes that offsets of 32 bits reach. Bases are up to half of `_DISP8_LINES` above a read."""
_NUM_REGISTERS: Final = 32
_NONE: Final = -1
"""The number of a register or cell that does not exist, in arrays of them."""


class PositionEmitter:
    """Emits the code of n trees for one position, and allocates registers.

    A read that `TreeReads` calls carried is found in its *home*, a register that is the cell's own
    throughout the loop over positions. Registers up to `scratch` belong to instructions.

    Attributes:
        sequences: the code of the trees.
    """

    def __init__(self, reads: TreeReads, scratch: int) -> None:
        self.reads = reads
        self.scratch = scratch
        n, num_cells = reads.line.shape
        self.sequences = CodeSequences(n)
        self.tree = np.arange(n)
        self.next_read = 0
        self.base, self.base_lines = _choose_bases(reads.line)
        rank = np.cumsum(reads.is_carried, axis=1)
        self.is_carried = reads.is_carried & (rank <= MAX_CARRIED)
        self.home = np.where(self.is_carried, _NUM_REGISTERS - rank, _NONE)
        self.register = self.home.copy()
        # The cell that each cell's line is carried to.
        self.carried_to = np.full((n, num_cells), _NONE)
        tree, cell = np.nonzero(self.is_carried)
        self.carried_to[tree, reads.carried_from[tree, cell]] = cell
        lowest_home = _NUM_REGISTERS - self.is_carried.sum(axis=1)
        # A bit per free register of each tree.
        self.free = (np.left_shift(1, lowest_home) - 1) & ~((2 << scratch) - 1)

    # -- loops -----------------------------------------------------------------------------------

    def begin_row(self, inputs: Gpr, outputs: Gpr, out: Ints) -> None:
        """Point the bases to the first position of the row whose planes `inputs` points to.

        Results go to the planes `out` (n,) behind `outputs`.
        """
        for register, base in zip(_BASES, self.base_lines.T, strict=False):
            self.sequences.lea(register, inputs, base * LINE, base != _NONE)
        self.sequences.lea(_OUT, outputs, out * LINE)

    def load_carried(self) -> None:
        """Load the lines that every position but the first finds in registers."""
        for cell, carried in self._carried_cells():
            cells = np.full(len(carried), cell)
            self.sequences.load(self.register[:, cell], self._memory(cells), carried)

    def store(self) -> None:
        """Store the accumulator, which holds the result."""
        n = self.sequences.n
        self.sequences.store(ACCUMULATOR, MemoryOperand(np.full(n, _OUT), np.zeros(n, np.int64)))

    def next_position(self, step: int, out: int) -> None:
        """Move carried lines to their homes, and the bases `step` and `out` planes further on."""
        # Cells ascend, so a line that is carried twice is moved before its home is overwritten.
        for cell, carried in self._carried_cells():
            carried_from = self.reads.carried_from[:, cell]
            source, home = self.register[self.tree, carried_from], self.home[:, cell]
            self.sequences.move(
                home, source, self._memory(carried_from), carried & (source != home)
            )
        for register, base in zip(_BASES, self.base_lines.T, strict=False):
            self.sequences.add(register, step * LINE, base != _NONE)
        self.sequences.add(_OUT, out * LINE)

    def _carried_cells(self) -> list[tuple[int, Bools]]:
        """Return each cell that some tree carries, with the trees (n,) that do."""
        cells = np.flatnonzero(self.is_carried.any(axis=0)).tolist()
        return [(cell, self.is_carried[:, cell]) for cell in cells]

    # -- instructions ----------------------------------------------------------------------------

    def emit(self, instruction: Instruction) -> None:
        """Emit an instruction with its next reads in registers or memory."""
        s = self.sequences
        first_read = self.next_read
        if instruction.table is None:
            source, cell = self._operand(instruction.third, first_read)
            s.move(np.full(s.n, instruction.target), source, self._memory(cell))
            if isinstance(instruction.third, Leaf):
                self._release(cell)
            return
        second, second_cell = self._operand(instruction.second, first_read)
        third, third_cell = self._operand(instruction.third, first_read)
        # Only the third operand can be in memory.
        both_in_memory = (second < 0) & (third < 0)
        swap = (second < 0) & ~both_in_memory
        if both_in_memory.any():
            scratch = np.full(s.n, self.scratch)
            s.load(scratch, self._memory(second_cell), both_in_memory)
            second = np.where(both_in_memory, self.scratch, second)
        second, third = np.where(swap, third, second), np.where(swap, second, third)
        table = np.where(swap, swap_inputs(instruction.table, 3, 1, 2), instruction.table)
        cell = np.where(swap, second_cell, third_cell)
        s.vpternlog(instruction.target, second, third, table, self._memory(cell))
        for operand, cells in ((instruction.second, second_cell), (instruction.third, third_cell)):
            if isinstance(operand, Leaf):
                self._release(cells)

    def _operand(self, operand: Operand, first_read: int) -> tuple[Ints, Ints]:
        """Return the register (n,) of an operand, negative if it stays in memory, and its cell.

        A cell that is read again is loaded if a register is free. `first_read` is the first read of
        the instruction, whose operands must not be overwritten.
        """
        n, reads = self.sequences.n, self.reads
        if not isinstance(operand, Leaf):
            return np.full(n, operand), np.zeros(n, np.int64)
        cell = reads.cell[:, self.next_read]
        self.next_read += 1
        register = self.register[self.tree, cell]
        absent = register < 0
        carried_to = self.carried_to[self.tree, cell]
        is_carried_on = carried_to >= 0
        # The home of the next position may be free already: it can be loaded there at once.
        home_is_free = absent & is_carried_on
        home_is_free &= reads.last_read[self.tree, carried_to] < first_read
        home_is_free &= self.carried_to[self.tree, carried_to] < 0
        is_read_again = is_carried_on | (reads.last_read[self.tree, cell] >= self.next_read)
        wants_register = absent & ~home_is_free & is_read_again
        lowest_bit = self.free & -self.free
        lowest_free = np.bitwise_count(lowest_bit - 1).astype(np.int64)
        allocated = np.where(wants_register & (lowest_bit > 0), lowest_free, _NONE)
        self.free &= ~np.where(allocated >= 0, lowest_bit, 0)
        loaded = np.where(home_is_free, self.home[self.tree, carried_to], allocated)
        self.sequences.load(loaded, self._memory(cell), loaded >= 0)
        register = np.where(absent, loaded, register)
        self.register[self.tree, cell] = register
        return register, cell

    def _release(self, cell: Ints) -> None:
        """Free the registers of cells that were read for the last time and are not carried."""
        register = self.register[self.tree, cell]
        is_dead = (self.reads.last_read[self.tree, cell] < self.next_read) & (register >= 0)
        is_dead &= ~self.is_carried[self.tree, cell] & (self.carried_to[self.tree, cell] < 0)
        self.free |= np.where(is_dead, np.left_shift(1, np.maximum(register, 0)), 0)
        self.register[self.tree[is_dead], cell[is_dead]] = _NONE

    def _memory(self, cell: Ints) -> MemoryOperand:
        """Return the cells (n,) as operands in memory."""
        base = self.base[self.tree, cell]
        lines = self.reads.line[self.tree, cell] - self.base_lines[self.tree, base]
        return MemoryOperand(np.array(_BASES)[base], lines)


def _choose_bases(line: Ints) -> tuple[Ints, Ints]:
    """Return the base of each line (n, c), and the plane that each base points to, (n, b).

    Bases are chosen so that offsets of one byte reach all lines. If a tree has too few for that,
    one base reaches all lines by offsets of four bytes. Bases that a tree lacks point to -1.
    """
    n, num_cells = line.shape
    base, base_lines = np.zeros((n, num_cells), np.int64), np.full((n, len(_BASES)), _NONE)
    lowest, number = line[:, 0].copy(), np.zeros(n, np.int64)
    tree = np.arange(n)
    base_lines[:, 0] = lowest + _DISP8_LINES // 2
    for cell in range(1, num_cells):
        out_of_reach = line[:, cell] >= lowest + _DISP8_LINES
        lowest = np.where(out_of_reach, line[:, cell], lowest)
        number += out_of_reach
        enough = number < len(_BASES)
        base_lines[tree[enough], number[enough]] = lowest[enough] + _DISP8_LINES // 2
        base[:, cell] = number
    too_many = number >= len(_BASES)
    base[too_many], base_lines[too_many, 0], base_lines[too_many, 1:] = 0, 0, _NONE
    return base, base_lines[:, : int(base.max()) + 1]
