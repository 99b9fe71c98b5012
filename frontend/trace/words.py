"""Words: integers that hold a bit of the network in each of their own bits.

`(bits << arange(n)).sum(-1)` packs bits, bitwise operators work on all of them at once, and
`(word >> i) & 1` unpacks one. A word is a sum of nets weighted with distinct powers of two; each
operator is applied to the bits of every place.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from lgir.frontend.trace.context import Context, Refused, Symbolic
from lgir.frontend.trace.counts import Forms, as_counts, counted
from lgir.frontend.trace.functions import Functions, Shape, apply_pointwise
from lgir.frontend.trace.linear import functions_of_forms
from lgir.frontend.trace.netlist import table_words
from lgir.frontend.trace.numbers import Numbers
from lgir.frontend.trace.settling import settle

_BINARY: Final = {
    "bitwise_and": torch.bitwise_and, "__and__": torch.bitwise_and,
    "bitwise_or": torch.bitwise_or, "__or__": torch.bitwise_or,
    "bitwise_xor": torch.bitwise_xor, "__xor__": torch.bitwise_xor,
}  # fmt: skip
_SHIFTS: Final = {
    "bitwise_left_shift": 1, "__lshift__": 1, "bitwise_right_shift": -1, "__rshift__": -1,
}  # fmt: skip


def bitwise(context: Context, call: Any) -> Symbolic | None:
    """Apply a bitwise operator to words; None for another operator or no integers."""
    name, dtype = call.name, call.result.dtype
    if dtype.is_floating_point or dtype == torch.bool:
        return None
    width = dtype.itemsize * 8
    shape = call.shape
    if name in ("remainder", "floor_divide") or (
        name == "div" and call.kwargs.get("rounding_mode") == "floor"
    ):
        power = call.args[1]
        if not isinstance(power, int) or power < 1 or power & (power - 1):
            return None
        places = word_bits(context, call.args[0], shape, width)
        step = power.bit_length() - 1
        if name == "remainder":
            return word_of(context, _masked(context, places, width, step), shape, dtype)
        return word_of(context, _shifted(context, places, width, -step), shape, dtype)
    if name == "bitwise_not":
        places = word_bits(context, call.args[0], shape, width)
        return word_of(context, _apply(context, torch.logical_not, [places]), shape, dtype)
    if name in _BINARY:
        operands = [word_bits(context, x, shape, width) for x in call.args[:2]]
        return word_of(context, _apply(context, _BINARY[name], operands), shape, dtype)
    if name in _SHIFTS:
        places = word_bits(context, call.args[0], shape, width)
        shift = call.args[1]
        if isinstance(shift, Functions | Numbers):
            return None
        amount = torch.as_tensor(shift).expand(shape).reshape(-1).numpy().astype(np.int64)
        moved = _shifted(context, places, width, _SHIFTS[name] * amount)
        return word_of(context, moved, shape, dtype)
    return None


def word_bits(context: Context, x: Any, shape: Shape, width: int) -> Functions:
    """The bits of integers that broadcast to `shape`, (n, width) bool, least significant first."""
    if not isinstance(x, Functions | Numbers):
        values = torch.as_tensor(x).expand(shape).reshape(-1, 1).long()
        return Functions.constant((values >> torch.arange(width) & 1).bool())
    wide = x.spread(shape)
    if isinstance(wide, Functions):
        places = torch.arange(width)
        column = wide.reshaped((wide.size, 1))
        found = apply_pointwise(
            [column, Functions.constant(places)],
            lambda v: (v[0].long() >> v[1] & 1).bool(),
            (wide.size, width),
            context.origin,
        )
        assert found is not None
        return found
    forms = as_counts(context, wide)
    row = np.repeat(np.arange(wide.size), np.diff(forms.start))
    whole = forms.weights.astype(np.int64)
    cells, nets_of_cells = [], []
    for place in range(width):
        has = np.flatnonzero(whole >> place & 1)
        cells.append(row[has] * width + place)
        nets_of_cells.append(forms.nets[has])
    cell = np.concatenate(cells)
    bias = forms.bias.astype(np.int64)
    exact = (whole == forms.weights).all() and (bias == forms.bias).all()
    if not exact or len(np.unique(cell)) < len(cell):
        raise Refused(
            "works on the bits of a sum that is no word: the bits that it packs must be multiplied "
            "with different powers of two"
        )
    fixed = (bias[:, None] >> np.arange(width) & 1).astype(bool)
    if fixed.reshape(-1)[cell].any():
        raise Refused("works on the bits of a sum in which a constant carries; use | to set bits")
    nets = np.zeros(wide.size * width, np.int64)
    nets[cell] = np.concatenate(nets_of_cells)
    number = np.where(nets != 0, 0, 1 + fixed.reshape(-1))
    tables = torch.tensor([[False, True], [False, False], [True, True]])
    return Functions((wide.size, width), nets[:, None], number, tables, context.origin)


def word_of(context: Context, bits: Functions, shape: Shape, dtype: torch.dtype) -> Symbolic:
    """Integers from their bits (n, width); of few nets as a table, else as a form."""
    count, width = bits.shape
    bits = _as_literals(context, settle(bits, context.netlist))
    weights = 2.0 ** np.arange(width)
    if dtype != torch.uint8:
        weights[-1] *= -1
    forms = as_counts(context, bits)
    column = np.repeat(np.arange(count * width) % width, np.diff(forms.start))
    start = forms.start[::width]
    scaled = forms.weights * weights[column]
    bias = (forms.bias.reshape(count, width) * weights).sum(axis=1)
    sizes = np.diff(start)
    if sizes.max(initial=0) <= 6:
        return functions_of_forms(context, Forms(start, forms.nets, scaled, bias), shape, dtype)
    return counted(context, Forms(start, forms.nets, scaled, bias), shape, dtype)


def _as_literals(context: Context, bits: Functions) -> Functions:
    """The same bits, complements of nets being nets of their own: a word has no negative bits."""
    if bits.width != 1 or not bool((bits.tables[:, 0] > bits.tables[:, 1]).any()):
        return bits
    words = table_words(bits.tables.numpy())
    layer = context.netlist.add_gates(bits.shape, bits.nets, words[bits.number], context.origin)
    varies = (bits.tables[:, 0] != bits.tables[:, 1]).numpy()[bits.number]
    tables = torch.tensor([[False, True], [False, False], [True, True]])
    number = np.where(varies, 0, 1 + bits.tables[:, 0].numpy()[bits.number])
    nets = np.where(varies, layer.all_nets, 0)[:, None]
    return Functions(bits.shape, nets, number, tables, context.origin)


def _apply(context: Context, operator: Any, operands: list[Functions]) -> Functions:
    shape = operands[0].shape

    def evaluate(values: list[Tensor]) -> Tensor:
        return operator(*values)

    found = apply_pointwise(operands, evaluate, shape, context.origin)
    if found is None:
        settled = [settle(x, context.netlist) for x in operands]
        found = apply_pointwise(settled, evaluate, shape, context.origin)
    assert found is not None
    return found


def _masked(context: Context, places: Functions, width: int, below: int) -> Functions:
    mask = Functions.constant(torch.arange(width) < below)
    return _apply(context, torch.logical_and, [places, mask.spread(places.shape)])


def _shifted(context: Context, places: Functions, width: int, amount: Any) -> Functions:
    """Bits moved up by `amount` places, or down if negative: the sign bit, the last, fills in."""
    count = places.shape[0]
    each = np.broadcast_to(amount, (count,))[:, None]
    place = np.arange(width) - each
    inside = (place >= 0) & (place < width)
    index = np.arange(count)[:, None] * width + np.clip(place, 0, width - 1)
    moved = places.take(index.reshape(-1), places.shape)
    # Right of the top comes the sign bit, which is never set in the words that networks pack.
    mask = Functions.constant(torch.from_numpy(inside | (place >= width)))
    return _apply(context, torch.logical_and, [moved, mask])
