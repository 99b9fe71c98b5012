"""Counts: sums of many bits as linear forms with exact weights.

A form is bias + sum of weight * net. Its arithmetic is the module's only as long as no operation
rounds, so weights must be multiples of a power of two small enough for the dtype; anything else is
a learned float layer, and refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lgir.frontend.trace.context import Context, Refused, Symbolic
from lgir.frontend.trace.functions import Functions, Shape, table_values
from lgir.frontend.trace.netlist import table_words
from lgir.frontend.trace.numbers import CountBlock, Numbers
from lgir.frontend.trace.rows import Ints, number_rows
from lgir.frontend.trace.settling import settle
from lgir.frontend.trace.thresholds import block_domain, quantum, to_functions

Floats = npt.NDArray[np.float64]

_MANTISSA: Final = {torch.float16: 11, torch.bfloat16: 8, torch.float32: 24}


@dataclass(eq=False)
class Forms:
    """Linear forms in CSR layout: form i has entries start[i]..start[i+1]."""

    start: Ints
    nets: Ints
    weights: Floats
    bias: Floats

    def take(self, index: Ints) -> Forms:
        sizes = np.diff(self.start)[index]
        entry = ragged(self.start[index], sizes)
        start = np.concatenate([[0], np.cumsum(sizes)])
        return Forms(start, self.nets[entry], self.weights[entry], self.bias[index])


def ragged(start: Ints, sizes: Ints) -> Ints:
    """The indices start[i] .. start[i] + sizes[i] - 1 of all i, one after another."""
    total = int(sizes.sum())
    ends = np.cumsum(sizes)
    return np.arange(total) - np.repeat(ends - sizes, sizes) + np.repeat(start, sizes)


def as_counts(context: Context, x: Symbolic | Tensor) -> Forms:
    """The elements as linear forms, exact. Raises Refused if one is none."""
    if isinstance(x, Tensor):
        x = Functions.constant(x)
    if isinstance(x, Functions):
        return _forms_of_functions(context, settle(x, context.netlist))
    forms: list[tuple[Ints, Forms]] = []
    owners = context.sources.blocks_of(x.source)
    for owner in np.unique(owners):
        block = context.sources.blocks[int(owner)]
        here = np.flatnonzero(owners == owner)
        if not isinstance(block, CountBlock):
            functions = to_functions(x.take(here, (len(here),)), context)
            forms.append((here, _forms_of_functions(context, settle(functions, context.netlist))))
            continue
        forms.append((here, _forms_of_counts(context, x, block, here)))
    if len(forms) == 1:
        return forms[0][1]
    return _interleaved(forms, x.size)


def _interleaved(parts: list[tuple[Ints, Forms]], size: int) -> Forms:
    place = np.empty(size, np.int64)
    place[np.concatenate([here for here, _ in parts])] = np.arange(size)
    return stacked([forms for _, forms in parts]).take(place)


def stacked(parts: list[Forms]) -> Forms:
    """The forms of several, one after another."""
    counts = np.concatenate([np.diff(p.start) for p in parts])
    return Forms(
        np.concatenate([[0], np.cumsum(counts)]),
        np.concatenate([p.nets for p in parts]),
        np.concatenate([p.weights for p in parts]),
        np.concatenate([p.bias for p in parts]),
    )


def _forms_of_counts(context: Context, x: Numbers, block: CountBlock, here: Ints) -> Forms:
    element = x.source[here] - block.base
    low, high = block.bounds()
    ids, first = number_rows(
        [x.number[here], low[element].view(np.int64), high[element].view(np.int64)]
    )
    slope, offset = np.ones(len(first)), np.zeros(len(first))
    for row, i in enumerate(first):
        number = x.number[here[i] : here[i] + 1]
        if number[0] == 0:
            continue
        domain = block_domain(block, int(element[i]))
        points = torch.from_numpy(domain).to(block.dtype)[None]
        values = context.chains.evaluate(number, points)[0].double().numpy()
        if len(domain) > 1:
            slope[row] = (values[-1] - values[0]) / (domain[-1] - domain[0])
        offset[row] = values[0] - slope[row] * domain[0]
        if not np.array_equal(values, offset[row] + slope[row] * domain):
            raise Refused(
                "adds numbers that were rounded (a count divided by a number that is no power of "
                "two, or another function of it); add the counts first and scale the sum"
            )
    sizes = np.diff(block.start)[element]
    entry = ragged(block.start[element], sizes)
    weights = block.weights[entry] * np.repeat(slope[ids], sizes)
    bias = block.bias[element] * slope[ids] + offset[ids]
    start = np.concatenate([[0], np.cumsum(sizes)])
    return Forms(start, block.nets[entry], weights, bias)


def _forms_of_functions(context: Context, x: Functions) -> Forms:
    """Each table as a sum of weighted nets, or of weighted gates for the values that it takes."""
    values = table_values(x.tables)
    count = len(values)
    base = values[:, 0]
    weights = (
        np.stack([values[:, 1 << column] - base for column in range(x.width)], axis=1)
        if x.width
        else np.zeros((count, 0))
    )
    entries = np.arange(1 << x.width)
    bits = (entries >> np.arange(x.width)[:, None]) & 1
    affine = (values == base[:, None] + weights @ bits).all(axis=1)
    if not affine.all():
        return _forms_by_values(context, x, values)
    row = weights[x.number]
    used = row != 0
    start = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    return Forms(start, x.nets[used], row[used], base[x.number])


def _forms_by_values(context: Context, x: Functions, values: Floats) -> Forms:
    """A form per element: its least value, and a gate for each step up from one to the next."""
    steps = [np.unique(row) for row in values]
    most = max(len(s) for s in steps)
    parts_nets, parts_weights = [], []
    for step in range(1, most):
        level = np.array([s[step] if len(s) > step else np.inf for s in steps])
        rise = np.array([s[step] - s[step - 1] if len(s) > step else 0.0 for s in steps])
        words = table_words(values >= level[:, None])
        layer = context.netlist.add_gates(x.shape, x.nets, words[x.number], x.origin)
        parts_nets.append(layer.all_nets)
        parts_weights.append(rise[x.number])
    nets = np.stack(parts_nets, axis=1)
    weights = np.stack(parts_weights, axis=1)
    used = weights != 0
    start = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    base = np.array([s[0] for s in steps])
    return Forms(start, nets[used], weights[used], base[x.number])


def counted(context: Context, forms: Forms, shape: Shape, dtype: torch.dtype) -> Numbers:
    """A tensor of linear forms. Raises Refused if the dtype would round them."""
    check_exact(forms, dtype)
    block = context.sources.add_counts(forms.start, forms.nets, forms.weights, forms.bias, dtype)
    source = block.base + np.arange(len(forms.bias))
    return Numbers(shape, source, np.zeros(len(source), np.int64), dtype, context.origin)


def check_exact(forms: Forms, dtype: torch.dtype) -> None:
    """Raises Refused if sums of these weights may round in `dtype`."""
    magnitude = np.concatenate([forms.weights, forms.bias])
    magnitude = np.unique(np.abs(magnitude[magnitude != 0]))
    if not len(magnitude):
        return
    total = np.abs(forms.bias) + _row_sums(np.abs(forms.weights), forms.start)
    step = quantum(magnitude)
    digits = _MANTISSA.get(dtype, 53 if dtype.is_floating_point else 64)
    if float(total.max()) / step > 2.0**digits:
        raise Refused(
            f"is a learned float layer: it sums bits with real weights, such as "
            f"{magnitude[0]:.6g} and {magnitude[-1]:.6g}, which is no Boolean function and no "
            "class count; lift the part of the model before it, or round its weights"
        )


def _row_sums(values: Floats, start: Ints) -> Floats:
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(total[start[1:]] - total[start[:-1]])


def add_counts(context: Context, call: Any) -> Numbers | None:
    """Sums, differences and constant multiples of linear forms; None for another operator."""
    if call.name not in ("add", "sub", "rsub", "mul", "neg", "div", "__lshift__",
                         "bitwise_left_shift"):  # fmt: skip
        return None
    shape = call.shape
    dtype = call.result.dtype
    x = call.args[0]
    if call.name == "neg":
        return counted(context, _scaled(as_counts(context, x), -1.0), shape, dtype)
    y = call.args[1]
    if call.name in ("mul", "div", "__lshift__", "bitwise_left_shift"):
        if call.kwargs.get("rounding_mode") is not None:
            return None
        if call.name == "mul" and not isinstance(x, Functions | Numbers):
            x, y = y, x
        if isinstance(y, Functions | Numbers) or not isinstance(x, Functions | Numbers):
            return None
        scale = torch.as_tensor(y, dtype=torch.float64)
        if call.name == "div":
            scale = 1.0 / scale
        elif call.name != "mul":
            scale = 2.0**scale
        wide = scale.expand(shape).reshape(-1).numpy()
        forms = as_counts(context, x.spread(shape))
        return counted(context, _scaled(forms, wide), shape, dtype)
    alpha = float(call.kwargs.get("alpha", 1))
    first, second = (1.0, alpha) if call.name == "add" else (1.0, -alpha)
    if call.name == "rsub":
        first, second = -alpha, 1.0
    left = _scaled(_spread_forms(context, x, shape), first)
    right = _scaled(_spread_forms(context, y, shape), second)
    return counted(context, summed(left, right), shape, dtype)


def _spread_forms(context: Context, x: Any, shape: Shape) -> Forms:
    if isinstance(x, Functions | Numbers):
        return as_counts(context, x.spread(shape))
    tensor = torch.as_tensor(x, dtype=torch.float64).expand(shape).reshape(-1)
    size = tensor.numel()
    empty = np.zeros(0, np.int64)
    return Forms(np.zeros(size + 1, np.int64), empty, empty.astype(float), tensor.numpy())


def _scaled(forms: Forms, scale: float | Floats) -> Forms:
    each = np.broadcast_to(scale, forms.bias.shape)
    weights = forms.weights * np.repeat(each, np.diff(forms.start))
    return Forms(forms.start, forms.nets, weights, forms.bias * each)


def summed(left: Forms, right: Forms) -> Forms:
    """The sums of forms in pairs."""
    size = len(left.bias)
    both = stacked([left, right])
    order = np.arange(2 * size).reshape(2, size).T.reshape(-1)
    pairs = both.take(order)
    return Forms(pairs.start[::2], pairs.nets, pairs.weights, left.bias + right.bias)


def weighted_forms(forms: Forms, start: Ints, index: Ints, weights: Floats, bias: Floats) -> Forms:
    """Sums over elements of forms: sum i is bias[i] + weights * forms[index] over its slice."""
    picked = _scaled(forms.take(index), weights)
    sizes = np.diff(picked.start)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    base = bias + _row_sums(picked.bias, start)
    return Forms(ends[start], picked.nets, picked.weights, base)
