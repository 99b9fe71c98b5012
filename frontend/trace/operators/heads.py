"""Heads: what a classifier does with its scores at the very end.

The IR gives scores, and an executable's `predict` their argmax. So an argmax, softmax or maximum
of scores is left to the caller: the graph's output is the scores, and the trace remembers the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lgir.frontend.trace.context import Context, Symbolic
from lgir.frontend.trace.functions import Functions
from lgir.frontend.trace.numbers import Numbers
from lgir.frontend.trace.operators.table import Call, handles


@dataclass(eq=False)
class Head:
    """Attributes:
    scores: what it is applied to.
    name: of the operator.
    apply: computes it from concrete scores.
    """

    scores: Symbolic
    name: str
    apply: Callable[[Tensor], Any]


@handles("argmax", "argmin", "_softmax", "_log_softmax", "softmax", "log_softmax", "topk", "sort")
def head(context: Context, call: Call) -> Any:
    x = call.args[0]

    def apply(scores: Tensor) -> Any:
        return call.target(scores, *call.args[1:], **call.kwargs)

    assert isinstance(x, Functions | Numbers)
    if isinstance(call.result, list | tuple):
        return tuple(
            Head(x, call.name, lambda s, i=i: apply(s)[i])  # type: ignore[misc]
            for i in range(len(call.result))
        )
    return Head(x, call.name, apply)
