"""Numbers to bits: where a function of one number changes its value.

A function that takes few values over a number's range is given by the places where it changes: each
is a bit `x > t`, strict, as the IR's `Threshold` has it. For `u8` and counts all values are tried.
For `f32` a grid of floats is, and each change is bisected down to two neighboring floats, so that
thresholds are exact in the module's own arithmetic.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lgir.frontend.trace.comparators import exceeds
from lgir.frontend.trace.context import Context, Refused
from lgir.frontend.trace.functions import (
    Functions,
    apply_pointwise,
    concatenate,
    simplified,
    tokens,
)
from lgir.frontend.trace.netlist import MAX_INPUTS
from lgir.frontend.trace.numbers import Chains, CountBlock, InputBlock, Numbers
from lgir.frontend.trace.rows import Ints, number_rows, sort_descending
from lgir.frontend.trace.settling import settle

Floats = npt.NDArray[np.float64]

_MAX_CHANGES: Final = 256
_CHUNK: Final = 1 << 22
_GRID_STEP: Final = 1 << 22
_LARGEST: Final = 0x7F7F_FFFF


def to_functions(numbers: Numbers, context: Context) -> Functions:
    """The elements as functions of bits `number > t`.

    Raises Refused if an element takes too many values for that.
    """
    result: Functions | None = None
    blocks = context.sources.blocks_of(numbers.source)
    parts, order = [], []
    for owner in np.unique(blocks):
        block = context.sources.blocks[int(owner)]
        here = np.flatnonzero(blocks == owner)
        part = numbers.take(here, (len(here),))
        parts.append(_part_to_functions(part, block, context))
        order.append(here)
    if len(parts) == 1:
        return parts[0].reshaped(numbers.shape)
    result = concatenate(parts, (numbers.size,))
    back = np.empty(numbers.size, np.int64)
    back[np.concatenate(order)] = np.arange(numbers.size)
    return result.take(back, numbers.shape)


def _part_to_functions(
    numbers: Numbers, block: InputBlock | CountBlock, context: Context
) -> Functions:
    """The same for numbers of one block, given flat."""
    element = numbers.source - block.base
    if isinstance(block, InputBlock):
        kinds, first = number_rows([numbers.number])
        domain: list[Floats] | None = None
        if block.kind == "u8":
            changes = _changes_over(
                context.chains, numbers.number[first],
                [np.arange(256.0)] * len(first), block.dtype,
            )  # fmt: skip
        else:
            changes = _float_changes(context.chains, numbers.number[first], block.dtype)
    else:
        low, high = block.bounds()
        kinds, first = number_rows(
            [numbers.number, low[element].view(np.int64), high[element].view(np.int64)]
        )
        domain = [block_domain(block, int(element[i])) for i in first]
        changes = _changes_over(context.chains, numbers.number[first], domain, block.dtype)
    places, values = changes
    count = np.array([len(p) for p in places])
    if count.max(initial=0) > MAX_INPUTS:
        return _by_parity(numbers, block, kinds, places, values, context)
    width = int(count.max(initial=0))
    nets = np.zeros((numbers.size, width), np.int64)
    levels = np.zeros((len(first), width))
    for kind, place in enumerate(places):
        levels[kind, : len(place)] = place
    for column in range(width):
        used = np.flatnonzero(count[kinds] > column)
        nets[used, column] = _bits(block, element[used], levels[kinds[used], column], context)
    return _thermometer(numbers, nets, kinds, values, count, context)


def _thermometer(
    numbers: Numbers,
    nets: Ints,
    kinds: Ints,
    values: list[Tensor],
    count: Ints,
    context: Context,
) -> Functions:
    """Functions of bits of ascending thresholds: the value is that of as many changes as are set.

    Bits that contradict each other take the value of their number, which never occurs.
    """
    width = nets.shape[1]
    entries = np.arange(1 << width)
    dtype = values[0].dtype
    order = np.argsort(-nets, axis=1, kind="stable")
    # The nets may stand in any order: one table for each function and order of columns.
    code = (order << (3 * np.arange(width))).sum(axis=1) if width else np.zeros(len(nets), np.int64)
    ids, first = number_rows([kinds, code])
    tables = torch.empty((len(first), 1 << width), dtype=dtype)
    for row, element in enumerate(first):
        kind = int(kinds[element])
        ones = np.zeros(1 << width, np.int64)
        for column in range(width):
            if order[element, column] < count[kind]:
                ones += (entries >> column) & 1
        tables[row] = values[kind][torch.from_numpy(ones)]
    reads = np.arange(width) < count[kinds[first]][:, None]
    nets = sort_descending(nets)
    return simplified(numbers.shape, nets, ids, tables, reads, context.origin)


def _by_parity(
    numbers: Numbers,
    block: InputBlock | CountBlock,
    kinds: Ints,
    places: list[Floats],
    values: list[Tensor],
    context: Context,
) -> Functions:
    """Two-valued functions with many changes, as the exclusive or of their thresholds."""
    for value in values:
        if len(torch.unique(value)) > 2:
            raise Refused(
                f"takes {len(torch.unique(value))} values as a function of one number; compare it "
                "with a threshold first"
            )
    element = numbers.source - block.base
    width = max(len(place) for place in places)
    terms: list[Functions] = []
    for column in range(width):
        used = np.array([len(place) > column for place in places])[kinds]
        level = np.array([place[column] if len(place) > column else 0.0 for place in places])
        nets = np.zeros(numbers.size, np.int64)
        nets[used] = _bits(block, element[used], level[kinds[used]], context)
        terms.append(Functions.of_nets(numbers.shape, nets, torch.bool, context.origin))
    while len(terms) > 1:
        paired = []
        for left, right in zip(terms[::2], terms[1::2], strict=False):
            both = apply_pointwise(
                [left, right], lambda x: x[0] ^ x[1], numbers.shape, context.origin
            )
            assert both is not None
            paired.append(settle(both, context.netlist))
        terms = paired + ([terms[-1]] if len(terms) % 2 else [])
    ends = torch.stack([torch.stack([v[0], v[1] if len(v) > 1 else v[0]]) for v in values])
    ids, first = number_rows([terms[0].number, kinds])
    index = terms[0].tables[torch.from_numpy(terms[0].number[first])].long()
    tables = ends[torch.from_numpy(kinds[first])].gather(1, index)
    reads = np.ones((len(first), 1), bool) & (terms[0].nets[first] != 0)
    return simplified(numbers.shape, terms[0].nets, ids, tables, reads, context.origin)


def block_domain(block: CountBlock, row: int) -> Floats:
    """The values that a count can take, ascending, with those between."""
    _, weights, bias = block.row(row)
    if not len(weights):
        return np.array([bias])
    low, high = bias + np.minimum(weights, 0).sum(), bias + np.maximum(weights, 0).sum()
    step = quantum(weights)
    size = round((high - low) / step) + 1
    if size > 1 << 20:
        raise Refused(
            f"is a function of a number with {size:,} values; an index or a word of that many bits "
            "is more than a table can hold"
        )
    return np.asarray(low + step * np.arange(size))


def quantum(weights: Floats) -> float:
    """The greatest number of which all weights are integer multiples."""
    _, exponent = np.frexp(weights)
    scale = 2.0 ** (53 - float(exponent.max(initial=0)))
    whole = np.abs(np.round(weights * scale)).astype(object)
    step = int(np.gcd.reduce([int(w) for w in np.unique(whole)])) if len(whole) else 1
    return float(max(step, 1) / scale)


def _changes_over(
    chains: Chains, numbers: Ints, domains: list[Floats], dtype: torch.dtype
) -> tuple[list[Floats], list[Tensor]]:
    """For each function the numbers after which it changes, and its values between them."""
    places: list[Floats] = []
    values: list[Tensor] = []
    start = 0
    while start < len(numbers):
        domain = domains[start]
        stop = start
        while (
            stop < len(numbers)
            and (stop + 1 - start) * len(domain) <= max(_CHUNK, len(domain))
            and (domains[stop] is domain or np.array_equal(domains[stop], domain))
        ):
            stop += 1
        x = torch.from_numpy(domain).to(dtype).expand(stop - start, len(domain))
        table = chains.evaluate(numbers[start:stop], x)
        token = tokens(table)
        for row in range(stop - start):
            at = np.flatnonzero(token[row, 1:] != token[row, :-1])
            if len(at) > _MAX_CHANGES:
                raise _too_many(len(at) + 1)
            places.append(domain[at])
            values.append(table[row, torch.from_numpy(np.append(at, len(domain) - 1))])
        start = stop
    return places, values


def _too_many(count: int) -> Refused:
    return Refused(
        f"takes {count} values or more as a function of one number, so it is no threshold; compare "
        "it with a threshold, or round it, before gates read it"
    )


def _float_changes(
    chains: Chains, numbers: Ints, dtype: torch.dtype
) -> tuple[list[Floats], list[Tensor]]:
    """`_changes_over` for a float32 number."""
    grid = np.arange(-_LARGEST, _LARGEST + 1, _GRID_STEP)
    even = np.concatenate([np.linspace(-8, 8, 513), np.linspace(-256, 256, 513)])
    grid = np.unique(np.concatenate([grid, _ordinal(even.astype(np.float32)), [_LARGEST]]))
    rows = max(1, _CHUNK // len(grid))
    owner, low, high = [], [], []
    for start in range(0, len(numbers), rows):
        part = numbers[start : start + rows]
        x = torch.from_numpy(_float(grid)).to(dtype).expand(len(part), len(grid))
        token = tokens(chains.evaluate(part, x))
        row, column = np.nonzero(token[:, 1:] != token[:, :-1])
        many = np.bincount(row, minlength=len(part))
        if many.max(initial=0) > _MAX_CHANGES:
            raise _too_many(int(many.max()) + 1)
        owner.append(row + start)
        low.append(grid[column])
        high.append(grid[column + 1])
    who, a, b = np.concatenate(owner), np.concatenate(low), np.concatenate(high)
    who, a = _bisected(chains, numbers, who, a, b, dtype)
    places: list[Floats] = []
    values: list[Tensor] = []
    order = np.lexsort((a, who))
    who, a = who[order], a[order]
    bounds = np.searchsorted(who, np.arange(len(numbers) + 1))
    for index in range(len(numbers)):
        at = a[bounds[index] : bounds[index + 1]]
        points = torch.from_numpy(_float(np.append(at, _LARGEST))).to(dtype)
        places.append(_float(at).astype(np.float64))
        values.append(chains.evaluate(numbers[index : index + 1], points[None])[0])
    return places, values


def _bisected(
    chains: Chains, numbers: Ints, who: Ints, low: Ints, high: Ints, dtype: torch.dtype
) -> tuple[Ints, Ints]:
    """Every float after which function `who` changes, between `low` and `high` by ordinal."""
    done_who, done_low = [], []

    def evaluate(rows: Ints, at: Ints) -> npt.NDArray[np.int64]:
        x = torch.from_numpy(_float(at)).to(dtype)[:, None]
        return tokens(chains.evaluate(numbers[rows], x))[:, 0]

    while len(who):
        if len(who) > _MAX_CHANGES * max(1, len(numbers)):
            raise _too_many(_MAX_CHANGES)
        near = high - low == 1
        done_who.append(who[near])
        done_low.append(low[near])
        who, low, high = who[~near], low[~near], high[~near]
        if not len(who):
            break
        middle = (low + high) >> 1
        left, center, right = evaluate(who, low), evaluate(who, middle), evaluate(who, high)
        first, second = left != center, center != right
        who = np.concatenate([who[first], who[second]])
        low, high = (
            np.concatenate([low[first], middle[second]]),
            np.concatenate([middle[first], high[second]]),
        )
    return (
        np.concatenate(done_who or [np.zeros(0, np.int64)]),
        np.concatenate(done_low or [np.zeros(0, np.int64)]),
    )


def _ordinal(x: npt.NDArray[np.float32]) -> Ints:
    """Floats as integers of the same order; both zeros are 0."""
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits >= 0, bits, -(bits & 0x7FFF_FFFF))


def _float(ordinal: Ints) -> npt.NDArray[np.float32]:
    bits = np.where(ordinal >= 0, ordinal, -ordinal | 0x8000_0000)
    return bits.astype(np.uint32).view(np.float32)


def _bits(block: InputBlock | CountBlock, element: Ints, level: Floats, context: Context) -> Ints:
    """Nets of `number > level`."""
    if isinstance(block, CountBlock):
        return exceeds(block, element, level, context)
    netlist = context.netlist
    key = level.astype(np.float32)
    known = [x for x in netlist.layers if x.kind == "threshold" and x.input == block.input]
    elements = np.concatenate([*(x.element for x in known), element])
    levels = np.concatenate([*(x.level for x in known), key])
    nets = np.concatenate([*(x.all_nets for x in known), np.zeros(len(element), np.int64)])
    ids, first = number_rows([elements, levels.view(np.int32)])
    old = len(elements) - len(element)
    fresh = first[first >= old]
    layer = netlist.add_thresholds(block.input, elements[fresh], levels[fresh], context.origin)
    found = nets[first]
    found[first >= old] = layer.all_nets
    return found[ids[old:]]
