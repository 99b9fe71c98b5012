"""Functions: tensors whose elements are functions of at most six nets, with values of any dtype.

An element is a row of nets and the number of a table; equal tables are kept once, so an operation
on millions of elements evaluates a few tables. Values are torch's own: an operator is applied to
the tables by torch itself, in the module's dtype, so that its arithmetic need not be modeled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lgir.frontend.trace.netlist import MAX_INPUTS, Origin
from lgir.frontend.trace.rows import (
    Ints,
    merge_rows,
    number_rows,
    number_wide_rows,
    place_codes,
    sort_descending,
    spread_index,
)

Shape = tuple[int, ...]

_UNUSED: Final = 7


@dataclass(eq=False)
class Functions:
    """Attributes:
    shape: of the tensor, as torch sees it.
    nets: (n, k) int64, 0 <= k <= 6, descending, 0 where unused.
    number: (n,) int64, row of `tables`.
    tables: (m, 2**k) values; index bit j is the value of the net in column j.
    origin: what computed the values.
    """

    shape: Shape
    nets: Ints
    number: Ints
    tables: Tensor
    origin: Origin = field(default_factory=Origin)
    settled: Functions | None = field(default=None, repr=False)

    @property
    def dtype(self) -> torch.dtype:
        return self.tables.dtype

    @property
    def size(self) -> int:
        return len(self.number)

    @property
    def width(self) -> int:
        return int(self.nets.shape[1])

    @staticmethod
    def of_nets(shape: Shape, nets: Ints, dtype: torch.dtype, origin: Origin) -> Functions:
        """The nets themselves, as 0 and 1 of `dtype`."""
        tables = torch.tensor([[0, 1]]).to(dtype)
        return Functions(shape, nets.reshape(-1, 1), np.zeros(nets.size, np.int64), tables, origin)

    @staticmethod
    def constant(values: Tensor) -> Functions:
        """A concrete tensor, each distinct value a table."""
        flat = values.detach().reshape(-1)
        ids, first = number_rows([tokens(flat)])
        tables = flat[torch.from_numpy(first)].reshape(-1, 1)
        return Functions(tuple(values.shape), np.zeros((len(ids), 0), np.int64), ids, tables)

    def take(self, index: Ints, shape: Shape) -> Functions:
        """The elements at flat positions `index`, as a tensor of `shape`."""
        return Functions(shape, self.nets[index], self.number[index], self.tables, self.origin)

    def reshaped(self, shape: Shape) -> Functions:
        return Functions(shape, self.nets, self.number, self.tables, self.origin)

    def spread(self, shape: Shape) -> Functions:
        """The tensor broadcast to `shape`."""
        index = spread_index(self.shape, shape)
        return self if index is None else self.take(index, shape)

    def values_are_constant(self) -> bool:
        return self.width == 0


def tokens(values: Tensor) -> npt.NDArray[Any]:
    """Integers that are equal if and only if the values are, bit for bit."""
    flat = values.detach().contiguous()
    if flat.dtype == torch.bool:
        return np.asarray(flat.to(torch.uint8).numpy())
    if flat.is_floating_point():
        kinds = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
        flat = flat.view(kinds[flat.dtype.itemsize])
    return np.asarray(flat.numpy())


def widened(tables: Tensor, width: int, to: int) -> Tensor:
    """Tables of `width` inputs as tables of `to`, ignoring the new ones."""
    return tables.repeat(1, 1 << (to - width)) if to > width else tables


def concatenate(parts: Sequence[Functions], shape: Shape) -> Functions:
    """The elements of several tensors of one dtype, one after another."""
    width = max(part.width for part in parts)
    nets = np.zeros((sum(part.size for part in parts), width), np.int64)
    numbers, tables, start, known = [], [], 0, 0
    for part in parts:
        nets[start : start + part.size, : part.width] = part.nets
        numbers.append(part.number + known)
        tables.append(widened(part.tables, part.width, width))
        start += part.size
        known += len(part.tables)
    merged = torch.cat(tables)
    ids, first = number_wide_rows(tokens(merged))
    number = ids[np.concatenate(numbers)] if numbers else np.zeros(0, np.int64)
    origin = next((p.origin for p in parts if p.width), parts[0].origin)
    return Functions(shape, nets, number, merged[torch.from_numpy(first)], origin)


def apply_pointwise(
    operands: Sequence[Functions],
    evaluate: Callable[[list[Tensor]], Tensor],
    shape: Shape,
    origin: Origin,
) -> Functions | None:
    """Apply an elementwise operator to tensors that broadcast to `shape`.

    Args:
        evaluate: computes the operator on tables of equal shape, one per operand.

    Returns:
        The result, or None if some element would depend on more than six nets.
    """
    spread = [operand.spread(shape) for operand in operands]
    nets = merge_rows([operand.nets for operand in spread])
    if nets.shape[1] > MAX_INPUTS:
        return None
    if not nets.shape[1]:
        nets = np.zeros((spread[0].size, 0), np.int64)
    width = nets.shape[1]
    columns, codes = [], []
    for operand in spread:
        if operand.width == 0:
            code = np.zeros(operand.size, np.int64)
        elif operand.nets is nets:
            code = _identity_code(nets)
        else:
            code = place_codes(operand.nets, nets, _UNUSED)
        columns += [operand.number, code]
        codes.append(code)
    ids, first = number_rows(columns)
    tables, reads = [], np.zeros((len(first), width), bool)
    for operand, code in zip(spread, codes, strict=True):
        picked = code[first]
        place = (picked[:, None] >> (3 * np.arange(operand.width))) & 7
        index = np.zeros((len(first), 1 << width), np.int64)
        everything = np.arange(1 << width)
        for column in range(operand.width):
            used = place[:, column] != _UNUSED
            shift = np.where(used, place[:, column], 0)
            bit = (everything >> shift[:, None]) & 1
            index |= np.where(used[:, None], bit << column, 0)
            reads[np.flatnonzero(used), shift[used]] = True
        rows = operand.tables[torch.from_numpy(operand.number[first])]
        tables.append(rows.gather(1, torch.from_numpy(index)))
    result = evaluate(tables)
    return simplified(shape, nets, ids, result, reads, origin)


def _identity_code(nets: Ints) -> Ints:
    code = np.zeros(len(nets), np.int64)
    for place, column in enumerate(nets.T):
        code |= np.where(column != 0, place, _UNUSED) << (3 * place)
    return code


def simplified(
    shape: Shape,
    nets: Ints,
    number: Ints,
    tables: Tensor,
    reads: npt.NDArray[np.bool_],
    origin: Origin,
) -> Functions:
    """Drop nets that a table ignores, and keep equal tables once.

    `reads` (m, k) says which columns of `nets` the elements of each table use.
    """
    width = nets.shape[1]
    keep = reads & dependence(tables, width)
    if (keep != reads).any() or (keep != np.sort(keep, axis=1)[:, ::-1]).any():
        kept = keep[number]
        nets = sort_descending(np.where(kept, nets, 0))
        tables = _compacted(tables, keep)
        width = int(keep.sum(axis=1).max(initial=0))
        nets, tables = nets[:, :width], tables[:, : 1 << width]
    ids, first = number_wide_rows(tokens(tables))
    return Functions(
        shape, np.ascontiguousarray(nets), ids[number], tables[torch.from_numpy(first)], origin
    )


def dependence(tables: Tensor, width: int) -> npt.NDArray[np.bool_]:
    """(m, k) bool: which inputs each table depends on."""
    values = tokens(tables)
    found = np.zeros((len(values), width), bool)
    for column in range(width):
        halves = values.reshape(len(values), -1, 2, 1 << column)
        found[:, column] = (halves[:, :, 0] != halves[:, :, 1]).any(axis=(1, 2))
    return found


def _compacted(tables: Tensor, keep: npt.NDArray[np.bool_]) -> Tensor:
    """The tables over the kept inputs alone, moved to the first columns."""
    width = keep.shape[1]
    codes = (keep << np.arange(width)).sum(axis=1)
    index = np.zeros((1 << width, 1 << width), np.int64)
    entries = np.arange(1 << width)
    for code in np.unique(codes):
        columns = [c for c in range(width) if code >> c & 1]
        for place, column in enumerate(columns):
            index[code] |= ((entries >> place) & 1) << column
    return tables.gather(1, torch.from_numpy(index[codes]))


def table_values(tables: Tensor) -> npt.NDArray[np.float64]:
    """Tables of any real dtype as float64."""
    return np.asarray(tables.double().numpy())
