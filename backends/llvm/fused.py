"""The kernel of fused levels: rows that evaluate a gate in registers and one that reads it.

Loads are what limits, so a row should have few masks, most of which are taken from one load by
shuffles. Only its own outer gate and the next row's read an inner gate: kept inverted where its
outer gate inverts it, and with operands in either order, three masks do for it and two for the
outer gate.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.llvm_text import (
    AND_OR,
    AND_XOR,
    NOT_AND_OR,
    PLANE,
    PLANE_BYTES,
    SUM,
    XOR_AND,
    FunctionWriter,
)
from lgir.backends.llvm.records import KERNEL_PARAMS, Field, mask_table
from lgir.backends.lowering.fused_levels import THREE_ONES
from lgir.ir.truth_tables import swap_inputs

FUSED_ROWS: Final = 4
"""Rows in one round of the kernel's loop."""
_AT_ONCE: Final = 4
"""Masks that are taken from one load, of a line that repeats them; the others follow it."""
_ENTRY_SHIFT: Final = 7
_M3: Final = 1 << 2
_M4: Final = 1 << 3
_M5: Final = 1 << 4
_M6: Final = 1 << 5
_INNER: Final = {0b1110: 0b00, 0b1011: 0b10, 0b0110: 0b01, 0b0111: 0b11}
"""m1 and m2 of a | b, ~a | b, a ^ b and ~(a & b); the other inner gates are their complements, or
have their operands exchanged.
"""

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def fused_kernel(name: str, constant: bool, *, ternary: bool) -> str:
    """Rows (offsets of planes a and b, output offset), COUNT being a multiple of FUSED_ROWS.

    The low six bits of the first offset are free and are the masks m1 to m6 of the row, for which
    the table at MASKS has an entry of two lines: the first repeats m1 to m4 as words of as many
    ones or zeros, and the second begins with m5 and m6. The inner gate is
    x = (~(a & (b ^ m1)) & (b | m2)) ^ a ^ m3, and the outer one (w & (x | m4)) ^ (x & m5) ^ m6 with
    the x of the row before as w. Without `constant`, m6 is 0 in every row and left out.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, count = f.load_field("%step", Field.ROWS, "ptr"), f.load_field("%step", Field.COUNT)
    table = f.load_field("%step", Field.MASKS, "ptr")
    with f.loop(count, (PLANE, "zeroinitializer"), step=FUSED_ROWS) as loop:
        row = f.gep(rows, f.let(f"mul i64 {loop.index}, 12"))
        # Two words a load: it is loads that limit.
        words: list[str] = []
        for i in range(0, 3 * FUSED_ROWS, 2):
            two = f.load("i64", f.gep(row, str(4 * i)), 4)
            words += [f.let(f"and i64 {two}, {0xFFFF_FFFF}"), f.let(f"lshr i64 {two}, 32")]
        (before,) = loop.carried
        for r in range(FUSED_ROWS):
            first, second, out = words[3 * r : 3 * r + 3]
            index = f.let(f"and i64 {first}, 63")
            entry = f.gep(table, f.let(f"shl i64 {index}, {_ENTRY_SHIFT}"))
            rest = [f.gep(entry, str(PLANE_BYTES + 4 * i)) for i in range(1 + constant)]
            mask = f.splats(entry, _AT_ONCE)
            mask += [f.broadcast(f.load("i32", word, 4)) for word in rest]
            a = f.load_plane("%planes", f.let(f"and i64 {first}, -64"))
            b = f.load_plane("%planes", second)
            inner = f.ternary(f.ternary(a, b, mask[0], AND_XOR), b, mask[1], NOT_AND_OR)
            inner = f.ternary(inner, a, mask[2], SUM)
            outer = f.ternary(f.ternary(before, inner, mask[3], AND_OR), inner, mask[4], XOR_AND)
            f.store_plane(f.op("xor", outer, mask[5]) if constant else outer, "%planes", out)
            before = inner
        loop.next = [before]
    f.emit("ret void")
    return f.text()


def fused_words(
    offsets: npt.NDArray[np.uint32], inner: Ints, outer: Ints
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32], bool]:
    """Rows for `fused_kernel`, (n, 3) offsets with their masks in the low bits; the table of masks;
    and whether any row has a constant term. `inner` and `outer` (n,) are tables that depend on both
    inputs, and the first outer one is AND-like.
    """
    inverted, masks = _outer_masks(outer)
    wanted = np.where(inverted, inner ^ 0xF, inner)
    masks |= _INNER_MASKS[wanted]
    words = offsets.copy()
    words[:, :2] = np.where(_EXCHANGED[wanted, None], offsets[:, 1::-1], offsets[:, :2])
    words[:, 0] |= masks.astype(np.uint32)
    constant = bool((masks & _M6).any())
    entries = np.arange(64 if constant else 32)
    line = np.arange(PLANE_BYTES // 4)
    bit = np.concatenate([line % _AT_ONCE, line + _AT_ONCE])
    return words, mask_table((entries[:, None] >> bit & 1).astype(bool)), constant


def _outer_masks(table: Ints) -> tuple[Bools, Ints]:
    """Of each row, whether its inner gate is kept inverted, and m4 to m6.

    An AND-like gate takes the inner gate of its row as it is, w & x or ~w & x, whose inversion is
    thus decided. An XOR takes either: what makes its constant vanish.
    """
    exclusive = (table == 0b0110) | (table == 0b1001)
    decided = np.maximum.accumulate(np.where(exclusive, 0, np.arange(len(table))))
    flips = np.cumsum(table == 0b1001)
    inverted: Bools = _SECOND[table[decided]] ^ ((flips - flips[decided]) % 2 == 1)
    before = np.concatenate([[False], inverted[:-1]])
    masks: Ints = np.where(exclusive, _M4 | _M5, (_FIRST[table] ^ before) * _M5)
    return inverted, masks | THREE_ONES[table] * _M6


def _tables() -> tuple[Ints, Bools, Bools, Bools]:
    """By table: m1 to m3 of an inner gate and whether its operands are exchanged; of an AND-like
    one, whether it inverts its first and its second operand.
    """
    masks = np.zeros(16, np.int64)
    exchanged, first, second = (np.zeros(16, bool) for _ in range(3))
    for table, code in _INNER.items():
        other = int(swap_inputs(np.array([table]))[0])
        for one, swap in ((other, True), (table, False)):
            masks[[one, one ^ 0xF]] = code, code | _M3
            exchanged[[one, one ^ 0xF]] = swap
    for index in range(4):
        alike = [1 << index, 1 << index ^ 0xF]
        first[alike], second[alike] = not index & 2, not index & 1
    return masks, exchanged, first, second


_INNER_MASKS, _EXCHANGED, _FIRST, _SECOND = _tables()
