"""Weighted sums of elements: what sums, products with matrices and convolutions come to."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lgir.frontend.trace.context import Context, Refused, Symbolic
from lgir.frontend.trace.counts import Forms, as_counts, counted, weighted_forms
from lgir.frontend.trace.functions import Functions, Shape, apply_pointwise, concatenate, simplified
from lgir.frontend.trace.netlist import MAX_INPUTS
from lgir.frontend.trace.numbers import CountBlock, Numbers
from lgir.frontend.trace.rows import Ints, merge_rows, number_rows
from lgir.frontend.trace.settling import settle
from lgir.frontend.trace.thresholds import to_functions

Floats = npt.NDArray[np.float64]

_MOST_TERMS: Final = 64


def weighted_sum(
    context: Context,
    x: Symbolic,
    start: Ints,
    index: Ints,
    weights: Tensor,
    shape: Shape,
    dtype: torch.dtype,
    bias: Tensor | None = None,
) -> Symbolic:
    """Sums of weighted elements, then a bias.

    Args:
        x: any symbolic tensor; `index` are flat positions in it.
        start: (n + 1,) where the terms of each sum begin in `index` and `weights`.
        weights: (len(index),) of x's dtype.
        bias: (n,), added last.

    Raises Refused if a sum is neither a function of few bits nor an exact count.
    """
    plain = bool((weights == 1).all())
    if isinstance(x, Numbers) and _reads_inputs(context, x):
        if (np.diff(start) == 1).all():
            return _selected(context, x, index, weights, shape, dtype, bias)
        x = _as_bits(context, x)
    if isinstance(x, Functions):
        few = _few_terms(context, x, start, index, None if plain else weights, shape, dtype, bias)
        if few is not None:
            return few
    offset = np.zeros(len(start) - 1) if bias is None else bias.double().numpy()
    forms = weighted_forms(as_counts(context, x), start, index, weights.double().numpy(), offset)
    return counted(context, forms, shape, dtype)


def _reads_inputs(context: Context, x: Numbers) -> bool:
    owners = np.unique(context.sources.blocks_of(x.source))
    return not all(isinstance(context.sources.blocks[int(b)], CountBlock) for b in owners)


def _as_bits(context: Context, x: Numbers) -> Functions:
    try:
        return to_functions(x, context)
    except Refused:
        raise Refused(
            "sums numbers of the input; lgir thresholds one number at a time. Binarize the input "
            "before it is filtered, or compute that part outside and lift the rest"
        ) from None


def _selected(
    context: Context,
    x: Numbers,
    index: Ints,
    weights: Tensor,
    shape: Shape,
    dtype: torch.dtype,
    bias: Tensor | None,
) -> Symbolic:
    """One number each, scaled."""
    picked = x.take(index, shape)
    number = picked.number
    if not bool((weights == 1).all()):
        number = context.chains.apply([number, weights], lambda v: v[0] * v[1])
    if bias is not None:
        number = context.chains.apply([number, bias.reshape(-1)], lambda v: v[0] + v[1])
    return Numbers(shape, picked.source, number, dtype, context.origin)


def _few_terms(
    context: Context,
    x: Functions,
    start: Ints,
    index: Ints,
    weights: Tensor | None,
    shape: Shape,
    dtype: torch.dtype,
    bias: Tensor | None,
) -> Functions | None:
    """The sums as functions of at most six nets, or None if they read more.

    Gates are made of the elements first unless the terms of each sum read the same nets anyway.
    """
    for settled in (False, True):
        source = settle(x, context.netlist) if settled else x
        found = _folded(context, source, start, index, weights, shape, dtype, bias, settled)
        if found is not None:
            return found
    return None


def _folded(
    context: Context,
    x: Functions,
    start: Ints,
    index: Ints,
    weights: Tensor | None,
    shape: Shape,
    dtype: torch.dtype,
    bias: Tensor | None,
    settled: bool,
) -> Functions | None:
    count = len(start) - 1
    zero = (x.tables == 0).all(dim=1).numpy()[x.number[index]]
    if weights is not None:
        zero |= (weights == 0).numpy()
    keep = np.flatnonzero(~zero)
    row = np.repeat(np.arange(count), np.diff(start))[keep]
    sizes = np.bincount(row, minlength=count)
    terms = int(sizes.max(initial=0))
    if terms > _MOST_TERMS:
        return None
    begin = np.concatenate([[0], np.cumsum(sizes)])
    matrix = np.full((count, max(terms, 1)), -1)
    matrix[row, np.arange(len(row)) - begin[row]] = keep
    nothing = Functions.constant(torch.zeros(1, dtype=x.dtype))
    source = concatenate([x, nothing], (x.size + 1,))
    element = np.where(matrix >= 0, np.append(index, x.size)[matrix], x.size)
    picked = [source.take(np.ascontiguousarray(element[:, t]), (count,)) for t in range(terms)]
    if not picked:
        picked = [source.take(element[:, 0], (count,))]
    nets = merge_rows([p.nets for p in picked])
    if nets.shape[1] > MAX_INPUTS:
        return None
    if not settled and x.width > 1 and nets.shape[1] > x.width:
        return None
    total: Functions | None = None
    for term, part in enumerate(picked):
        operands = [part]
        if weights is not None:
            scale = torch.where(
                torch.from_numpy(matrix[:, term] >= 0), weights[matrix[:, term]],
                torch.zeros((), dtype=weights.dtype),
            )  # fmt: skip
            operands.append(Functions.constant(scale))
        if total is not None:
            operands.insert(0, total)

        def evaluate(v: list[Tensor], has_total: bool = total is not None) -> Tensor:
            value = v[-2] * v[-1] if weights is not None else v[-1]
            value = value.to(dtype)
            return v[0] + value if has_total else value

        total = apply_pointwise(operands, evaluate, (count,), context.origin)
        if total is None:
            return None
    assert total is not None
    if bias is not None:
        total = apply_pointwise(
            [total, Functions.constant(bias.reshape(-1))],
            lambda v: v[0] + v[1],
            (count,),
            context.origin,
        )
        assert total is not None
    return total.reshaped(shape)


def functions_of_forms(
    context: Context, forms: Forms, shape: Shape, dtype: torch.dtype
) -> Functions:
    """Forms of at most six nets each as tables."""
    sizes = np.diff(forms.start)
    width = int(sizes.max(initial=0))
    count = len(sizes)
    nets = np.zeros((count, width), np.int64)
    weights = np.zeros((count, width))
    row = np.repeat(np.arange(count), sizes)
    column = np.arange(len(row)) - forms.start[row]
    nets[row, column], weights[row, column] = forms.nets, forms.weights
    order = np.argsort(-nets, axis=1, kind="stable")
    nets = np.take_along_axis(nets, order, axis=1)
    weights = np.take_along_axis(weights, order, axis=1)
    ids, first = number_rows(
        [forms.bias.view(np.int64), *(w.copy().view(np.int64) for w in weights.T)]
    )
    entries = np.arange(1 << width)
    values = np.repeat(forms.bias[first][:, None], 1 << width, axis=1)
    for place in range(width):
        values = values + weights[first][:, place, None] * (entries >> place & 1)
    tables = torch.from_numpy(values).to(dtype)
    reads = weights[first] != 0
    return simplified(shape, nets, ids, tables, reads, context.origin)
