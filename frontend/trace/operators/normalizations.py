"""Normalizations in eval mode: an affine function of each element."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lgir.frontend.trace.context import Context
from lgir.frontend.trace.operators.pointwise import combine
from lgir.frontend.trace.operators.table import Call, handles


@handles(
    "_native_batch_norm_legit_no_training", "native_batch_norm", "batch_norm",
    "_native_batch_norm_legit",
)  # fmt: skip
def batch_norm(context: Context, call: Call) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias by channel, as torch computes it."""
    x, weight, bias, mean, variance = call.args[:5]
    eps = call.args[-1]
    spread = (1, -1, *(1,) * (len(x.shape) - 2))
    parts = [p for p in (weight, bias, mean, variance) if p is not None]
    operands = [x, *(p.reshape(spread) for p in parts)]

    def evaluate(values: list[Tensor]) -> Tensor:
        rest = iter(values[1:])
        given: list[Any] = [
            None if p is None else next(rest) for p in (weight, bias, mean, variance)
        ]
        scale = torch.rsqrt(given[3] + eps)
        alpha = scale if given[0] is None else scale * given[0]
        shift = -given[2] * alpha
        if given[1] is not None:
            shift = shift + given[1]
        return values[0] * alpha + shift

    result = combine(context, operands, evaluate, tuple(x.shape))
    if isinstance(call.result, list | tuple):
        return (result, *(None,) * (len(call.result) - 1))
    return result
