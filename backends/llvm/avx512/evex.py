"""Encoding AVX-512 instructions, of many code sequences side by side.

Sequences of one shape differ in registers, offsets and immediates only, so that each instruction is
encoded for all of them at once, as columns of bytes of which a sequence may leave some out. Source
of the encoding: Intel's Software Developer's Manual, volume 2, section 2.7 (EVEX).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

LINE: Final = 64


class Gpr(IntEnum):
    """General-purpose registers, those that may be a base without an index byte."""

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
class Memory:
    """Where a line is: base registers (n,), and lines (n,) behind the base."""

    base: Ints
    lines: Ints


class Sequences:
    """`n` code sequences under construction.

    Attributes:
        length: (n,) bytes so far.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.length = np.zeros(n, np.int64)
        self._columns: list[Bytes] = []
        self._kept: list[Bools] = []

    def finish(self) -> Bytes:
        """The sequences one after the other."""
        if not self._columns:
            return np.zeros(0, np.uint8)
        code = np.concatenate(self._columns, axis=1)
        return code[np.concatenate(self._kept, axis=1)]

    def put(self, columns: list[Ints | int], where: Bools | None = None) -> None:
        """Bytes by column, in the sequences where `where` holds."""
        self._put([(c, where) for c in columns])

    def _put(self, columns: list[tuple[Ints | int, Bools | None]]) -> None:
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

    def load(self, register: Ints, source: Memory, where: Bools | None = None) -> None:
        """vmovdqa32 zmm, [memory]"""
        self._vector(0x6F, 1, register, None, source, where=where)

    def move(self, target: Ints, source: Ints, memory: Memory, where: Bools | None = None) -> None:
        """vmovdqa32 target, source; from `memory` where `source` is negative."""
        self._vector(0x6F, 1, target, None, memory, register=source, where=where)

    def store(self, register: int, target: Memory) -> None:
        """vmovdqa32 [memory], zmm"""
        self._vector(0x7F, 1, np.full(self.n, register), None, target)

    def ternary(
        self, target: int, second: Ints, third: Ints, table: Ints, memory: Memory | None = None
    ) -> None:
        """vpternlogd target, second, third: the function of the three whose value for
        `target << 2 | second << 1 | third` is that bit of `table`. Where `third` is negative, it is
        in `memory`.
        """
        destination = np.full(self.n, target)
        self._vector(0x25, 3, destination, second, memory, register=third, immediate=table)

    def _vector(
        self,
        opcode: int,
        map_number: int,
        reg: Ints,
        second: Ints | None,
        memory: Memory | None,
        *,
        register: Ints | None = None,
        immediate: Ints | None = None,
        where: Bools | None = None,
    ) -> None:
        no = np.zeros(self.n, np.int64)
        in_memory = np.ones(self.n, bool) if register is None else register < 0
        base, lines = (memory.base, memory.lines) if memory is not None else (no, no)
        rm = base if register is None else np.where(in_memory, base, register)
        vvvv = no if second is None else second
        near = (lines >= -128) & (lines < 128)
        inverted = (reg >> 3 & 1) << 7 | (rm >> 4 & 1) << 6 | (rm >> 3 & 1) << 5
        inverted |= (reg >> 4 & 1) << 4
        mode = np.where(in_memory, np.where(near, 0b01, 0b10), 0b11)
        far = lines * LINE
        some = np.ones(self.n, bool) if where is None else where
        columns: list[tuple[Ints | int, Bools | None]] = [
            (0x62, where),
            (inverted ^ 0xF0 | map_number, where),
            ((vvvv & 15 ^ 15) << 3 | 0b101, where),
            (0x40 | (vvvv >> 4 & 1 ^ 1) << 3, where),
            (opcode, where),
            (mode << 6 | (reg & 7) << 3 | rm & 7, where),
        ]
        if in_memory.any():
            columns.append((np.where(near, lines, far), some & in_memory))
            if not near.all():
                columns += [(far >> s, some & in_memory & ~near) for s in (8, 16, 24)]
        if immediate is not None:
            columns.append((immediate, where))
        self._put(columns)

    # -- the rest --------------------------------------------------------------------------------

    def lea(self, target: Gpr, base: Gpr, offset: Ints, where: Bools | None = None) -> None:
        """lea target, [base + offset], in bytes."""
        rex = 0x48 | (target >> 3) << 2 | base >> 3
        self.put([rex, 0x8D, 0x80 | (target & 7) << 3 | base & 7, *_word(offset)], where)

    def add(self, target: Gpr, value: int, where: Bools | None = None) -> None:
        """add target, value"""
        self.put([0x48 | target >> 3, 0x81, 0xC0 | target & 7, *_word(value)], where)

    def copy(self, target: Gpr, source: Gpr) -> None:
        """mov target, source"""
        rex = 0x48 | (source >> 3) << 2 | target >> 3
        self.put([rex, 0x89, 0xC0 | (source & 7) << 3 | target & 7])

    def set(self, target: Gpr, value: int) -> None:
        """mov target, value, of 32 bits; one of the first eight registers."""
        self.put([0xB8 | target, *_word(value)])

    def count_down(self, counter: Gpr) -> None:
        """dec counter; one of the first eight registers."""
        self.put([0xFF, 0xC8 | counter])

    def jump(self, back: Ints) -> None:
        """jnz, `back` bytes (n,) back from its beginning."""
        self.put([0x0F, 0x85, *_word(-back - _JUMP)])

    def push(self, register: Gpr) -> None:
        self._one_byte(0x50, register)

    def pop(self, register: Gpr) -> None:
        self._one_byte(0x58, register)

    def _one_byte(self, opcode: int, register: Gpr) -> None:
        prefix: list[Ints | int] = [0x41] if register > 7 else []
        self.put([*prefix, opcode | register & 7])

    def leave(self) -> None:
        """vzeroupper; ret"""
        self.put([0xC5, 0xF8, 0x77, 0xC3])


_JUMP: Final = 6


def _word(value: Ints | int) -> list[Ints | int]:
    """The bytes of 32-bit numbers."""
    return [np.asarray(value, np.int64) >> s & 0xFF for s in (0, 8, 16, 24)]
