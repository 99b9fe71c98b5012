"""Reductions over axes: sums become counts, and maxima and minima of bits trees of gates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lgir.frontend.trace.context import Context, Refused, Symbolic
from lgir.frontend.trace.functions import Functions, Shape, apply_pointwise
from lgir.frontend.trace.linear import weighted_sum
from lgir.frontend.trace.netlist import MAX_INPUTS
from lgir.frontend.trace.numbers import Numbers
from lgir.frontend.trace.operators.heads import head
from lgir.frontend.trace.operators.pointwise import combine, pointwise
from lgir.frontend.trace.operators.table import Call, handles
from lgir.frontend.trace.rows import Ints, merge_rows
from lgir.frontend.trace.settling import settle

Fold = Callable[[list[Tensor]], Tensor]


def reduced_rows(shape: Shape, axes: Any) -> tuple[Ints, Shape]:
    """(outputs, elements) flat positions that a reduction over `axes` joins, and the other axes."""
    rank = len(shape)
    if axes is None or (isinstance(axes, list | tuple) and not axes):
        axes = range(rank)
    elif isinstance(axes, int):
        axes = [axes]
    gone = sorted(a % rank for a in axes) if rank else []
    kept = [a for a in range(rank) if a not in gone]
    size = int(np.prod(shape, dtype=np.int64))
    order = np.arange(size).reshape(shape).transpose(*kept, *gone)
    left = tuple(shape[a] for a in kept)
    return order.reshape(int(np.prod(left, dtype=np.int64)), -1), left


@handles("sum", "mean", "nansum")
def total(context: Context, call: Call) -> Symbolic:
    x = call.args[0]
    rows, _ = reduced_rows(x.shape, call.argument(1, "dim"))
    dtype = call.result.dtype
    if x.dtype == torch.bool or x.dtype != dtype:
        x = combine(context, [x], lambda v: v[0].to(dtype), x.shape)
    count, length = rows.shape
    ones = torch.ones(rows.size, dtype=dtype)
    result = weighted_sum(
        context, x, np.arange(count + 1) * length, rows.reshape(-1), ones, call.shape, dtype
    )
    if call.name == "mean":
        return combine(context, [result], lambda v: v[0] / length, call.shape)
    return result


@handles("any", "amax", "max")
def maximum(context: Context, call: Call) -> Any:
    return _extreme(context, call, torch.maximum, as_bits=call.name == "any")


@handles("all", "amin", "min")
def minimum(context: Context, call: Call) -> Any:
    return _extreme(context, call, torch.minimum, as_bits=call.name == "all")


@handles("prod")
def product(context: Context, call: Call) -> Any:
    x = call.args[0]
    dtype = call.result.dtype
    if x.dtype != dtype:
        x = combine(context, [x], lambda v: v[0].to(dtype), x.shape)
    rows, _ = reduced_rows(x.shape, call.argument(1, "dim"))
    return fold(context, x, rows, call.shape, torch.mul)


@handles("median", "kthvalue", "mode")
def middle(context: Context, call: Call) -> Any:
    """Pick a value of each row by its rank, if the row reads few bits."""
    x = call.args[0]
    place = 2 if call.name == "kthvalue" else 1
    axis = call.argument(place, "dim", -1)
    pair = isinstance(call.result, list | tuple)
    rows, _ = reduced_rows(x.shape, axis if pair or call.name != "median" else None)
    shape = tuple(call.result[0].shape) if pair else call.shape
    operands = [x.take(np.ascontiguousarray(column), shape) for column in rows.T]

    def evaluate(values: list[Tensor]) -> Tensor:
        stacked = torch.stack(values, dim=-1)
        if call.name == "kthvalue":
            return torch.kthvalue(stacked, call.args[1], dim=-1).values
        found = torch.median if call.name == "median" else torch.mode
        return found(stacked, dim=-1).values

    result = combine(context, operands, evaluate, shape)
    return (result, None) if pair else result


def _extreme(context: Context, call: Call, operator: Any, as_bits: bool) -> Any:
    x = call.args[0]
    if len(call.args) > 1 and isinstance(call.args[1], Tensor | Functions | Numbers):
        return pointwise(context, call)
    if as_bits and x.dtype != torch.bool:
        x = combine(context, [x], lambda v: v[0] != 0, x.shape)
    rows, _ = reduced_rows(x.shape, call.argument(1, "dim"))
    pair = isinstance(call.result, list | tuple)
    shape = tuple(call.result[0].shape) if pair else call.shape
    if isinstance(x, Numbers) and rows.shape[1] > 1:
        return head(context, call)
    result = fold(context, x, rows, shape, operator)
    return (result, None) if pair else result


def fold(context: Context, x: Symbolic, rows: Ints, shape: Shape, operator: Any) -> Symbolic:
    """Join the elements of each row by a commutative operator such as torch.maximum."""

    def evaluate(v: list[Tensor]) -> Tensor:
        result: Tensor = operator(v[0], v[1])
        return result

    if rows.shape[1] == 1:
        return x.take(rows[:, 0], shape)
    if isinstance(x, Numbers):
        raise Refused("joins numbers of the input; compare them with thresholds first")
    if _same_reads(x, rows):
        found: Symbolic = x.take(rows[:, 0], shape)
        for column in range(1, rows.shape[1]):
            found = combine(context, [found, x.take(rows[:, column], shape)], evaluate, shape)
        return found
    return tree(context, settle(x, context.netlist), rows, shape, evaluate)


def _same_reads(x: Functions, rows: Ints) -> bool:
    """Whether all elements of each row read the same few nets."""
    nets = x.nets[rows[:, 0]]
    for column in range(1, rows.shape[1]):
        nets = merge_rows([nets, x.nets[rows[:, column]]])
        if nets.shape[1] > max(x.width, 2 if x.width == 1 else 0) or nets.shape[1] > MAX_INPUTS:
            return False
    return True


def tree(context: Context, x: Functions, rows: Ints, shape: Shape, evaluate: Fold) -> Functions:
    """Balanced trees of two-input gates over the elements of each row."""
    count = len(rows)
    current = x.take(rows.reshape(-1), (count, rows.shape[1]))
    while current.shape[1] > 1:
        width = current.shape[1]
        pairs = -(-width // 2)
        first = np.arange(count)[:, None] * width + 2 * np.arange(pairs)
        # An odd element passes through a gate of its own, so that a level reads only the one below.
        second = np.minimum(first + 1, np.arange(1, count + 1)[:, None] * width - 1)
        operands = [current.take(at.reshape(-1), (*shape, pairs)) for at in (first, second)]
        joined = apply_pointwise(operands, evaluate, (*shape, pairs), context.origin)
        if joined is None:
            raise Refused("joins values of more than six bits that are not two-valued")
        known = len(context.netlist.layers)
        current = settle(joined, context.netlist).reshaped((count, pairs))
        for layer in context.netlist.layers[known:]:
            layer.lanes = 1
        if current.width > 1:
            raise Refused("takes the extreme of values that are not bits")
    return current.reshaped(shape)
