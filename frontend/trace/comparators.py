"""Comparators: whether a weighted sum of nets exceeds a number, as gates.

A sum of few nets is a table. Others are added in binary, by full adders of carry-save form, and
compared from the least significant bit.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from lgir.frontend.trace.context import Context, Refused
from lgir.frontend.trace.functions import Functions, apply_pointwise, widened
from lgir.frontend.trace.netlist import table_words
from lgir.frontend.trace.numbers import CountBlock
from lgir.frontend.trace.rows import Ints
from lgir.frontend.trace.settling import settle

Floats = npt.NDArray[np.float64]

_MOST_BITS: Final = 1 << 16


def exceeds(block: CountBlock, row: Ints, level: Floats, context: Context) -> Ints:
    """Nets of `sum > level` for some sums of a block, (m,) each."""
    nets = np.zeros(len(row), np.int64)
    sizes = np.diff(block.start)[row]
    for size in np.unique(sizes):
        here = np.flatnonzero(sizes == size)
        index = block.start[row[here]][:, None] + np.arange(size)
        weights = block.weights[index]
        step = np.abs(weights).min() if size else 1.0
        whole = np.round(weights / step)
        if (whole * step != weights).any() or np.abs(whole).max(initial=0) > _MOST_BITS:
            raise Refused(
                "compares a sum of bits with unequal real weights; the weights of a sum of more "
                "than six bits must be multiples of the smallest"
            )
        limit = np.floor((level[here] - block.bias[row[here]]) / step)
        found = _exceeds(block.nets[index], whole.astype(np.int64), limit.astype(np.int64), context)
        nets[here] = found
    return nets


def _exceeds(nets: Ints, weights: Ints, limit: Ints, context: Context) -> Ints:
    """Nets of `sum(weight * net) > limit`, (m, s) and (m,)."""
    count = len(nets)
    negative = weights < 0  # -w * x is w * (1 - x) - w
    limit = limit + np.where(negative, -weights, 0).sum(axis=1)
    size = np.abs(weights)
    columns: dict[int, list[Functions]] = {}
    for term in range(nets.shape[1]):
        literal = _literal(nets[:, term], negative[:, term], context)
        for place in range(int(size.max(initial=0)).bit_length()):
            present = (size[:, term] >> place & 1).astype(bool)
            if present.any():
                columns.setdefault(place, []).append(_where(present, literal, context))
    bits = _add(columns, count, context)
    total = Functions.constant(torch.zeros(count, dtype=torch.bool))
    for place, bit in enumerate(bits):  # from the least significant: exceeds so far
        at = Functions.constant(torch.from_numpy((limit >> place & 1).astype(bool)))
        total = _gate(lambda x: torch.where(x[1] == x[2], x[0], x[1]), [total, bit, at], context)
    never = limit >= 1 << len(bits)
    always = limit < 0
    fixed = Functions.constant(torch.from_numpy(always))
    pick = Functions.constant(torch.from_numpy(never | always))
    total = _gate(lambda x: torch.where(x[2], x[1], x[0]), [total, fixed, pick], context)
    return _as_nets(total, context)


def _add(columns: dict[int, list[Functions]], count: int, context: Context) -> list[Functions]:
    """The bits of the sum of the terms of each place, least significant first."""
    bits: list[Functions] = []
    place = 0
    while any(columns.get(p) for p in columns):
        terms = columns.pop(place, [])
        carry = columns.setdefault(place + 1, [])
        while len(terms) > 1:
            some, terms = terms[:3], terms[3:]
            if len(some) == 2:
                terms.append(_gate(lambda x: x[0] ^ x[1], some, context))
                carry.append(_gate(lambda x: x[0] & x[1], some, context))
            else:
                terms.append(_gate(lambda x: x[0] ^ x[1] ^ x[2], some, context))
                carry.append(_gate(lambda x: (x[0] & x[1]) | (x[2] & (x[0] | x[1])), some, context))
        bits.append(terms[0] if terms else Functions.constant(torch.zeros(count, dtype=torch.bool)))
        place += 1
        columns = {p: t for p, t in columns.items() if t}
    return bits


def _literal(nets: Ints, negated: npt.NDArray[np.bool_], context: Context) -> Functions:
    tables = torch.tensor([[False, True], [True, False]])
    return Functions(
        (len(nets),), nets.reshape(-1, 1), negated.astype(np.int64), tables, context.origin
    )


def _where(present: npt.NDArray[np.bool_], bit: Functions, context: Context) -> Functions:
    if present.all():
        return bit
    mask = Functions.constant(torch.from_numpy(present))
    return _gate(lambda x: x[0] & x[1], [bit, mask], context)


def _gate(evaluate, operands: list[Functions], context: Context) -> Functions:  # type: ignore[no-untyped-def]
    shape = (operands[0].size,)
    result = apply_pointwise(operands, evaluate, shape, context.origin)
    assert result is not None
    return settle(result, context.netlist)


def _as_nets(bit: Functions, context: Context) -> Ints:
    """One net for each element, made anew unless it is one already."""
    plain = bit.width == 1 and bool(
        (bit.tables == torch.tensor([False, True])).all() and (bit.nets != 0).all()
    )
    if plain:
        return bit.nets[:, 0]
    width = max(bit.width, 1)
    nets = bit.nets if bit.width else np.zeros((bit.size, 1), np.int64)
    words = table_words(widened(bit.tables, bit.width, width).numpy())
    layer = context.netlist.add_gates((bit.size,), nets, words[bit.number], context.origin)
    return layer.all_nets
