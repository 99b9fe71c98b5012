"""Truth tables of gates with one to six inputs: their algebra on whole arrays, and their names.

Bit i of a table is the output for input index i = sum(x_l << (k-1-l)), so the first of the k inputs
is the most significant. For k = 3 this is the immediate of x86 `vpternlog` and of NVIDIA `LOP3`. A
two-input operation also has a number in difflogic, whose bits f(00) f(01) f(10) f(11) are read from
the most significant: the same four bits in reverse order.

Functions on `tables` take (n,) integers of one dtype that holds 2**k bits, and return the same
shape and dtype unless they say otherwise, so that one numpy operation serves every gate of a level.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import unknown_name

MAX_FANIN: Final = 6

# Indexed by difflogic's number. lt, le, gt and ge compare the inputs as the numbers 0 and 1.
OP_NAMES: Final = (
    "false", "and", "gt", "a", "lt", "b", "xor", "or",
    "nor", "xnor", "not-b", "ge", "not-a", "le", "nand", "true",
)  # fmt: skip


Tables = npt.NDArray[np.unsignedinteger]
IntegerTables = npt.NDArray[Any]
"""Tables in any integer dtype that holds their bits, signed ones included."""


def table_from_op(op: int) -> int:
    """Return the truth table of difflogic's operation number `op` (0..15): its bits reversed."""
    return int(f"{op:04b}"[::-1], 2)


OP_TABLES: Final = np.array([table_from_op(op) for op in range(16)], dtype=np.uint8)
"""The truth table of each of difflogic's operation numbers, (16,) uint8. It is its own inverse."""


def operation_numbers(ops: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return difflogic's numbers of operations that are given by number, or by name as "xor".

    Raises UnknownNameError for a name that is not in `OP_NAMES`.
    """
    array = np.asarray(ops)
    if array.dtype.kind != "U":
        return array
    names, index = np.unique(array, return_inverse=True)
    for name in names.tolist():
        if name not in OP_NAMES:
            raise unknown_name("operation", name, OP_NAMES)
    numbers = np.array([OP_NAMES.index(name) for name in names.tolist()], np.int64)
    return numbers[index].reshape(array.shape)


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
    """Return the text form's spelling of a function: a name, or `lut 0x..` for over two inputs."""
    if arity == 0:
        return UNARY_NAMES[3 * table]
    if arity == 1:
        return UNARY_NAMES[table]
    if arity == 2:
        return TABLE_TO_NAME[table]
    return f"lut {table:#0{2 + (1 << arity) // 4}x}"


# Constant tables and masks of k inputs, as Python integers


def table_dtype(k: int) -> np.dtype[np.unsignedinteger]:
    """Return the smallest unsigned dtype that holds a table of `k` inputs (2**k bits)."""
    return np.dtype((np.uint8, np.uint8, np.uint8, np.uint8, np.uint16, np.uint32, np.uint64)[k])


def full_mask(k: int) -> int:
    """Return the table of the constant True over `k` inputs: 2**k ones."""
    return (1 << (1 << k)) - 1


def index_stride(k: int, j: int) -> int:
    """Return the distance between the two bits of a table that differ in input j alone."""
    return 1 << (k - 1 - j)


@cache
def variable_table(k: int, j: int) -> int:
    """Return the table of the function that equals input j of `k` (0 is the first)."""
    stride = index_stride(k, j)
    return sum(1 << i for i in range(1 << k) if i & stride)


@cache
def complement_table(k: int, j: int) -> int:
    """Return the table of the function that equals the complement of input j of `k`."""
    return full_mask(k) & ~variable_table(k, j)


def not_table(k: int) -> int:
    """Return the table of the complement of the first of `k` inputs."""
    return complement_table(k, 0)


@cache
def mux_table(k: int) -> int:
    """Return the table over `k` >= 3 inputs of: input 2 if input 0 is True, else input 1."""
    select, zero, one = (variable_table(k, j) for j in range(3))
    return (select & one) | (full_mask(k) & ~select & zero)


# The number of inputs


def widen_table(tables: Tables, k: int, to: int) -> Tables:
    """Return tables over `to` >= `k` inputs that ignore the new inputs, which come last.

    The result has the dtype `table_dtype(to)`.
    """
    wide = tables.astype(np.uint64)
    for fanin in range(k, to):
        wide = _each_bit_twice(wide, 1 << fanin)
    return wide.astype(table_dtype(to))


def narrow_table(tables: IntegerTables, k: int, to: int) -> Tables:
    """Return tables without the inputs after the first `to`, on which none may depend.

    This is the inverse of `widen_table`; the result has the dtype `table_dtype(to)`.
    """
    wide = tables.astype(np.uint64)
    for fanin in range(k - 1, to - 1, -1):
        out = np.zeros_like(wide)
        for i in range(1 << fanin):
            out |= ((wide >> np.uint64(2 * i)) & np.uint64(1)) << np.uint64(i)
        wide = out
    return wide.astype(table_dtype(to))


def narrow_tables(tables: Tables, k: int, arity: npt.NDArray[np.integer]) -> npt.NDArray[np.uint64]:
    """Return (n,) uint64 tables, each over its own first `arity[i]` of `k` inputs."""
    out = np.zeros(len(tables), np.uint64)
    for fanin in range(k + 1):
        rows = np.flatnonzero(arity == fanin)
        out[rows] = narrow_table(tables[rows], k, fanin)
    return out


def drop_first_input(tables: Tables, k: int) -> Tables:
    """Return tables of `k` inputs, none of which depends on the first, with the others moved up.

    The last input of the result is one that it ignores.
    """
    return _each_bit_twice(tables.astype(np.uint64), 1 << (k - 1)).astype(tables.dtype)


def _each_bit_twice(tables: npt.NDArray[np.uint64], bits: int) -> npt.NDArray[np.uint64]:
    """Return tables whose bits 2 i and 2 i + 1 are bit i of the lowest `bits` given."""
    out = np.zeros_like(tables)
    for i in range(bits):
        out |= ((tables >> np.uint64(i)) & np.uint64(1)) * np.uint64(3 << (2 * i))
    return out


def depends_on(tables: IntegerTables, k: int, j: int) -> npt.NDArray[np.bool_]:
    """Return (n,) bool: whether each table of `k` inputs depends on input j."""
    result: npt.NDArray[np.bool_] = ((tables >> index_stride(k, j)) ^ tables) & complement_table(
        k, j
    ) != 0
    return result


# Restricted, complemented and reordered inputs


def cofactor(tables: IntegerTables, k: int, j: int, value: bool) -> IntegerTables:
    """Return the tables with input j fixed to `value`, on which they then no longer depend."""
    stride = index_stride(k, j)
    if value:
        high = tables & variable_table(k, j)
        return high | (high >> stride)
    low = tables & complement_table(k, j)
    return low | (low << stride)


def complement_input(tables: IntegerTables, k: int, j: int) -> IntegerTables:
    """Return the tables of the same functions of the complement of input j."""
    stride = index_stride(k, j)
    high, low = tables & variable_table(k, j), tables & complement_table(k, j)
    return (high >> stride) | (low << stride)


def complement_inputs(
    tables: npt.NDArray[np.int64], a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return two-input tables with the inputs complemented for which (n,) `a` and `b` are True."""
    tables = np.where(a, complement_input(tables, 2, 0), tables)
    return np.where(b, complement_input(tables, 2, 1), tables)


def swap_inputs(tables: IntegerTables, k: int = 2, i: int = 0, j: int = 1) -> IntegerTables:
    """Return the tables with inputs i < j exchanged."""
    distance = index_stride(k, i) - index_stride(k, j)
    # The bits where input i is False and j True change places with those the other way round.
    moved = ((tables >> distance) ^ tables) & (complement_table(k, i) & variable_table(k, j))
    swapped: IntegerTables = tables ^ moved ^ (moved << distance)
    return swapped


def merge_adjacent_inputs(tables: IntegerTables, k: int, j: int) -> IntegerTables:
    """Return the tables for the case that inputs j and j + 1 are equal, over input j alone."""
    high: IntegerTables = cofactor(tables, k, j + 1, True) & variable_table(k, j)
    low: IntegerTables = cofactor(tables, k, j + 1, False) & complement_table(k, j)
    return high | low


def permute_inputs(tables: IntegerTables, order: Sequence[int]) -> IntegerTables:
    """Return the tables over reordered inputs: new input c is the old input `order[c]`.

    `order` is a permutation of all inputs.
    """
    k = len(order)
    current, result = list(range(k)), tables
    for position, variable in enumerate(order):
        place = current.index(variable)
        if place != position:
            result = swap_inputs(result, k, position, place)
            current[position], current[place] = current[place], current[position]
    return result


def reverse_inputs(tables: IntegerTables, k: int) -> npt.NDArray[np.uint64]:
    """Return the tables with their inputs in the opposite order, as uint64.

    This translates between the index order of this module and the one of cuts, in which the first
    leaf is the least significant index bit.
    """
    return permute_inputs(tables.astype(np.uint64), range(k)[::-1])


def canonicalize_order(
    tables: npt.NDArray[np.uint64], k: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return the least table of each function up to the order of its inputs (P-equivalence).

    Returns the tables (n,) and the orders (n, k) that give them, as `permute_inputs` takes them:
    of several orders, the first in lexicographic order. All k! orders are tried.
    """
    best = tables.copy()
    order = np.tile(np.arange(k), (len(tables), 1))
    for permutation in itertools.islice(itertools.permutations(range(k)), 1, None):
        permuted = permute_inputs(tables, permutation)
        better = permuted < best
        best[better] = permuted[better]
        order[better] = permutation
    return best, order
