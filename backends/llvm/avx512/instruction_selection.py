"""Select instructions for a tree of gates: vpternlog, any function of three operands.

An instruction's target register is also its first operand. With the deeper operand of a gate in the
target, and the operands of its other operand as second and third, most instructions evaluate two
gates: the seven gates of a perfect tree and the OR that pools it take five. A table of more than
three inputs becomes multiplexers over its cofactors (Shannon, 1949). The instruction vpternlogd is
described in Intel's Software Developer's Manual, volume 2, chapter 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.avx512.evex_encoder import Bools, Ints
from lgir.backends.lowering.cones import ConeExpr
from lgir.ir.truth_tables import XOR, swap_inputs

ACCUMULATOR: Final = 0
"""The register of a tree's result."""

_AND_TABLES: Final = np.array([0b1000, 0b0010, 0b0100, 0b1110], np.uint64)
"""Tables of an AND-like gate by its masks m1 << 1 | m2 (see `cones.and_masks`)."""
_FIRST: Final = 0xF0
_THIRD: Final = 0xAA
_SELECT: Final = 0xD8
"""third ? second : first"""
_OR: Final = 0b1110
_SECOND_OF_TWO: Final = 0b1010

GateTables = npt.NDArray[np.uint64]
TreeShape = tuple["TreeShape", ...]
"""A tree without its operations: nested tuples, of which a leaf is an empty one."""


@dataclass(frozen=True)
class Leaf:
    """A leaf of a tree as an operand, by its number from left to right."""

    index: int


Operand = int | Leaf
"""A vector register or a leaf."""


@dataclass(frozen=True)
class Instruction:
    """`target = table(target, second, third)`, for n trees of one shape.

    Bit `target << 2 | second << 1 | third` of the table is the new value. Without a table, the
    instruction is a move, `target = third`.

    Attributes:
        target: a register, which is also the first operand.
        second: the second operand.
        third: the third operand.
        table: (n,) a table per tree, or None for a move.
    """

    target: int
    second: Operand
    third: Operand
    table: Ints | None

    @property
    def leaves(self) -> list[int]:
        """The leaves that are read, in the order of operands."""
        return [x.index for x in (self.second, self.third) if isinstance(x, Leaf)]


@dataclass(frozen=True)
class _Gate:
    """A gate with a table (n,) per tree. The first argument is the table's most significant."""

    args: tuple[_Gate | Leaf, ...]
    table: GateTables


def tree_shape(expr: ConeExpr) -> TreeShape:
    """Return the shape of a template. A template that is a leaf has a gate of one input."""
    return _nested_shape(expr) or ((),)


def _nested_shape(expr: ConeExpr) -> TreeShape:
    return tuple(_nested_shape(arg) for arg in expr.args)


def gate_tables(expr: ConeExpr, masks: Bools) -> GateTables:
    """Return the truth tables (n, gates) of trees of a template, from its masks (n, M + 1).

    Gates are in post-order: operands first, from left to right.
    """
    gates = _post_order(expr)
    first_mask = np.cumsum([0, *(gate.masks for gate in gates)])
    tables = np.full((len(masks), max(1, len(gates))), XOR, np.uint64)
    ands = np.flatnonzero([gate.kind == "and" for gate in gates])
    tables[:, ands] = _AND_TABLES[2 * masks[:, first_mask[ands]] + masks[:, first_mask[ands] + 1]]
    for i, gate in enumerate(gates):
        if gate.kind == "lut":
            bits = masks[:, first_mask[i] : first_mask[i + 1]]
            tables[:, i] = bits @ (np.uint64(1) << np.arange(gate.masks, dtype=np.uint64))
    if not gates:
        tables[:] = 0b10
    ones = np.uint64((1 << (1 << max(1, len(expr.args)))) - 1)
    tables[masks[:, -1], -1] ^= ones
    return tables


def _post_order(expr: ConeExpr) -> list[ConeExpr]:
    """Return the inner nodes of a template, operands first, from left to right."""
    return [*(gate for arg in expr.args for gate in _post_order(arg)), expr] if expr.args else []


def select_instructions(
    shape: TreeShape, tables: GateTables, first_free: int, *, pooled: bool
) -> list[Instruction]:
    """Return the instructions of one copy of trees of a shape.

    Args:
        tables: (n, gates) the gates' tables; see `gate_tables`.
        first_free: the first of the registers that the copy may use.
        pooled: whether the result is ORed into the accumulator instead of put there.
    """
    root = _tree(shape, iter(tables.T), iter(range(_num_leaves(shape))))
    assert isinstance(root, _Gate)
    selector = _Selector()
    if len(root.args) == 2:
        pool = np.full(len(tables), _OR if pooled else _SECOND_OF_TWO)
        table = _composed(pool, _as_ints(root.table))
        selector.emit_two_operands(ACCUMULATOR, root.args, first_free, table)
    elif pooled:
        selector.evaluate(root, first_free)
        table = np.full(len(tables), _FIRST | _THIRD)
        selector.emit(ACCUMULATOR, first_free, first_free, table)
    else:
        selector.evaluate(root, ACCUMULATOR, first_free)
    return selector.instructions


def _num_leaves(shape: TreeShape) -> int:
    return sum(map(_num_leaves, shape)) if shape else 1


def _tree(shape: TreeShape, tables: Iterator[GateTables], leaves: Iterator[int]) -> _Gate | Leaf:
    """Return the tree of a shape with the next tables and leaves."""
    if not shape:
        return Leaf(next(leaves))
    return _Gate(tuple(_tree(arg, tables, leaves) for arg in shape), next(tables))


class _Selector:
    """Selects instructions by recursive descent. Registers from `free` on may be overwritten.

    Attributes:
        instructions: the instructions so far.
    """

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []

    def emit(self, target: int, second: Operand, third: Operand, table: Ints | None) -> None:
        self.instructions.append(Instruction(target, second, third, table))

    def emit_two_operands(
        self, target: int, args: tuple[_Gate | Leaf, ...], free: int, table: Ints
    ) -> None:
        """Emit the instruction of `table` with the two `args` as its second and third operand."""
        (second, third), _ = self.operands(args, free)
        self.emit(target, second, third, table)

    def operands(self, args: tuple[_Gate | Leaf, ...], free: int) -> tuple[list[Operand], int]:
        """Return `args` as operands, with gates evaluated into registers, and the next free one."""
        operands: list[Operand] = []
        for arg in args:
            if isinstance(arg, _Gate):
                self.evaluate(arg, free)
                operands.append(free)
                free += 1
            else:
                operands.append(arg)
        return operands, free

    def evaluate(self, gate: _Gate, target: int, free: int | None = None) -> None:
        """Evaluate `gate` into the register `target`.

        Without `free`, the registers behind the target are free.
        """
        free = target + 1 if free is None else free
        if len(gate.args) == 1:
            self.load_first(target, gate.args[0], free)
            bits = _as_ints(gate.table)
            self.emit(target, target, target, (bits & 1) * 0x0F | (bits >> 1) * 0xF0)
        elif len(gate.args) == 2:
            self._evaluate_two_inputs(gate, target, free)
        elif len(gate.args) == 3:
            self.load_first(target, gate.args[0], free)
            self.emit_two_operands(target, gate.args[1:], free, _as_ints(gate.table))
        else:
            operands, free = self.operands(gate.args, free)
            self._multiplex(operands, gate.table, target, free)

    def load_first(self, target: int, arg: _Gate | Leaf, free: int) -> None:
        """Put `arg` into the register `target`, as the first operand of an instruction."""
        if isinstance(arg, _Gate):
            self.evaluate(arg, target, free)
        else:
            self.emit(target, target, arg, None)

    def _evaluate_two_inputs(self, gate: _Gate, target: int, free: int) -> None:
        """Evaluate a gate, together with its shallower operand if that has two inputs as well."""
        (deep, shallow), table = gate.args, _as_ints(gate.table)
        if _depth(deep) < _depth(shallow):
            deep, shallow, table = shallow, deep, swap_inputs(table)
        ignore_first = np.full_like(table, _SECOND_OF_TWO)
        if not isinstance(deep, _Gate):
            self.emit_two_operands(target, gate.args, free, _composed(ignore_first, table))
            return
        self.evaluate(deep, target, free)
        if isinstance(shallow, _Gate) and len(shallow.args) == 2:
            fused = _composed(table, _as_ints(shallow.table))
            self.emit_two_operands(target, shallow.args, free, fused)
        else:
            (third,), _ = self.operands((shallow,), free)
            self.emit(target, target, third, _composed(table, ignore_first))

    def _multiplex(
        self, operands: list[Operand], table: GateTables, target: int, free: int
    ) -> None:
        """Evaluate a table of three operands or more, by its cofactors in the first."""
        if len(operands) == 3:
            self.emit(target, target, operands[0], None)
            self.emit(target, operands[1], operands[2], _as_ints(table))
            return
        first, *rest = operands
        half = np.uint64(1 << len(rest))
        low = table & np.uint64((1 << (1 << len(rest))) - 1)
        self._multiplex(rest, low, target, free)
        self._multiplex(rest, table >> half, free, free + 1)
        self.emit(target, free, first, np.full(len(table), _SELECT))


def _as_ints(table: GateTables) -> Ints:
    return table.astype(np.int64)


def _depth(arg: _Gate | Leaf) -> int:
    return 0 if isinstance(arg, Leaf) else 1 + max(map(_depth, arg.args))


def _composed(outer: Ints, inner: Ints) -> Ints:
    """Return the tables of outer(first, inner(second, third)), from tables of two inputs."""
    table = np.zeros_like(outer)
    for i in range(8):
        first, inner_value = i >> 2, inner >> (i & 3) & 1
        table |= (outer >> (first << 1 | inner_value) & 1) << i
    return table
