"""Pools: the elements of sliding windows, joined."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lgir.frontend.trace.context import Context, Refused
from lgir.frontend.trace.functions import Functions, concatenate
from lgir.frontend.trace.linear import weighted_sum
from lgir.frontend.trace.numbers import Numbers
from lgir.frontend.trace.operators.pointwise import combine
from lgir.frontend.trace.operators.reductions import fold
from lgir.frontend.trace.operators.table import Call, handles
from lgir.frontend.trace.rows import Ints
from lgir.frontend.trace.settling import settle


def _each(value: Any, axes: int) -> list[int]:
    given = list(value) if isinstance(value, list | tuple) else [value]
    return given * axes if len(given) == 1 else given


def window_index(
    size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, space: Any, axes: int
) -> Ints:
    """(positions, cells) flat places in an image of `size` that windows read, -1 outside it."""
    steps, pads, gaps = (_each(v, axes) for v in (stride, padding, dilation))
    read = [
        np.arange(space[a])[:, None] * steps[a] - pads[a] + np.arange(kernel[a]) * gaps[a]
        for a in range(axes)
    ]
    return _flat_places(
        read, [(at >= 0) & (at < n) for at, n in zip(read, size, strict=True)], size
    )


def transposed_index(
    size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, space: Any, axes: int
) -> Ints:
    """`window_index` for a transposed convolution: cell k reads what is written to its place."""
    steps, pads, gaps = (_each(v, axes) for v in (stride, padding, dilation))
    read, inside = [], []
    for a in range(axes):
        at = np.arange(space[a])[:, None] + pads[a] - np.arange(kernel[a]) * gaps[a]
        place, rest = np.divmod(at, steps[a])
        read.append(place)
        inside.append((rest == 0) & (place >= 0) & (place < size[a]))
    return _flat_places(read, inside, size)


def _flat_places(read: list[Ints], inside: list[Any], size: Any) -> Ints:
    """Places along each axis, (positions, cells) each, as flat places; -1 if not inside."""
    place: Ints = np.zeros((1, 1), np.int64)
    within = np.ones((1, 1), bool)
    for at, here, length in zip(read, inside, size, strict=True):
        shape = (place.shape[0] * at.shape[0], place.shape[1] * at.shape[1])
        place = (place[:, None, :, None] * length + at[None, :, None, :]).reshape(shape)
        within = (within[:, None, :, None] & here[None, :, None, :]).reshape(shape)
    return np.where(within, place, -1)


@handles(
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices"
)
def max_pool(context: Context, call: Call) -> Any:
    x = call.args[0]
    pair = isinstance(call.result, list | tuple)
    shape = tuple(call.result[0].shape) if pair else call.shape
    axes = 1 if call.name == "max_pool1d" else 3 if "3d" in call.name else 2
    kernel = _each(call.args[1], axes)
    stride = call.argument(2, "stride") or kernel
    index = window_index(
        x.shape[-axes:], kernel, stride, call.argument(3, "padding", 0),
        call.argument(4, "dilation", 1), shape[-axes:], axes,
    )  # fmt: skip
    area = int(np.prod(x.shape[-axes:]))
    lead = x.size // area
    rows = np.where(index >= 0, np.arange(lead)[:, None, None] * area + index, -1)
    rows = rows.reshape(-1, index.shape[1])
    if isinstance(x, Numbers):
        raise Refused("pools numbers; threshold them first, since max(x) > t is any(x > t)")
    x = settle(x, context.netlist)
    if (rows < 0).any():
        least = x.tables.amin().reshape(1)
        x = concatenate([x, Functions.constant(least)], (x.size + 1,))
        rows = np.where(rows < 0, x.size - 1, rows)
    result = fold(context, x, rows, shape, torch.maximum)
    return (result, None) if pair else result


@handles("avg_pool1d", "avg_pool2d", "avg_pool3d")
def average_pool(context: Context, call: Call) -> Any:
    x = call.args[0]
    axes = int(call.name[-2])
    kernel = _each(call.args[1], axes)
    stride = call.argument(2, "stride") or kernel
    padding = call.argument(3, "padding", 0)
    index = window_index(x.shape[-axes:], kernel, stride, padding, 1, call.shape[-axes:], axes)
    include = call.argument(5, "count_include_pad", True)
    if (index < 0).any() and not include:
        raise Refused("averages windows of unequal size; pad before, or count_include_pad=True")
    area = int(np.prod(x.shape[-axes:]))
    lead = x.size // area
    rows = np.where(index >= 0, np.arange(lead)[:, None, None] * area + index, -1)
    rows = rows.reshape(-1, index.shape[1])
    sizes = (rows >= 0).sum(axis=1)
    flat = rows[rows >= 0]
    total = weighted_sum(
        context, x, np.concatenate([[0], np.cumsum(sizes)]), flat,
        torch.ones(len(flat), dtype=x.dtype), call.shape, x.dtype,
    )  # fmt: skip
    divisor = call.argument(6, "divisor_override") or index.shape[1]
    return combine(context, [total], lambda v: v[0] / divisor, call.shape)
