"""Instruction selection: a tree of gates as three-input instructions, two gates to most.

A target register is also the first operand. With the deeper operand of a gate in the target, and
those of the other operand as second and third, the seven gates of a perfect tree and the OR that
pools it take five instructions. Tables of more than three inputs are multiplexers (Shannon, 1949).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering.cones import Bools, ConeExpr, Ints
from lgir.ir.truth_tables import XOR, swap_inputs

ACCUMULATOR: Final = 0

_AND_TABLES: Final = np.array([0b1000, 0b0010, 0b0100, 0b1110], np.uint64)
"""Tables of an AND-like gate by its masks m1 << 1 | m2 (see `cones.and_masks`)."""
_FIRST: Final = 0xF0
_THIRD: Final = 0xAA
_SELECT: Final = 0xD8
"""third ? second : first"""

Tables = npt.NDArray[np.uint64]
Shape = tuple["Shape", ...]
"""A tree without its operations, which are data here: nested tuples, a leaf being empty."""


@dataclass(frozen=True)
class Instruction:
    """`target = table(target, second, third)`, bit `target << 2 | second << 1 | third` of `table`;
    without one, `target = third`.

    Operands are registers, 0 and up, or leaves, leaf l being -1 - l; `table` (n,) has a row a tree.
    """

    target: int
    second: int
    third: int
    table: Ints | None


@dataclass(frozen=True)
class _Gate:
    """`table` (n,) of arguments, the first the most significant. Leaves are -1 and down."""

    args: tuple[_Gate | int, ...]
    table: Tables


def shape_of(expr: ConeExpr) -> Shape:
    """The shape of a template. One that is a leaf has a gate of one input."""
    return _shape(expr) or ((),)


def _shape(expr: ConeExpr) -> Shape:
    return tuple(_shape(arg) for arg in expr.args)


def gate_tables(expr: ConeExpr, masks: Bools) -> Tables:
    """(n, gates) truth tables of each gate, children first, left to right, from a template's masks
    (n, M + 1).
    """
    gates = _gates(expr)
    at = np.cumsum([0, *(gate.masks for gate in gates)])
    tables = np.full((len(masks), max(1, len(gates))), XOR, np.uint64)
    ands = np.flatnonzero([gate.kind == "and" for gate in gates])
    tables[:, ands] = _AND_TABLES[2 * masks[:, at[ands]] + masks[:, at[ands] + 1]]
    for i, gate in enumerate(gates):
        if gate.kind == "lut":
            own = masks[:, at[i] : at[i + 1]]
            tables[:, i] = own @ (np.uint64(1) << np.arange(gate.masks, dtype=np.uint64))
    if not gates:
        tables[:] = 0b10
    ones = np.uint64((1 << (1 << max(1, len(expr.args)))) - 1)
    tables[masks[:, -1], -1] ^= ones
    return tables


def _gates(expr: ConeExpr) -> list[ConeExpr]:
    """The inner nodes of a template, children first, left to right."""
    return [*(gate for arg in expr.args for gate in _gates(arg)), expr] if expr.args else []


def select(shape: Shape, tables: Tables, free: int, *, pooled: bool) -> list[Instruction]:
    """The instructions of one copy of a tree with the gates `tables`, which may use registers from
    `free` on. Its result goes to the accumulator; if `pooled`, it is ORed into it.
    """
    gates = iter(tables.T)
    leaves = 0

    def operand(shape: Shape) -> _Gate | int:
        nonlocal leaves
        if not shape:
            leaves += 1
            return -leaves
        return _Gate(tuple(operand(arg) for arg in shape), next(gates))

    root = operand(shape)
    assert isinstance(root, _Gate)
    selector = _Selector()
    if len(root.args) == 2:
        table = _merged(np.full(len(tables), 0b1110 if pooled else 0b1010), _ints(root.table))
        selector.combine(ACCUMULATOR, root.args, free, table)
    elif pooled:
        selector.evaluate(root, free)
        table = np.full(len(tables), _FIRST | _THIRD)
        selector.done.append(Instruction(ACCUMULATOR, free, free, table))
    else:
        selector.evaluate(root, ACCUMULATOR, free)
    return selector.done


class _Selector:
    def __init__(self) -> None:
        self.done: list[Instruction] = []

    def combine(
        self, target: int, args: tuple[_Gate | int, ...], free: int, table: Ints | None
    ) -> None:
        """The instruction of `table` with `args`, two, as its second and third operand."""
        (second, third), _ = self.operands(args, free)
        self.done.append(Instruction(target, second, third, table))

    def operands(self, args: tuple[_Gate | int, ...], free: int) -> tuple[list[int], int]:
        """Where `args` are: leaves where they are, gates in registers from `free` on; and the next
        free register.
        """
        found = []
        for arg in args:
            if isinstance(arg, _Gate):
                self.evaluate(arg, free)
                arg, free = free, free + 1
            found.append(arg)
        return found, free

    def evaluate(self, gate: _Gate, target: int, free: int | None = None) -> None:
        """`gate` into the register `target`; those from `free` on, or behind it, are free."""
        free = target + 1 if free is None else free
        if len(gate.args) == 1:
            self.copy(target, gate.args[0], free)
            ints = _ints(gate.table)
            ignoring = (ints & 1) * 0x0F | (ints >> 1) * 0xF0
            self.done.append(Instruction(target, target, target, ignoring))
        elif len(gate.args) == 2:
            self._two(gate, target, free)
        elif len(gate.args) == 3:
            self.copy(target, gate.args[0], free)
            self.combine(target, gate.args[1:], free, _ints(gate.table))
        else:
            operands, free = self.operands(gate.args, free)
            self._wide(operands, gate.table, target, free)

    def copy(self, target: int, arg: _Gate | int, free: int) -> None:
        if isinstance(arg, _Gate):
            self.evaluate(arg, target, free)
        else:
            self.done.append(Instruction(target, target, arg, None))

    def _two(self, gate: _Gate, target: int, free: int) -> None:
        (deep, other), table = gate.args, _ints(gate.table)
        if _depth(deep) < _depth(other):
            deep, other, table = other, deep, swap_inputs(table)
        if not isinstance(deep, _Gate):
            self.combine(target, gate.args, free, _merged(np.full_like(table, 0b1010), table))
            return
        self.evaluate(deep, target, free)
        if isinstance(other, _Gate) and len(other.args) == 2:
            self.combine(target, other.args, free, _merged(table, _ints(other.table)))
        else:
            (third,), _ = self.operands((other,), free)
            ignoring = _merged(table, np.full_like(table, 0b1010))
            self.done.append(Instruction(target, target, third, ignoring))

    def _wide(self, operands: list[int], table: Tables, target: int, free: int) -> None:
        """A table of three operands or more, by its cofactors in the first."""
        if len(operands) == 3:
            self.done.append(Instruction(target, target, operands[0], None))
            self.done.append(Instruction(target, operands[1], operands[2], _ints(table)))
            return
        first, *rest = operands
        half = np.uint64(1 << len(rest))
        low = table & np.uint64((1 << (1 << len(rest))) - 1)
        self._wide(rest, low, target, free)
        self._wide(rest, table >> half, free, free + 1)
        self.done.append(Instruction(target, free, first, np.full(len(table), _SELECT)))


def _ints(table: Tables) -> Ints:
    return table.astype(np.int64)


def _depth(arg: _Gate | int) -> int:
    return 0 if isinstance(arg, int) else 1 + max(map(_depth, arg.args))


def _merged(outer: Ints, inner: Ints) -> Ints:
    """Tables of outer(first, inner(second, third))."""
    table = np.zeros_like(outer)
    for i in range(8):
        table |= (outer >> (i >> 2 << 1 | inner >> (i & 3) & 1) & 1) << i
    return table
