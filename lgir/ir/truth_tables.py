"""Truth tables of gates with one to six inputs, and the names of the two-input operations.

A table is an integer whose bit i is the output for input index i = sum(x_l << (k-1-l)): the first
input is the most significant. For k = 3 this is the immediate of x86 `vpternlog` and of NVIDIA
`LOP3`. Two-input operations also carry difflogic's number, the bits f(00) f(01) f(10) f(11) read
from the most significant: the same four bits in reverse order.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MAX_FANIN: Final = 6

# Indexed by difflogic's number. lt/le/gt/ge compare the inputs as numbers 0 and 1.
OP_NAMES: Final = (
    "false", "and", "gt", "a", "lt", "b", "xor", "or",
    "nor", "xnor", "not-b", "ge", "not-a", "le", "nand", "true",
)  # fmt: skip


Tables = npt.NDArray[np.unsignedinteger]


def table_from_op(op: int) -> int:
    """Truth table of difflogic's operation number `op` (0..15): its four bits reversed."""
    return int(f"{op:04b}"[::-1], 2)


OP_TABLES: Final = np.array([table_from_op(op) for op in range(16)], dtype=np.uint8)
"""(16,) uint8: difflogic number -> truth table. The mapping is its own inverse."""

NAME_TO_TABLE: Final = {name: table_from_op(op) for op, name in enumerate(OP_NAMES)}
TABLE_TO_NAME: Final = {table: name for name, table in NAME_TO_TABLE.items()}

UNARY_NAMES: Final = {0b00: "false", 0b01: "not", 0b10: "buf", 0b11: "true"}
UNARY_TABLES: Final = {name: table for table, name in UNARY_NAMES.items()}

AND: Final = 0b1000
OR: Final = 0b1110
XOR: Final = 0b0110
NAND: Final = 0b0111
NOR: Final = 0b0001
XNOR: Final = 0b1001


def gate_name(table: int, arity: int) -> str:
    """How the text form spells one function: a name, or `lut 0x..` of more than two inputs."""
    if arity == 0:
        return UNARY_NAMES[3 * table]
    if arity == 1:
        return UNARY_NAMES[table]
    if arity == 2:
        return TABLE_TO_NAME[table]
    return f"lut {table:#0{2 + (1 << arity) // 4}x}"


def table_dtype(fanin: int) -> np.dtype[np.unsignedinteger]:
    """The smallest unsigned dtype that holds a table of `fanin` inputs (2**fanin bits)."""
    return np.dtype(
        (np.uint8, np.uint8, np.uint8, np.uint8, np.uint16, np.uint32, np.uint64)[fanin]
    )


def full_mask(fanin: int) -> int:
    """The table of the constant True over `fanin` inputs: 2**fanin ones."""
    return (1 << (1 << fanin)) - 1


def widen_table(table: Tables, fanin: int, to: int) -> Tables:
    """Tables over `fanin` inputs as tables over `to` >= `fanin`, ignoring the trailing new ones."""
    wide = table.astype(np.uint64)
    for k in range(fanin, to):
        out = np.zeros_like(wide)
        for i in range(1 << k):
            out |= ((wide >> np.uint64(i)) & np.uint64(1)) * np.uint64(3 << (2 * i))
        wide = out
    return wide.astype(table_dtype(to))


def narrow_table(table: Tables, fanin: int, to: int) -> Tables:
    """Inverse of `widen_table`: drops the trailing inputs, on which no table may depend."""
    wide = table.astype(np.uint64)
    for k in range(fanin - 1, to - 1, -1):
        out = np.zeros_like(wide)
        for i in range(1 << k):
            out |= ((wide >> np.uint64(2 * i)) & np.uint64(1)) << np.uint64(i)
        wide = out
    return wide.astype(table_dtype(to))


@cache
def variable_table(fanin: int, position: int) -> int:
    """The table of the function that equals its input number `position` (0 = first)."""
    shift = fanin - 1 - position
    return sum(1 << i for i in range(1 << fanin) if i >> shift & 1)


@cache
def _low_half(fanin: int, position: int) -> int:
    """Return the bits of a table at which input number `position` is False."""
    return full_mask(fanin) & ~variable_table(fanin, position)


def _distance(fanin: int, position: int) -> int:
    """Return the distance between two bits of a table that differ in input `position` only."""
    return 1 << (fanin - 1 - position)


def depends_on(table: Tables, fanin: int, position: int) -> npt.NDArray[np.bool_]:
    """(n,) bool: whether each table of `fanin` inputs depends on input number `position`."""
    other_half = table >> _distance(fanin, position)
    depends: npt.NDArray[np.bool_] = (other_half ^ table) & _low_half(fanin, position) != 0
    return depends


def cofactor(table: npt.NDArray[Any], fanin: int, position: int, value: bool) -> npt.NDArray[Any]:
    """Return the tables with one input fixed to `value`; they no longer depend on that input."""
    distance = _distance(fanin, position)
    if value:
        high = table & variable_table(fanin, position)
        return high | (high >> distance)
    low = table & _low_half(fanin, position)
    return low | (low << distance)


def complement_input(table: npt.NDArray[Any], fanin: int, position: int) -> npt.NDArray[Any]:
    """Return the tables of the same functions of the complement of one input."""
    distance = _distance(fanin, position)
    high, low = table & variable_table(fanin, position), table & _low_half(fanin, position)
    return (high >> distance) | (low << distance)


def swap_adjacent_inputs(table: npt.NDArray[Any], fanin: int, position: int) -> npt.NDArray[Any]:
    """Return the tables with inputs `position` and `position` + 1 exchanged."""
    distance = _distance(fanin, position + 1)
    exchanged_bits = _low_half(fanin, position) & variable_table(fanin, position + 1)
    difference: npt.NDArray[Any] = ((table >> distance) ^ table) & exchanged_bits
    return table ^ difference ^ (difference << distance)


def merge_adjacent_inputs(table: npt.NDArray[Any], fanin: int, position: int) -> npt.NDArray[Any]:
    """Return the tables with input `position` + 1 fed by the net of input `position`.

    They depend on input `position` alone of the two.
    """
    high = cofactor(table, fanin, position + 1, True) & variable_table(fanin, position)
    low = cofactor(table, fanin, position + 1, False) & _low_half(fanin, position)
    return high | low


def drop_first_input(table: npt.NDArray[Any], fanin: int) -> npt.NDArray[Any]:
    """Move the other inputs of tables that ignore their first one up; the last is ignored then."""
    wide = table.astype(np.uint64)
    out = np.zeros_like(wide)
    for i in range(1 << (fanin - 1)):
        out |= (wide >> np.uint64(i) & np.uint64(1)) * np.uint64(3 << (2 * i))
    return out.astype(table.dtype)


def reverse_inputs(table: npt.NDArray[Any], fanin: int) -> npt.NDArray[np.uint64]:
    """Return the tables with their inputs in the opposite order, as uint64.

    This translates between the index order of this module and the one of cuts, in which the first
    leaf is the least significant index bit.
    """
    wide, out = table.astype(np.uint64), np.zeros(len(table), np.uint64)
    for i in range(1 << fanin):
        reversed_index = int(f"{i:0{fanin}b}"[::-1], 2) if fanin else 0
        out |= (wide >> np.uint64(i) & np.uint64(1)) << np.uint64(reversed_index)
    return out


def not_table(fanin: int) -> int:
    """Return the table of NOT of the first of `fanin` inputs."""
    return full_mask(fanin) ^ variable_table(fanin, 0)


def mux_table(fanin: int) -> int:
    """Return the table by which input 0 selects input 1 (False) or input 2 (True)."""
    select, zero, one = (variable_table(fanin, position) for position in range(3))
    return (select & one) | (~select & zero & full_mask(fanin))


def swap_inputs(table: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Two-input tables with their inputs exchanged."""
    return (table & 0b1001) | (table & 0b0010) << 1 | (table & 0b0100) >> 1


def invert_inputs(
    table: npt.NDArray[np.int64], a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Two-input tables of functions of the complements of their inputs, where a and b say so."""
    table = np.where(a, (table & 0b0011) << 2 | table >> 2, table)
    return np.where(b, (table & 0b0101) << 1 | (table >> 1) & 0b0101, table)
