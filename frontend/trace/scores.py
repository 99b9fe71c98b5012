"""Outputs: bits as they are, and counts as GroupSum, whose arithmetic must be the module's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lgir.frontend.trace.context import Context, Refused, Symbolic
from lgir.frontend.trace.counts import Forms, as_counts, check_exact
from lgir.frontend.trace.emission import Emission
from lgir.frontend.trace.functions import Functions, widened
from lgir.frontend.trace.netlist import table_words
from lgir.frontend.trace.numbers import CountBlock, Numbers
from lgir.frontend.trace.rows import Ints
from lgir.frontend.trace.settling import settle
from lgir.frontend.trace.thresholds import quantum, to_functions
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.types import FALSE, FIRST_TAP, TRUE, Value

_MOST_COUNTED: Final = 1 << 26


@dataclass(eq=False)
class BitOutput:
    """Bits: `nets` (n,) in the order of `shape`."""

    nets: Ints
    shape: tuple[int, ...]


@dataclass(eq=False)
class ScoreOutput:
    """Counts: group g counts the literals of its slice; score (count + beta) / tau.

    A literal is a net, or its complement, or a constant: `kinds` 0, 1, 2 (False), 3 (True).
    """

    start: Ints
    nets: Ints
    kinds: Ints
    tau: float
    beta: float


def describe_output(context: Context, x: Any) -> BitOutput | ScoreOutput:
    """An output of the module as bits or scores. Raises Refused if it is neither."""
    if isinstance(x, Tensor):
        x = Functions.constant(x)
    if isinstance(x, Numbers) and not _is_count(context, x):
        x = to_functions(x, context)
    if isinstance(x, Functions):
        bits = _as_bits(context, x)
        if bits is not None:
            return bits
    return _as_scores(context, x)


def _is_count(context: Context, x: Numbers) -> bool:
    owners = np.unique(context.sources.blocks_of(x.source))
    return all(isinstance(context.sources.blocks[int(b)], CountBlock) for b in owners)


def _as_bits(context: Context, x: Functions) -> BitOutput | None:
    if not bool(((x.tables == 0) | (x.tables == 1)).all()):
        return None
    shape = tuple(x.shape[1:]) if len(x.shape) > 1 else tuple(x.shape)
    x = settle(x, context.netlist)
    nets = x.nets[:, 0] if x.width else np.zeros(x.size, np.int64)
    plain = x.width == 1 and bool(
        (x.tables[:, 0] == 0).all() and (x.tables[:, 1] == 1).all() and (nets != 0).all()
    )
    if not plain:
        width = max(1, x.width)
        rows = x.nets if x.width else nets[:, None]
        words = table_words(widened(x.tables, x.width, width).bool().numpy())
        layer = context.netlist.add_gates(x.shape, rows, words[x.number], x.origin)
        nets = layer.all_nets
    return BitOutput(nets, shape or (1,))


def _as_scores(context: Context, x: Symbolic) -> ScoreOutput:
    """Count literals for scores, exactly. Raises Refused if the IR's arithmetic gives others."""
    number = np.zeros(1, np.int64)
    if isinstance(x, Numbers):
        forms, number, dtype = _forms_of_scores(context, x)
    else:
        forms, dtype = as_counts(context, x), x.dtype
        try:
            check_exact(forms, dtype)
        except Refused:
            return _by_rank(context, x)
    start, nets, kinds, base, step = _literals(forms)
    most = int(np.diff(start).max(initial=0))
    values = torch.from_numpy(base + step * np.arange(most + 1)).to(dtype)[None]
    scores = context.chains.evaluate(number, values)[0].to(torch.float32).numpy()
    return ScoreOutput(start, nets, kinds, *_fitted(scores))


def _fitted(scores: npt.NDArray[np.float32]) -> tuple[float, float]:
    found = fit_scale(scores)
    if found is None:
        raise Refused(
            "computes scores from counts that are not (count + beta) / tau in float32; return the "
            "counts, or divide instead of multiplying by the reciprocal"
        )
    return found


def _forms_of_scores(context: Context, x: Numbers) -> tuple[Forms, Ints, torch.dtype]:
    """The counts, the function of them that gives all scores, and the dtype of the counts."""
    if len(np.unique(x.number)) > 1:  # exact sums of their own, or nothing that one tau gives
        try:
            return as_counts(context, x), np.zeros(1, np.int64), x.dtype
        except Refused:
            raise Refused(
                "scales the scores of its classes differently; the IR's scores are (count + beta) "
                "/ tau with one tau. Scale outside"
            ) from None
    block = context.sources.blocks[int(context.sources.blocks_of(x.source[:1])[0])]
    raw = Numbers(x.shape, x.source, np.zeros(x.size, np.int64), block.dtype, x.origin)
    return as_counts(context, raw), x.number[:1], block.dtype


def _by_rank(context: Context, x: Functions) -> ScoreOutput:
    """Scores that few bits give, as functions of the rank of each value among all of them."""
    known = torch.unique(x.tables)
    ranks = torch.searchsorted(known, x.tables.contiguous()).double()
    ranked = Functions(x.shape, x.nets, x.number, ranks, x.origin)
    start, nets, kinds, base, step = _literals(as_counts(context, ranked))
    if base != 0 or step != 1 or int(np.diff(start).max(initial=0)) >= len(known):
        raise Refused("computes scores of few bits that are no equal steps; return the counts")
    return ScoreOutput(start, nets, kinds, *_fitted(known.to(torch.float32).numpy()))


def _literals(forms: Forms) -> tuple[Ints, Ints, Ints, float, float]:
    """Forms as numbers of literals: value = base + step * count."""
    count = len(forms.bias)
    row = np.repeat(np.arange(count), np.diff(forms.start))
    negative = forms.weights < 0
    low = forms.bias + np.bincount(row[negative], forms.weights[negative], minlength=count)
    base = float(low.min())
    step = quantum(np.unique(np.abs(np.concatenate([forms.weights, low - base]))))
    if not len(forms.weights) and not (low - base).any():
        step = 1.0
    times = np.round(np.abs(forms.weights) / step).astype(np.int64)
    extra = np.round((low - base) / step).astype(np.int64)
    if float(times.sum() + extra.sum()) > _MOST_COUNTED:
        raise Refused("weighs the bits of its scores with numbers too large to count")
    sizes = np.bincount(row, times, minlength=count).astype(np.int64) + extra
    most = max(1, int(sizes.max(initial=0)))
    nets = np.zeros((count, most), np.int64)
    kinds = np.full((count, most), 2)
    entry = np.repeat(np.arange(len(row)), times)
    filled = np.bincount(row, times, minlength=count).astype(np.int64)
    begin = np.concatenate([[0], np.cumsum(filled)])
    column = np.arange(len(entry)) - begin[row[entry]]
    nets[row[entry], column] = forms.nets[entry]
    kinds[row[entry], column] = negative[entry]
    place = np.arange(most)
    kinds[(place >= filled[:, None]) & (place < (filled + extra)[:, None])] = 3
    start = np.arange(count + 1) * most
    return start, nets.reshape(-1), kinds.reshape(-1), base, step


def fit_scale(scores: npt.NDArray[np.float32]) -> tuple[float, float] | None:
    """(tau, beta) with which (count + beta) / tau gives `scores` of counts 0, 1, ..., exactly."""
    counts = np.arange(len(scores)).astype(np.float32)
    if len(scores) < 2:
        return (1.0, float(scores[0])) if len(scores) else (1.0, 0.0)
    slope = (float(scores[-1]) - float(scores[0])) / (len(scores) - 1)
    if not np.isfinite(slope) or slope == 0:
        return None
    guess = np.float32(1 / slope)
    taus = [np.float32(round(1 / slope, digits)) for digits in range(9)]
    for towards in (np.inf, -np.inf):
        near = guess
        for _ in range(8):
            taus.append(near)
            near = np.nextafter(near, np.float32(towards))
    for tau in dict.fromkeys(float(t) for t in taus if t):
        exact = float(scores[0]) * tau
        betas = [round(exact, digits) for digits in range(9)] + [exact]
        for beta in dict.fromkeys(float(np.float32(b)) + 0.0 for b in betas):
            with np.errstate(all="ignore"):
                given = (counts + np.float32(beta)) / np.float32(tau)
            if np.array_equal(given, scores):
                return tau, beta
    return None


def emit_output(
    builder: GraphBuilder, emission: Emission, output: BitOutput | ScoreOutput, name: str
) -> Value:
    """The output as a value of the graph."""
    if isinstance(output, BitOutput):
        flat = _gathered(builder, emission, output.nets, np.zeros_like(output.nets), None)
        return flat if flat.shape == output.shape else builder.reshape(flat, output.shape)
    bits = _gathered(builder, emission, output.nets, output.kinds, None)
    return builder.group_sum(bits, len(output.start) - 1, output.tau, output.beta, name)


def _gathered(
    builder: GraphBuilder, emission: Emission, nets: Ints, kinds: Ints, name: str | None
) -> Value:
    """Literals as one flat value: a stored one if they are just that."""
    real = kinds < 2
    values, which, place = emission.find(np.where(real, nets, 0))
    if (
        len(values) == 1
        and (kinds == 0).all()
        and len(place) == values[0].size
        and (place == np.arange(len(place))).all()
    ):
        return values[0]
    if not values:
        values = [emission._any_bits(0)]
    keys = np.stack([which, place], axis=1)[real]
    taps, index = np.unique(keys, axis=0, return_inverse=True)
    index = index.reshape(-1)
    net = np.full(len(nets), FALSE)
    net[kinds == 3] = TRUE
    net[real] = FIRST_TAP + index
    negated = kinds == 1
    inverted, order = np.unique(net[negated], return_inverse=True)
    first_gate = FIRST_TAP + len(taps)
    net[negated] = first_gate + order.reshape(-1)
    body = Body.build(
        taps if len(taps) else np.zeros((0, 2), np.int64),
        inverted.reshape(-1, 1), np.ones(len(inverted), np.int64), net,
    )  # fmt: skip
    return builder.logic(values, body, name=name)
