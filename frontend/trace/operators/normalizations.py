"""Normalizations in eval mode: an affine function of each element."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lgir.frontend.trace.context import Context, Refused
from lgir.frontend.trace.operators.pointwise import combine
from lgir.frontend.trace.operators.table import Call, handles


@handles(
    "_native_batch_norm_legit_no_training",
    "native_batch_norm",
    "batch_norm",
)
def batch_norm(context: Context, call: Call) -> Any:
    """Normalize each element by its channel's statistics, by torch's own kernel."""
    x, weight, bias, mean, variance = call.args[:5]
    eps = call.args[6] if call.name == "_native_batch_norm_legit_no_training" else call.args[7]
    if mean is None or variance is None or (call.name != "_native_batch_norm_legit_no_training"
                                            and call.args[5]):  # fmt: skip
        raise Refused("normalizes by the statistics of the batch; evaluate with running ones")
    spread = (1, -1, *(1,) * (len(x.shape) - 2))
    parts = [p for p in (weight, bias, mean, variance) if p is not None]
    operands = [x, *(p.reshape(spread) for p in parts)]

    def evaluate(values: list[Tensor]) -> Tensor:
        rest = iter(values[1:])
        # Rows are channels here, each with its own statistics in all of its columns.
        given = [
            None if p is None else next(rest)[:, 0].contiguous()
            for p in (weight, bias, mean, variance)
        ]
        rows = values[0].contiguous()[None]
        result = torch.nn.functional.batch_norm(
            rows, given[2], given[3], given[0], given[1], False, 0.0, eps
        )
        return result[0]

    result = combine(context, operands, evaluate, tuple(x.shape))
    if isinstance(call.result, list | tuple):
        return (result, *(None,) * (len(call.result) - 1))
    return result
