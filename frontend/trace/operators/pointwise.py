"""Elementwise operators, all in one way: torch evaluates them on tables and on chains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from lgir.frontend.trace.context import Context, Refused, Symbolic
from lgir.frontend.trace.counts import add_counts
from lgir.frontend.trace.functions import Functions, Shape, apply_pointwise
from lgir.frontend.trace.numbers import CountBlock, Numbers
from lgir.frontend.trace.operators.table import Call, handles
from lgir.frontend.trace.settling import settle
from lgir.frontend.trace.thresholds import to_functions
from lgir.frontend.trace.words import bitwise

_MORE: Final = (
    "_to_copy", "to", "where", "clamp", "clamp_min", "clamp_max", "lerp", "addcmul", "addcdiv",
    "masked_fill", "heaviside", "isclose", "type_as", "hardtanh", "gelu", "silu", "prelu",
    "fake_quantize_per_tensor_affine",
)  # fmt: skip
"""Elementwise operators that torch does not tag as such everywhere."""


_COMPARISONS: Final = ("gt", "ge", "lt", "le", "eq", "ne")


def is_pointwise(target: Any) -> bool:
    return torch.Tag.pointwise in getattr(target, "tags", ())


@handles(*_MORE)
def pointwise(context: Context, call: Call) -> Symbolic:
    """Apply an elementwise operator to symbolic and concrete tensors that broadcast."""
    operands: list[Any] = []

    def slot(x: Any) -> Any:
        if isinstance(x, Functions | Numbers) or (isinstance(x, Tensor) and x.ndim > 0):
            operands.append(x)
            return _Slot(len(operands) - 1)
        return x

    args = [slot(x) for x in call.args]
    kwargs = {key: slot(x) for key, x in call.kwargs.items() if key != "memory_format"}
    if call.name == "_to_copy":
        kwargs = {"dtype": kwargs.get("dtype", call.result.dtype)}

    def evaluate(values: list[Tensor]) -> Tensor:
        filled = [values[a.place] if isinstance(a, _Slot) else a for a in args]
        named = {key: values[a.place] if isinstance(a, _Slot) else a for key, a in kwargs.items()}
        out: Tensor = call.target(*filled, **named)
        return out

    return combine(context, operands, evaluate, call.shape, call)


@handles("bucketize", "searchsorted")
def buckets(context: Context, call: Call) -> Symbolic:
    """Number the interval of concrete boundaries that each element lies in."""
    place = 0 if call.name == "bucketize" else 1
    x, boundaries = call.args[place], call.args[1 - place]
    if not isinstance(boundaries, Tensor) or boundaries.ndim != 1:
        raise Refused("searches boundaries that depend on the input, or rows of them")

    def evaluate(values: list[Tensor]) -> Tensor:
        args = [boundaries, boundaries]
        args[place] = values[0].contiguous()
        out: Tensor = call.target(*args, **call.kwargs)
        return out

    return combine(context, [x], evaluate, call.shape)


class _Slot:
    """The place of an operand among the arguments."""

    def __init__(self, place: int) -> None:
        self.place = place


def combine(
    context: Context,
    operands: list[Any],
    evaluate: Callable[[list[Tensor]], Tensor],
    shape: Shape,
    call: Call | None = None,
) -> Symbolic:
    """Apply `evaluate` to operands that broadcast to `shape`, element by element.

    Raises Refused if an element would depend on more bits than a table holds, or on several
    numbers.
    """
    if any(isinstance(x, Numbers) for x in operands):
        if call is not None and any(_is_word(context, x) for x in operands):
            word = bitwise(context, call)
            if word is not None:
                return word
        result = _combine_numbers(context, operands, evaluate, shape)
        if result is not None:
            return result
        if call is not None:
            result = add_counts(context, call) or bitwise(context, call)
            if result is not None:
                return result
            if call.name in _COMPARISONS and sum(_is_number(x) for x in operands) > 1:
                return _compare_sums(context, call)
        operands = [to_functions(x, context) if isinstance(x, Numbers) else x for x in operands]
    functions = [x if isinstance(x, Functions) else Functions.constant(x) for x in operands]
    found = apply_pointwise(functions, evaluate, shape, context.origin)
    if found is None:
        settled = [settle(x, context.netlist) for x in functions]
        found = apply_pointwise(settled, evaluate, shape, context.origin)
    if found is not None:
        return found
    if call is not None and call.name in _COMPARISONS:
        return _compare_sums(context, call)
    if call is not None:
        counted = add_counts(context, call) or bitwise(context, call)
        if counted is not None:
            return counted
    raise Refused(
        "combines values of more than six bits that are not sums of them; a gate has at most six "
        "inputs"
    )


def _is_number(x: Any) -> bool:
    return isinstance(x, Numbers)


def _compare_sums(context: Context, call: Call) -> Symbolic:
    """Compare two sums of bits by their difference."""
    operands = list(call.args[:2])
    zero = torch.zeros(call.shape, dtype=torch.float64, device="meta")
    # Integers are compared as doubles, so that the difference of unsigned ones does not wrap.
    difference = add_counts(context, Call("sub", None, tuple(operands), {}, zero))
    assert difference is not None
    return combine(
        context, [difference], lambda v: call.target(v[0], torch.zeros_like(v[0])), call.shape
    )


def _is_word(context: Context, x: Any) -> bool:
    """Whether a tensor holds integers that are sums of bits."""
    if not isinstance(x, Numbers) or x.dtype.is_floating_point:
        return False
    owners = np.unique(context.sources.blocks_of(x.source))
    return all(isinstance(context.sources.blocks[int(b)], CountBlock) for b in owners)


def _combine_numbers(
    context: Context,
    operands: list[Any],
    evaluate: Callable[[list[Tensor]], Tensor],
    shape: Shape,
) -> Symbolic | None:
    """Chains one function deeper, if all elements read the same number; else None."""
    spread = []
    source = None
    for x in operands:
        if isinstance(x, Functions):
            if x.width:
                return None
            x = x.tables[torch.from_numpy(x.number), 0].reshape(x.shape)
        if isinstance(x, Numbers):
            wide = x.spread(shape)
            if source is not None and not np.array_equal(source, wide.source):
                return None
            source = wide.source
            spread.append(wide.number)
        else:
            spread.append(x.expand(shape).reshape(-1))
    assert source is not None
    number = context.chains.apply(spread, evaluate)
    probe = evaluate_dtype(context, source, number)
    result = Numbers(shape, source, number, probe, context.origin)
    return to_functions(result, context) if probe == torch.bool else result


def evaluate_dtype(context: Context, source: Any, number: Any) -> torch.dtype:
    """The dtype that a chain gives."""
    if not len(number):
        return torch.float32
    block = context.sources.blocks[int(context.sources.blocks_of(source[:1])[0])]
    x = torch.zeros((1, 1), dtype=block.dtype)
    return context.chains.evaluate(number[:1], x).dtype
