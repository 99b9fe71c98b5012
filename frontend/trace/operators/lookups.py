"""Lookups: indexing whose index depends on the input, as LUT layers do."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from lgir.frontend.trace.context import Context, Refused, Symbolic
from lgir.frontend.trace.functions import Functions, simplified, tokens
from lgir.frontend.trace.netlist import MAX_INPUTS
from lgir.frontend.trace.numbers import Numbers
from lgir.frontend.trace.operators.pointwise import combine
from lgir.frontend.trace.operators.structural import selection
from lgir.frontend.trace.operators.table import Call, handles
from lgir.frontend.trace.rows import number_rows, number_wide_rows
from lgir.frontend.trace.settling import settle
from lgir.frontend.trace.thresholds import to_functions
from lgir.frontend.trace.words import word_bits

_MOST_ENTRIES: Final = 1 << MAX_INPUTS
_MOST_BITS: Final = 12


@handles("index", "_unsafe_index")
def index(context: Context, call: Call) -> Any:
    """Advanced indexing; by symbolic indices only if all other axes come first or last."""
    x, places = call.args[0], list(call.args[1])
    if not any(isinstance(p, Functions | Numbers) for p in places):
        return selection(context, call)
    places += [None] * (x.ndim if isinstance(x, Tensor) else len(x.shape))
    places = places[: len(x.shape)]
    axes = [i for i, p in enumerate(places) if p is not None]
    if axes != list(range(axes[0], axes[-1] + 1)):
        raise Refused("indexes axes that are not neighbors by values of the input")
    given = [places[i] for i in axes]
    sizes = [int(x.shape[i]) for i in axes]
    shape = torch.broadcast_shapes(*(tuple(g.shape) for g in given))
    flat: Any = None
    for place, size in zip(given, sizes, strict=True):
        if isinstance(place, Tensor) and place.dtype == torch.bool:
            raise Refused("selects elements by a mask; the number of elements would vary")
        place = _wrapped(context, place, size)
        if flat is None:
            flat = place
            continue

        def join(v: list[Tensor], size: int = size) -> Tensor:
            return v[0] * size + v[1]

        operands = [flat, place]
        flat = combine(context, operands, join, shape)
    before, after = tuple(x.shape[: axes[0]]), tuple(x.shape[axes[-1] + 1 :])
    lead = int(np.prod(before, dtype=np.int64))
    rest = int(np.prod(after, dtype=np.int64))
    size = int(np.prod(sizes))
    count = int(np.prod(shape, dtype=np.int64))
    # Element (l, i, r) of the result is x[l, flat[i], r].
    line = np.arange(lead)[:, None, None] * rest + np.arange(rest)
    line = np.broadcast_to(line, (lead, count, rest)).reshape(-1)
    which = np.broadcast_to(np.arange(count)[:, None], (lead, count, rest)).reshape(-1)
    chosen = flat.spread(tuple(shape)).take(which, call.shape)
    lines = _lines(x, lead, size, rest)
    return look_up(context, lines, line, chosen, call)


@handles("gather")
def gather(context: Context, call: Call) -> Any:
    x, axis, at = call.args[:3]
    if not isinstance(at, Functions | Numbers):
        return selection(context, call)
    axis %= len(x.shape)
    size = int(x.shape[axis])
    numbers = torch.arange(int(np.prod(x.shape)) // size)
    lead = int(np.prod(x.shape[:axis], dtype=np.int64))
    rest = int(np.prod(x.shape[axis + 1 :], dtype=np.int64))
    numbers = numbers.reshape(*x.shape[:axis], 1, *x.shape[axis + 1 :])
    window = tuple(slice(0, 1) if i == axis else slice(0, n) for i, n in enumerate(at.shape))
    line = numbers[window].expand(at.shape).reshape(-1).numpy()
    return look_up(context, _lines(x, lead, size, rest), line, at, call)


@handles("embedding")
def embedding(context: Context, call: Call) -> Any:
    table, at = call.args[:2]
    if isinstance(table, Functions | Numbers):
        raise Refused("looks up an embedding that depends on the input")
    entries, width = table.shape
    chosen = at.reshaped((at.size,)).take(np.repeat(np.arange(at.size), width), call.shape)
    line = np.tile(np.arange(width), at.size)
    return look_up(context, _lines(table, 1, entries, width), line, chosen, call)


@handles("index_select")
def index_select(context: Context, call: Call) -> Any:
    x, axis, at = call.args[:3]
    if not isinstance(at, Functions | Numbers):
        return selection(context, call)
    places: list[Any] = [None] * len(x.shape)
    places[axis] = at
    return index(context, Call("index", call.target, (x, places), {}, call.result))


def _wrapped(context: Context, place: Any, size: int) -> Any:
    """An index without negative entries."""
    if isinstance(place, Tensor) and place.ndim == 0:
        place = place.reshape(1)
    return combine(
        context,
        [place],
        lambda v: torch.where(v[0] < 0, v[0] + size, v[0]).long(),
        tuple(place.shape),
    )


def _lines(x: Any, lead: int, size: int, rest: int) -> Any:
    """The elements along the indexed axis: (lead * rest, size)."""
    order = np.arange(lead * size * rest).reshape(lead, size, rest).transpose(0, 2, 1)
    if isinstance(x, Tensor):
        return x.reshape(-1)[torch.from_numpy(order.reshape(-1).copy())].reshape(lead * rest, size)
    return x.take(order.reshape(-1), (lead * rest, size))


def look_up(context: Context, lines: Any, line: Any, at: Symbolic, call: Call) -> Symbolic:
    """Element i is lines[line[i], at[i]], of a concrete or symbolic tensor."""
    if isinstance(at, Numbers) and isinstance(lines, Tensor) and lines.shape[1] > _MOST_ENTRIES:
        return _look_up_wide(context, lines, line, at, call)
    if isinstance(at, Numbers):
        at = to_functions(at, context)
    if not isinstance(lines, Tensor):
        return _multiplexed(context, lines, line, at, call)
    known, first = number_wide_rows(tokens(lines.contiguous()).reshape(lines.shape))
    ids, row = number_rows([known[line], at.number])
    content = lines[torch.from_numpy(first[known[line][row]])]
    entry = at.tables[torch.from_numpy(at.number[row])].long().clamp(0, lines.shape[1] - 1)
    tables = content.gather(1, entry)
    reads = np.zeros((len(row), at.width), bool)
    reads[:] = at.nets[row] != 0
    return simplified(call.shape, at.nets, ids, tables, reads, context.origin)


def _look_up_wide(context: Context, lines: Tensor, line: Any, at: Numbers, call: Call) -> Symbolic:
    """Lookups by words of more than six bits: by the lower six, then chosen by the others."""
    width = int(lines.shape[1] - 1).bit_length()
    if width > _MOST_BITS:
        raise Refused(f"looks up a table of {lines.shape[1]} entries; gates are of a few inputs")
    places = word_bits(context, at, call.shape, 64)
    bits = [places.take(np.arange(at.size) * 64 + place, call.shape) for place in range(width)]
    padded = torch.zeros((lines.shape[0], 1 << width), dtype=lines.dtype)
    padded[:, : lines.shape[1]] = lines

    def number(values: list[Tensor]) -> Tensor:
        return sum(v.long() << i for i, v in enumerate(values))

    low = combine(context, list(bits[:MAX_INPUTS]), number, call.shape)
    size = 1 << MAX_INPUTS
    found = []
    for start in range(0, 1 << width, size):
        part = look_up(context, padded[:, start : start + size], line, low, call)
        found.append(settle(part, context.netlist) if isinstance(part, Functions) else part)
    for bit in bits[MAX_INPUTS:]:
        found = [
            combine(context, [bit, one, zero], lambda v: torch.where(v[0], v[1], v[2]), call.shape)
            for zero, one in zip(found[::2], found[1::2], strict=True)
        ]
        found = [settle(f, context.netlist) if isinstance(f, Functions) else f for f in found]
    return found[0]


def _multiplexed(
    context: Context, lines: Symbolic, line: Any, at: Functions, call: Call
) -> Symbolic:
    size = int(lines.shape[1])
    at = at.reshaped(call.shape)
    found: Symbolic = lines.take(line * size, call.shape)
    for entry in range(1, size):
        candidate = lines.take(line * size + entry, call.shape)

        def pick(v: list[Tensor], entry: int = entry) -> Tensor:
            return torch.where(v[0] == entry, v[1], v[2])

        found = combine(context, [at, candidate, found], pick, call.shape)
    return found
