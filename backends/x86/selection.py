"""Instruction selection: a tree of two-input gates as three-input instructions, two gates to most.

A target register is also the first operand. With the deeper operand of a gate in the target, and
those of the other operand as second and third, the seven gates of a perfect tree and the OR that
pools it take five instructions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lgir.backends.cones import Bools, Expr, Ints
from lgir.ops import XOR, swap_inputs

ACCUMULATOR: Final = 0

_AND_TABLES: Final = np.array([0b1000, 0b0010, 0b0100, 0b1110])
"""Tables of an AND-like gate by its masks, m1 << 1 | m2; see `lgir.backends.cones.and_masks`."""
_FIRST: Final = 0xF0

Shape = tuple["Shape", ...]
"""A tree without its operations, which are data here: nested pairs, a leaf being empty."""


@dataclass(frozen=True)
class Instruction:
    """`target = table(target, second, third)`, bit `target << 2 | second << 1 | third` of `table`.

    Operands are registers, 0 and up, or leaves, leaf l being -1 - l; `table` (n,) has a row a tree.
    """

    target: int
    second: int
    third: int
    table: Ints


@dataclass(frozen=True)
class _Gate:
    """`table` (n,) of two operands, the first the more significant. Leaves are -1 and down."""

    first: _Gate | int
    second: _Gate | int
    table: Ints


def shape_of(expr: Expr) -> Shape:
    """The shape of a template of two-input gates."""
    return tuple(shape_of(arg) for arg in expr.args)


def gate_tables(expr: Expr, masks: Bools) -> Ints:
    """(n, gates) truth tables of each gate, children first, left to right, from a template's masks
    (n, M + 1).
    """
    tables: list[Ints] = []
    *columns, inverted = masks.T.astype(np.int64)

    def walk(node: Expr) -> None:
        for arg in node.args:
            walk(arg)
        if node.kind == "and":
            m1, m2 = columns.pop(0), columns.pop(0)
            tables.append(_AND_TABLES[m1 << 1 | m2])
        elif node.kind == "xor":
            tables.append(np.full(len(masks), XOR))

    walk(expr)
    tables[-1] = tables[-1] ^ inverted * 0xF
    return np.stack(tables, axis=1)


def select(shape: Shape, tables: Ints, free: int, *, pooled: bool) -> list[Instruction]:
    """The instructions of one copy of a tree with the gates `tables`, which may use registers from
    `free` on. Its result goes to the accumulator; if `pooled`, it is ORed into it.
    """
    leaves, gates = iter(range(-1, -tables.shape[1] - 2, -1)), iter(tables.T)

    def operand(shape: Shape) -> _Gate | int:
        if not shape:
            return next(leaves)
        first, second = operand(shape[0]), operand(shape[1])
        return _Gate(first, second, next(gates))

    root = operand(shape)
    assert isinstance(root, _Gate)
    selector = _Selector()
    table = root.table | root.table << 4
    selector.emit(ACCUMULATOR, root, free, table | _FIRST if pooled else table)
    return selector.done


class _Selector:
    def __init__(self) -> None:
        self.done: list[Instruction] = []

    def emit(self, target: int, gate: _Gate, free: int, table: Ints) -> None:
        """The instruction whose second and third operands are those of `gate`."""
        operands = []
        for arg in (gate.first, gate.second):
            if isinstance(arg, _Gate):
                self.evaluate(arg, free)
                operands.append(free)
                free += 1
            else:
                operands.append(arg)
        self.done.append(Instruction(target, operands[0], operands[1], table))

    def evaluate(self, gate: _Gate, target: int) -> None:
        """`gate` into the register `target`; those behind it are free."""
        deep, other, table = gate.first, gate.second, gate.table
        if _depth(deep) < _depth(other):
            deep, other, table = other, deep, swap_inputs(table)
        if not isinstance(deep, _Gate):
            self.emit(target, gate, target, gate.table | gate.table << 4)
            return
        self.evaluate(deep, target)
        if isinstance(other, _Gate):
            self.emit(target, other, target + 1, _merged(table, other.table))
        else:
            ignoring = _merged(table, np.full_like(table, 0b1010))
            self.done.append(Instruction(target, target, other, ignoring))


def _depth(arg: _Gate | int) -> int:
    return 0 if isinstance(arg, int) else 1 + max(_depth(arg.first), _depth(arg.second))


def _merged(outer: Ints, inner: Ints) -> Ints:
    """Tables of outer(first, inner(second, third))."""
    table = np.zeros_like(outer)
    for i in range(8):
        table |= (outer >> (i >> 2 << 1 | inner >> (i & 3) & 1) & 1) << i
    return table
