"""Operators that only move elements: torch moves their numbers, and the elements follow.

Indexing, views, padding, joining and scattering are run by torch itself on a tensor of element
numbers. What comes out says which element is where, so no rule of indexing is written twice.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from lgir.frontend.trace.context import Context, Refused, Symbolic
from lgir.frontend.trace.counts import as_counts, counted, stacked
from lgir.frontend.trace.functions import Functions, concatenate
from lgir.frontend.trace.numbers import CountBlock, InputBlock, Numbers
from lgir.frontend.trace.operators.table import Call, handles
from lgir.frontend.trace.settling import settle
from lgir.frontend.trace.thresholds import to_functions

_VIEWS: Final = (
    "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "numpy_T", "expand",
    "unsqueeze", "squeeze", "clone", "alias", "detach", "contiguous", "lift_fresh", "view_as",
    "lift_fresh_copy", "flatten", "unflatten", "movedim", "swapaxes", "swapdims", "expand_as",
    "detach_", "_reshape_alias", "broadcast_to", "positive", "resolve_conj", "resolve_neg",
    "_conj", "reshape_as", "atleast_1d", "atleast_2d",
)  # fmt: skip
"""Operators after which every element is still there, as the same function."""

_SELECTIONS: Final = (
    "slice", "select", "split", "split_with_sizes", "unbind", "chunk", "narrow",
    "diagonal", "unfold", "flip", "fliplr", "flipud", "roll", "rot90", "repeat", "tile",
    "repeat_interleave", "as_strided", "take", "take_along_dim", "tensor_split", "pixel_shuffle",
    "pixel_unshuffle", "channel_shuffle", "narrow_copy", "upsample_nearest2d",
    "upsample_nearest1d", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d",
    "replication_pad1d", "replication_pad2d", "replication_pad3d", "slice_copy", "select_copy",
    "masked_select",
)  # fmt: skip
"""Operators that pick elements: what they pick from becomes gates of its own."""

_JOINS: Final = {
    "cat": (0,), "concat": (0,), "stack": (0,), "slice_scatter": (0, 1),
    "select_scatter": (0, 1), "diagonal_scatter": (0, 1), "index_put": (0, 2),
    "_unsafe_index_put": (0, 2), "scatter": (0, 3), "index_copy": (0, 3), "copy": (0, 1),
    "masked_scatter": (0, 2), "hstack": (0,), "vstack": (0,), "as_strided_scatter": (0, 1),
    "tril": (0,), "triu": (0,),
}  # fmt: skip
"""Operators with several operands of elements, and which arguments these are."""


@handles(*_VIEWS)
def view(context: Context, call: Call) -> Any:
    x = call.args[0]
    if x.size == int(np.prod(call.shape, dtype=np.int64)):
        _note_view(context, x, call.shape)
    return _move(context, call, [(0,)])


@handles(*_SELECTIONS)
def selection(context: Context, call: Call) -> Any:
    return _move(context, call, [(0,)], settled=True)


@handles(*_JOINS)
def join(context: Context, call: Call) -> Any:
    places: list[tuple[int, ...]] = []
    for place in _JOINS[call.name]:
        if place >= len(call.args):
            continue
        given = call.args[place]
        if isinstance(given, list | tuple):
            places += [(place, i) for i in range(len(given))]
        elif isinstance(given, Tensor | Functions | Numbers):
            places.append((place,))
        else:
            raise Refused("puts a number into a tensor by an index; use torch.where")
    return _move(context, call, places, settled=call.name not in ("cat", "stack", "copy"))


@handles("constant_pad_nd", "pad")
def pad(context: Context, call: Call) -> Any:
    x, amounts = call.args[:2]
    x = settle(x, context.netlist) if isinstance(x, Functions) else x
    mode = "constant" if call.name == "constant_pad_nd" else call.argument(2, "mode", "constant")
    if mode != "constant":
        numbers = torch.nn.functional.pad(_numbers_of(x.shape, 0).double(), amounts, mode=mode)
        return take_or_fill(context, x, numbers, 0)
    fill = call.argument(2 if call.name == "constant_pad_nd" else 3, "value")
    padded = torch.nn.functional.pad(_numbers_of(x.shape, 0), amounts, value=-1)
    return take_or_fill(context, x, padded, fill or 0)


@handles("im2col")
def unfold(context: Context, call: Call) -> Any:
    x = call.args[0]
    x = settle(x, context.netlist) if isinstance(x, Functions) else x
    columns = call.target(_numbers_of(x.shape, 1).double(), *call.args[1:], **call.kwargs)
    return take_or_fill(context, x, columns - 1, 0)


def take_or_fill(context: Context, x: Symbolic, index: Tensor, fill: float) -> Symbolic:
    """The elements at flat positions `index`, `fill` where that is -1."""
    flat = index.reshape(-1).numpy().astype(np.int64)
    shape = tuple(index.shape)
    if not (flat < 0).any():
        return x.take(flat, shape)
    value = torch.full((1,), fill, dtype=x.dtype)
    both = joined(context, [x, value])
    return both.take(np.where(flat < 0, x.size, flat), shape)


def _note_view(context: Context, x: Symbolic, shape: tuple[int, ...]) -> None:
    """Remember in what shape a layer's nets are read, to find the axes of its images later."""
    if isinstance(x, Numbers):
        for block in context.sources.blocks:
            if isinstance(block, InputBlock) and np.array_equal(
                x.source, block.base + np.arange(block.count)
            ):
                block.views.append(shape)
        return
    if x.width != 1 or not x.size or x.nets[0, 0] == 0:
        return
    layer = context.netlist.layer_of(int(x.nets[0, 0]))
    if layer.size == x.size and np.array_equal(x.nets[:, 0], layer.all_nets):
        layer.views.append(shape)


def _numbers_of(shape: tuple[int, ...], start: int) -> Tensor:
    size = int(np.prod(shape, dtype=np.int64))
    return torch.arange(start, start + size).reshape(shape)


def _move(
    context: Context, call: Call, places: list[tuple[int, ...]], settled: bool = False
) -> Any:
    """Run the operator on element numbers, and take the elements that it gives."""
    operands: list[Any] = []
    start = 0
    args = [list(a) if isinstance(a, list | tuple) else a for a in call.args]
    for place in places:
        holder: Any = args
        for step in place[:-1]:
            holder = holder[step]
        x = holder[place[-1]]
        if settled and isinstance(x, Functions):
            x = settle(x, context.netlist)
        operands.append(x)
        shape = tuple(x.shape)
        holder[place[-1]] = _numbers_of(shape, start)
        start += int(np.prod(shape, dtype=np.int64))
    _refuse_symbolic_index(args, call.kwargs)
    moved = _run(call, args)
    source = operands[0] if len(operands) == 1 else joined(context, operands)
    if isinstance(moved, Tensor):
        return _taken(context, source, moved)
    return type(moved)(_taken(context, source, part) for part in moved)


def _taken(context: Context, x: Symbolic, index: Tensor) -> Symbolic:
    flat = index.reshape(-1).long().numpy()
    if len(flat) == x.size and np.array_equal(flat, np.arange(x.size)):
        return x.reshaped(tuple(index.shape))
    return x.take(flat, tuple(index.shape))


def _run(call: Call, args: list[Any]) -> Any:
    kwargs = {k: v for k, v in call.kwargs.items() if k not in ("dtype", "memory_format")}
    try:
        return call.target(*args, **kwargs)
    except (RuntimeError, NotImplementedError):  # an operator that moves floats alone
        floats = [a.double() if isinstance(a, Tensor) and i == 0 else a for i, a in enumerate(args)]
        return call.target(*floats, **kwargs)


def _refuse_symbolic_index(args: list[Any], kwargs: dict[str, Any]) -> None:
    for a in [*args, *kwargs.values()]:
        for x in a if isinstance(a, list) else [a]:
            if isinstance(x, Functions | Numbers):
                raise Refused("indexes a tensor that depends on the input with such an index")


def joined(context: Context, operands: list[Any]) -> Symbolic:
    """All elements of several tensors, flat, one tensor after another."""
    symbolic = [x for x in operands if isinstance(x, Functions | Numbers)]
    size = sum(x.size if isinstance(x, Functions | Numbers) else x.numel() for x in operands)
    dtype = symbolic[0].dtype
    for x in operands:
        dtype = torch.promote_types(dtype, x.dtype)
    if all(isinstance(x, Functions) for x in symbolic):
        parts = [x if isinstance(x, Functions) else Functions.constant(x) for x in operands]
        parts = [_as_dtype(x, dtype) for x in parts]
        return concatenate(parts, (size,))
    if any(isinstance(x, Functions) and x.width for x in symbolic):
        return _joined_mixed(context, operands, dtype, size)
    numbers = [x for x in symbolic if isinstance(x, Numbers)]
    home = int(numbers[0].source[0])
    sources, chains = [], []
    for x in operands:
        if isinstance(x, Functions):
            x = x.tables[torch.from_numpy(x.number), 0]
        if isinstance(x, Numbers):
            sources.append(x.source)
            chains.append(
                x.number
                if x.dtype == dtype
                else context.chains.apply([x.number], lambda v: v[0].to(dtype))
            )
        else:
            flat = x.reshape(-1).to(dtype)
            sources.append(np.full(len(flat), home, np.int64))
            chains.append(context.chains.apply([flat], lambda v: v[0]))
    return Numbers((size,), np.concatenate(sources), np.concatenate(chains), dtype, context.origin)


def _joined_mixed(context: Context, operands: list[Any], dtype: torch.dtype, size: int) -> Symbolic:
    """Bits beside numbers: counts if the numbers are counts, else bits."""
    counts = True
    for x in operands:
        if isinstance(x, Numbers):
            owners = np.unique(context.sources.blocks_of(x.source))
            counts &= all(isinstance(context.sources.blocks[int(b)], CountBlock) for b in owners)
    if counts:
        forms = stacked([as_counts(context, x) for x in operands])
        return counted(context, forms, (size,), dtype)
    parts = []
    for x in operands:
        if isinstance(x, Numbers):
            x = to_functions(x, context)
        parts.append(_as_dtype(x if isinstance(x, Functions) else Functions.constant(x), dtype))
    return concatenate(parts, (size,))


def _as_dtype(x: Functions, dtype: torch.dtype) -> Functions:
    if x.dtype == dtype:
        return x
    return Functions(x.shape, x.nets, x.number, x.tables.to(dtype), x.origin)
