"""Operators that add into places, and running sums, products and extremes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from lgir.frontend.trace.context import Context, Refused, Symbolic
from lgir.frontend.trace.functions import Functions, concatenate
from lgir.frontend.trace.linear import weighted_sum
from lgir.frontend.trace.numbers import Numbers
from lgir.frontend.trace.operators.pointwise import combine
from lgir.frontend.trace.operators.structural import joined
from lgir.frontend.trace.operators.table import Call, handles
from lgir.frontend.trace.rows import Ints

_RUNNING: Final = {"cumprod": torch.mul, "cummax": torch.maximum, "cummin": torch.minimum}


@handles("index_add", "scatter_add")
def add_into(context: Context, call: Call) -> Symbolic:
    """Sums of what is added into each place of a tensor."""
    x, axis, index, source = call.args[:4]
    if isinstance(index, Functions | Numbers):
        raise Refused("adds into places that depend on the input")
    if call.kwargs.get("alpha", 1) != 1:
        raise Refused("scales what it adds; multiply before")
    places = torch.arange(int(np.prod(call.shape))).reshape(call.shape)
    if call.name == "index_add":
        target = places.index_select(axis, index)
    else:
        target = places.gather(axis, index)
        window = tuple(slice(0, n) for n in index.shape)
        source = _cut(source, window)
    size = places.numel()
    everything = joined(context, [x, source])
    goal = np.concatenate([np.arange(size), target.reshape(-1).numpy()])
    order = np.argsort(goal, kind="stable")
    start = np.searchsorted(goal[order], np.arange(size + 1))
    ones = torch.ones(len(order), dtype=everything.dtype)
    return weighted_sum(context, everything, start, order, ones, call.shape, call.result.dtype)


def _cut(x: Any, window: tuple[slice, ...]) -> Any:
    if not isinstance(x, Functions | Numbers):
        return x[window]
    numbers = np.arange(x.size).reshape(x.shape)[window]
    return x.take(numbers.reshape(-1), numbers.shape)


@handles("cumsum")
def running_sum(context: Context, call: Call) -> Symbolic:
    x, axis = call.args[:2]
    dtype = call.result.dtype
    if x.dtype != dtype:
        x = combine(context, [x], lambda v: v[0].to(dtype), x.shape)
    lines, back = _lines(x.shape, axis)
    count, length = lines.shape
    taken = np.tril(np.ones((length, length), bool))
    index = np.broadcast_to(lines[:, None], (count, length, length))[:, taken]
    start = np.concatenate([[0], np.cumsum(np.tile(np.arange(1, length + 1), count))])
    ones = torch.ones(index.size, dtype=dtype)
    found = weighted_sum(context, x, start, index.reshape(-1), ones, (count * length,), dtype)
    return found.take(back, call.shape)


@handles("cumprod", "cummax", "cummin")
def running(context: Context, call: Call) -> Any:
    x, axis = call.args[:2]
    pair = isinstance(call.result, list | tuple)
    shape = tuple(x.shape)
    lines, back = _lines(shape, axis)
    operator = _RUNNING[call.name]
    found: list[Any] = [x.take(lines[:, 0], (len(lines),))]
    for column in range(1, lines.shape[1]):
        operands = [found[-1], x.take(lines[:, column], (len(lines),))]
        found.append(combine(context, operands, lambda v: operator(v[0], v[1]), (len(lines),)))
    if not all(isinstance(f, Functions) for f in found):
        raise Refused("runs along numbers; threshold them first")
    total = concatenate(found, (x.size,))
    # Element (line, column) stands at column * lines + line.
    order = np.arange(x.size).reshape(lines.shape[1], len(lines)).T.reshape(-1)
    result = total.take(order[back], shape)
    return (result, None) if pair else result


def _lines(shape: tuple[int, ...], axis: int) -> tuple[Ints, Ints]:
    """(lines, length) flat places along an axis, and where each element is among them."""
    order = np.moveaxis(np.arange(int(np.prod(shape))).reshape(shape), axis, -1)
    lines = order.reshape(-1, shape[axis])
    return lines, np.argsort(lines.reshape(-1))
