"""Products with concrete matrices and kernels: selections if one-hot, else weighted sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lgir.frontend.trace.context import Context, Refused, Symbolic
from lgir.frontend.trace.functions import Functions
from lgir.frontend.trace.linear import weighted_sum
from lgir.frontend.trace.numbers import Numbers
from lgir.frontend.trace.operators.pointwise import combine
from lgir.frontend.trace.operators.reductions import total
from lgir.frontend.trace.operators.table import Call, handles
from lgir.frontend.trace.operators.windows import transposed_index, window_index


def _is_symbolic(x: Any) -> bool:
    return isinstance(x, Functions | Numbers)


@handles("mm", "bmm", "matmul", "mv", "dot", "linear", "addmm", "baddbmm")
def product(context: Context, call: Call) -> Symbolic:
    """(..., m, k) times (..., k, n), of which one is concrete, and a bias."""
    bias: Any = None
    if call.name in ("addmm", "baddbmm"):
        bias, left, right = call.args[:3]
        if call.kwargs.get("alpha", 1) != 1 or call.kwargs.get("beta", 1) != 1:
            raise Refused("scales a product by alpha or beta")
    elif call.name == "linear":
        left, right, *rest = call.args
        bias = rest[0] if rest else None
        right = right.t()
    else:
        left, right = call.args[:2]
    left_shape, right_shape = list(left.shape), list(right.shape)
    if len(left_shape) == 1:
        left_shape.insert(0, 1)
    if len(right_shape) == 1:
        right_shape.append(1)
    lead = torch.broadcast_shapes(tuple(left_shape[:-2]), tuple(right_shape[:-2]))
    rows, inner, columns = left_shape[-2], left_shape[-1], right_shape[-1]
    shape = (*lead, rows, columns)
    if _is_symbolic(left) and _is_symbolic(right):
        result = _both_symbolic(context, left, right, left_shape, right_shape, shape, call)
    else:
        symbolic, matrix = (left, right) if _is_symbolic(left) else (right, left)
        own = left_shape if symbolic is left else right_shape
        places = np.arange(symbolic.size).reshape(own)
        if symbolic is right:  # (a b)^T = b^T a^T
            places = places.swapaxes(-1, -2)
            weights = matrix.reshape(left_shape).transpose(-1, -2)
            rows, columns = columns, rows
        else:
            weights = matrix.reshape(right_shape)
        places = np.broadcast_to(places, (*lead, rows, inner)).reshape(-1, rows, inner)
        weights = weights.expand(*lead, inner, columns).reshape(-1, inner, columns)
        result = _times_matrix(context, symbolic, places, weights, call)
        flat = np.arange(result.size).reshape(*lead, rows, columns)
        if symbolic is right:
            flat = flat.swapaxes(-1, -2)
        result = result.take(flat.reshape(-1), shape)
    if bias is not None:
        result = combine(context, [result, bias], lambda v: v[0] + v[1], shape)
    return result.reshaped(call.shape)


def _times_matrix(
    context: Context, x: Symbolic, places: Any, weights: Tensor, call: Call
) -> Symbolic:
    """Elements `places` (b, m, k) times concrete `weights` (b, k, n), as (b, m, n)."""
    batch, rows, _ = places.shape
    columns = weights.shape[2]
    b, j, k = (i.numpy() for i in weights.transpose(1, 2).nonzero(as_tuple=True))
    values = weights[torch.from_numpy(b), torch.from_numpy(k), torch.from_numpy(j)]
    # Entries in the order of (b, j, k), repeated for each of the m rows.
    counts = np.bincount(b * columns + j, minlength=batch * columns).reshape(batch, 1, columns)
    counts = np.broadcast_to(counts, (batch, rows, columns))
    start = np.concatenate([[0], np.cumsum(counts.reshape(-1))])
    per_batch = np.bincount(b, minlength=batch)
    first = np.concatenate([[0], np.cumsum(per_batch)])
    entry = np.concatenate(
        [np.tile(np.arange(first[i], first[i + 1]), rows) for i in range(batch)]
        or [np.zeros(0, np.int64)]
    ).astype(np.int64)
    row = np.concatenate(
        [np.repeat(np.arange(rows), per_batch[i]) for i in range(batch)] or [np.zeros(0, np.int64)]
    ).astype(np.int64)
    index = places[b[entry], row, k[entry]]
    return weighted_sum(
        context, x, start, index, values[torch.from_numpy(entry)], (batch * rows * columns,),
        call.result.dtype,
    )  # fmt: skip


def _both_symbolic(
    context: Context,
    left: Symbolic,
    right: Symbolic,
    left_shape: list[int],
    right_shape: list[int],
    shape: Any,
    call: Call,
) -> Symbolic:
    if int(np.prod(shape)) * left_shape[-1] > 1 << 26:
        raise Refused("multiplies two large matrices that both depend on the input")
    wide = (*shape[:-2], shape[-2], left_shape[-1], shape[-1])
    a = left.reshaped((*left_shape, 1))
    b = right.reshaped((*right_shape[:-2], 1, *right_shape[-2:]))
    products = combine(context, [a, b], lambda v: v[0] * v[1], wide)
    meta = torch.empty(shape, dtype=call.result.dtype, device="meta")
    result: Symbolic = total(context, Call("sum", None, (products, [-2]), {}, meta))
    return result


@handles("convolution", "conv1d", "conv2d", "conv3d")
def convolution(context: Context, call: Call) -> Symbolic:
    """Convolution with a concrete kernel, any number of axes."""
    x, weight = call.args[:2]
    bias = call.argument(2, "bias")
    if _is_symbolic(weight) or not _is_symbolic(x):
        raise Refused("convolves with a kernel that depends on the input")
    if call.name == "convolution":
        stride, padding, dilation, transposed, _, groups = call.args[3:9]
    else:
        stride, padding, dilation = (call.argument(i, n, d) for i, n, d in (
            (3, "stride", 1), (4, "padding", 0), (5, "dilation", 1)))  # fmt: skip
        transposed, groups = False, call.argument(6, "groups", 1)
    axes = weight.ndim - 2
    batch, channels = x.shape[:2]
    geometry = (x.shape[2:], weight.shape[2:], stride, padding, dilation, call.shape[2:], axes)
    if transposed:
        index = transposed_index(*geometry)
        # (in, out / groups, ...) as the kernel of a convolution, (out, in / groups, ...)
        grouped = weight.reshape(groups, channels // groups, *weight.shape[1:])
        weight = grouped.transpose(1, 2).reshape(-1, channels // groups, *weight.shape[2:])
    else:
        index = window_index(*geometry)  # (positions, cells), -1 outside
    filters = weight.shape[0]
    positions, cells = index.shape
    area = int(np.prod(x.shape[2:]))
    flat = weight.reshape(filters, -1)  # (filters, channels / groups * cells)
    out, entry = (i.numpy() for i in flat.nonzero(as_tuple=True))
    channel = entry // cells + (out // (filters // groups)) * (channels // groups)
    cell = entry % cells
    values = flat[torch.from_numpy(out), torch.from_numpy(entry)]
    # Terms in the order (batch, filter, position, entry).
    per_filter = np.bincount(out, minlength=filters)
    first = np.concatenate([[0], np.cumsum(per_filter)])
    terms = np.concatenate(
        [np.tile(np.arange(first[f], first[f + 1]), positions) for f in range(filters)]
    ).astype(np.int64)
    at = np.concatenate(
        [np.repeat(np.arange(positions), per_filter[f]) for f in range(filters)]
    ).astype(np.int64)
    inside = index[at, cell[terms]]
    place = np.where(inside >= 0, channel[terms] * area + inside, -1)
    row = np.repeat(np.arange(filters * positions), np.repeat(per_filter, positions))
    keep = place >= 0
    place, row, picked = place[keep], row[keep], values[torch.from_numpy(terms[keep])]
    sizes = np.bincount(row, minlength=filters * positions)
    image = channels * area
    places = np.concatenate([place + b * image for b in range(batch)])
    start = np.concatenate([[0], np.cumsum(np.tile(sizes, batch))])
    wide_bias = None
    if bias is not None:
        wide_bias = bias.repeat_interleave(positions).repeat(batch)
    return weighted_sum(
        context, x, start, places, picked.repeat(batch), call.shape, call.result.dtype, wide_bias
    )
