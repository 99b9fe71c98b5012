"""Encode AVX-512 instructions of many code sequences side by side.

The sequences have one shape and differ in registers, offsets and immediates only. So each
instruction is encoded for all sequences at once, as columns of bytes, of which a sequence may leave
some out. Vector instructions have an EVEX prefix, whose fields are described in Intel's Software
Developer's Manual, volume 2, section 2.7; opcodes are in its chapters 3 to 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
CodeBytes = npt.NDArray[np.uint8]

LINE: Final = 64
"""Bytes of a 512-bit register and of a cache line."""

_JNZ_BYTES: Final = 6


class Gpr(IntEnum):
    """The general-purpose registers that may be a base without an SIB byte: all but RSP and R12."""

    RAX = 0
    RCX = 1
    RDX = 2
    RBX = 3
    RBP = 5
    RSI = 6
    RDI = 7
    R8 = 8
    R9 = 9
    R10 = 10
    R11 = 11
    R13 = 13
    R14 = 14
    R15 = 15


@dataclass(frozen=True)
class MemoryOperand:
    """The line of memory that each of n sequences reads or writes.

    Attributes:
        base: (n,) the base register, a `Gpr`.
        lines: (n,) the offset from the base in lines.
    """

    base: Ints
    lines: Ints


class CodeSequences:
    """`n` code sequences under construction.

    Methods append one instruction to every sequence. With `where` (n,), it is appended to the
    sequences for which that is True. Vector registers are numbers from 0 to 31, (n,) of them, one
    per sequence; general-purpose registers and plain numbers are the same in all sequences.

    Attributes:
        n: the number of sequences.
        length: (n,) the bytes of each sequence so far.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.length = np.zeros(n, np.int64)
        self._columns: list[CodeBytes] = []
        self._kept: list[Bools] = []

    def concatenated(self) -> CodeBytes:
        """Return the bytes of the sequences, one sequence after the other."""
        if not self._columns:
            return np.zeros(0, np.uint8)
        code = np.concatenate(self._columns, axis=1)
        return code[np.concatenate(self._kept, axis=1)]

    def _append(self, columns: list[Ints | int], where: Bools | None = None) -> None:
        """Append bytes, given by column, to the sequences of `where`."""
        self._append_columns([(column, where) for column in columns])

    def _append_columns(self, columns: list[tuple[Ints | int, Bools | None]]) -> None:
        """Append bytes, given by column, each with the sequences that it is appended to."""
        code = np.empty((self.n, len(columns)), np.uint8)
        kept = np.ones((self.n, len(columns)), bool)
        for i, (column, where) in enumerate(columns):
            code[:, i] = np.asarray(column) & 0xFF
            if where is not None:
                kept[:, i] = where
        self._columns.append(code)
        self._kept.append(kept)
        self.length += kept.sum(axis=1)

    # -- vector instructions ---------------------------------------------------------------------

    def load(self, target: Ints, source: MemoryOperand, where: Bools | None = None) -> None:
        """Append `vmovdqa32 target, [source]`."""
        self._vector(0x6F, 1, target, None, source, where=where)

    def move(
        self, target: Ints, source: Ints, memory: MemoryOperand, where: Bools | None = None
    ) -> None:
        """Append `vmovdqa32 target, source`; a negative source register stands for `memory`."""
        self._vector(0x6F, 1, target, None, memory, register=source, where=where)

    def store(self, source: int, target: MemoryOperand) -> None:
        """Append `vmovdqa32 [target], source`."""
        self._vector(0x7F, 1, np.full(self.n, source), None, target)

    def vpternlog(
        self,
        target: int,
        second: Ints,
        third: Ints,
        table: Ints,
        memory: MemoryOperand | None = None,
    ) -> None:
        """Append `vpternlogd target, second, third, table`; a negative `third` is `memory`.

        Bit `target << 2 | second << 1 | third` of `table` is the new value of `target`.
        """
        targets = np.full(self.n, target)
        self._vector(0x25, 3, targets, second, memory, register=third, immediate=table)

    def _vector(
        self,
        opcode: int,
        opcode_map: int,
        reg: Ints,
        second: Ints | None,
        memory: MemoryOperand | None,
        *,
        register: Ints | None = None,
        immediate: Ints | None = None,
        where: Bools | None = None,
    ) -> None:
        """Append an EVEX instruction on 512-bit registers of 32-bit lanes, without a write mask.

        Args:
            opcode_map: the field mmm: 1 for 0F, 3 for 0F3A.
            reg: the register of ModRM.reg, extended by the bits R and R'.
            second: the register of the field vvvv, extended by V'.
            memory: the operand of ModRM.rm for sequences whose `register` is negative or missing.
            register: the register of ModRM.rm, extended by the bits X and B.
            immediate: a byte behind the operands.
        """
        zeros = np.zeros(self.n, np.int64)
        in_memory = np.ones(self.n, bool) if register is None else register < 0
        base, lines = (memory.base, memory.lines) if memory is not None else (zeros, zeros)
        rm = base if register is None else np.where(in_memory, base, register)
        vvvv = zeros if second is None else second
        # An offset of one byte is in units of the operand's size (disp8*N).
        is_near = (lines >= -128) & (lines < 128)
        extensions = (reg >> 3 & 1) << 7 | (rm >> 4 & 1) << 6 | (rm >> 3 & 1) << 5
        extensions |= (reg >> 4 & 1) << 4
        mode = np.where(in_memory, np.where(is_near, 0b01, 0b10), 0b11)
        offset = lines * LINE
        appended = np.ones(self.n, bool) if where is None else where
        columns: list[tuple[Ints | int, Bools | None]] = [
            (0x62, where),
            (extensions ^ 0xF0 | opcode_map, where),
            ((vvvv & 15 ^ 15) << 3 | 0b101, where),
            (0x40 | (vvvv >> 4 & 1 ^ 1) << 3, where),
            (opcode, where),
            (mode << 6 | (reg & 7) << 3 | rm & 7, where),
        ]
        if in_memory.any():
            columns.append((np.where(is_near, lines, offset), appended & in_memory))
            if not is_near.all():
                far = appended & in_memory & ~is_near
                columns += [(offset >> shift, far) for shift in (8, 16, 24)]
        if immediate is not None:
            columns.append((immediate, where))
        self._append_columns(columns)

    # -- scalar instructions ---------------------------------------------------------------------

    def lea(self, target: Gpr, base: Gpr, offset: Ints, where: Bools | None = None) -> None:
        """Append `lea target, [base + offset]`, with an offset of 32 bits, in bytes."""
        rex = 0x48 | (target >> 3) << 2 | base >> 3
        modrm = 0x80 | (target & 7) << 3 | base & 7
        self._append([rex, 0x8D, modrm, *_dword(offset)], where)

    def add(self, target: Gpr, value: int, where: Bools | None = None) -> None:
        """Append `add target, value`, with an immediate of 32 bits."""
        self._append([0x48 | target >> 3, 0x81, 0xC0 | target & 7, *_dword(value)], where)

    def mov(self, target: Gpr, source: Gpr) -> None:
        """Append `mov target, source`."""
        rex = 0x48 | (source >> 3) << 2 | target >> 3
        self._append([rex, 0x89, 0xC0 | (source & 7) << 3 | target & 7])

    def mov_immediate(self, target: Gpr, value: int) -> None:
        """Append `mov target, value`, a number of 32 bits, to one of the first eight registers."""
        self._append([0xB8 | target, *_dword(value)])

    def dec(self, counter: Gpr) -> None:
        """Append `dec counter`, on the 32 bits of one of the first eight registers."""
        self._append([0xFF, 0xC8 | counter])

    def jnz_back(self, distance: Ints) -> None:
        """Append `jnz` to `distance` (n,) bytes before the instruction."""
        self._append([0x0F, 0x85, *_dword(-distance - _JNZ_BYTES)])

    def push(self, register: Gpr) -> None:
        """Append `push register`."""
        self._append(_one_byte(0x50, register))

    def pop(self, register: Gpr) -> None:
        """Append `pop register`."""
        self._append(_one_byte(0x58, register))

    def vzeroupper_ret(self) -> None:
        """Append `vzeroupper; ret`."""
        self._append([0xC5, 0xF8, 0x77, 0xC3])


def _one_byte(opcode: int, register: Gpr) -> list[Ints | int]:
    """Return an instruction whose opcode byte names the register."""
    prefix: list[Ints | int] = [0x41] if register > 7 else []
    return [*prefix, opcode | register & 7]


def _dword(value: Ints | int) -> list[Ints | int]:
    """Return the four bytes of 32-bit numbers, the lowest first."""
    return [np.asarray(value, np.int64) >> shift & 0xFF for shift in (0, 8, 16, 24)]
