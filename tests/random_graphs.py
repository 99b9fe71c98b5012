"""Seeded random graphs and samples for differential tests.

Small and diverse rather than realistic: dense chains, padded and strided convolutions over images
and volumes, OR pools, skip connections, shared taps, constants, degenerate tables, fan-in 1 to 6,
every input type and shape of thresholds, scores and raw bits as outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.nodes import Threshold
from lgir.ir.truth_tables import full_mask, table_dtype, widen_table
from lgir.ir.types import FIRST_TAP, Value

PROPER = (1, 2, 4, 6, 7, 8, 9, 11, 13, 14)
"""Two-input tables that depend on both inputs."""
_SIMPLE_TABLES = (0b1000, 0b1110, 0b0110, 0b1001, 0b0111, 0b0001, 0b0010, 0b1011)
_DEGENERATE_TABLES = (0b0000, 0b1111, 0b1100, 0b1010, 0b0011, 0b0101)


def random_graph(
    seed: int,
    *,
    rank: int | None = None,
    dtype: str | None = None,
    max_gates: int = 40,
    max_fanin: int = 6,
    max_input_bits: int | None = None,
) -> Graph:
    """A small graph drawn from `seed`.

    Args:
        rank: axes of the first stages' iteration space, 0 (dense), 2 or 3; drawn by default.
        dtype: type of the first input, "bit", "u8" or "f32"; drawn by default.
        max_gates: gates in a body, at most.
        max_fanin: widest gate, at most.
        max_input_bits: a single bit input of at most so many elements, so that a test can try
            every sample.
    """
    rng = np.random.default_rng(seed)
    rank = int(rng.choice([0, 2, 3], p=[0.45, 0.4, 0.15])) if rank is None else rank
    dtype = str(rng.choice(["bit", "u8", "f32"])) if dtype is None else dtype
    b = GraphBuilder(f"random-{seed}", {"seed": str(seed)})
    if max_input_bits is not None:
        values = [b.input("x", "bit", _shape_within(rank, max_input_bits, rng))]
    else:
        values = [_encoded_input(b, "x", dtype, _random_shape(rank, rng), rng)]
        if rng.random() < 0.3:
            other = str(rng.choice(["bit", dtype]))
            values.append(_encoded_input(b, "z", other, _random_shape(rank, rng), rng))
    bits = list(values)

    def stage(rank: int) -> Value:
        sources = [bits[-1]]
        while rng.random() < 0.3 and len(sources) < 3:
            sources.append(bits[int(rng.integers(len(bits)))])
        stride = tuple(int(s) for s in rng.choice([1, 1, 1, 2, 3], size=rank))
        space = tuple(
            max(1, -(-size // s) + int(rng.integers(-1, 2)))
            for size, s in zip(sources[0].shape[1:], stride, strict=True)
        )
        body = random_body(
            [v.shape[0] for v in sources],
            rank,
            rng,
            gates=int(rng.integers(0, max_gates + 1)),
            k=int(rng.integers(1, max_fanin + 1)),
            outputs=int(rng.integers(1, 9)),
        )
        return b.logic(sources, body, space, stride)

    if rank:
        for _ in range(int(rng.integers(1, 4))):
            bits.append(stage(rank))
            if rng.random() < 0.5 and min(bits[-1].shape[1:]) >= 2:
                stride = (int(rng.choice([2, 2, 2, 1])),) * rank
                padding = (int(rng.random() < 0.2),) * rank
                bits.append(b.or_pool(bits[-1], (2,) * rank, stride, padding))
        flat = b.flatten(bits[-1])
        if len(bits) > 2 and rng.random() < 0.3:
            bits = [b.flatten(bits[int(rng.integers(len(bits)))]), flat]
        else:
            bits = [flat]
    for _ in range(int(rng.integers(0 if rank else 1, 4))):
        bits.append(stage(0))

    last = bits[-1]
    outputs = []
    if rng.random() < 0.7:
        groups = int(rng.choice([g for g in range(1, last.size + 1) if last.size % g == 0]))
        tau, beta = float(rng.choice([1.0, 3.0, 10.0])), float(rng.choice([0.0, 0.5]))
        outputs.append(b.group_sum(last, groups, tau, beta))
    if not outputs or rng.random() < 0.3:
        outputs.append(last)
    if rng.random() < 0.15:
        outputs.append(bits[int(rng.integers(len(bits)))])
    return b.build(*outputs)


def random_body(
    channels: list[int],
    rank: int,
    rng: np.random.Generator,
    *,
    gates: int,
    k: int,
    outputs: int,
    depth_bias: float | None = None,
) -> Body:
    """Random gates over random taps of inputs with these channel counts."""
    num_taps = int(rng.integers(0 if gates == 0 else 1, 13))
    source = rng.integers(len(channels), size=num_taps)
    channel = rng.integers(np.array(channels)[source], size=num_taps)
    offsets = rng.integers(-2, 4, size=(num_taps, rank))
    if rng.random() < 0.5:  # reads that never leave the input, so that pools can fuse
        offsets = np.abs(offsets) % 2
    taps = np.column_stack([source, channel, offsets]).astype(np.int32)
    fanin = np.zeros((gates, k), np.int32)
    table = np.zeros(gates, table_dtype(k))
    recent = float(rng.choice([0.0, 0.7])) if depth_bias is None else depth_bias
    irregular = float(rng.choice([0.0, 0.15, 0.4]))  # share of constants and degenerate tables
    for g in range(gates):
        gate = FIRST_TAP + num_taps + g
        arity = int(rng.integers(1, k + 1))
        nets = rng.integers(FIRST_TAP, gate, size=arity)
        close = rng.random(arity) < recent
        nets[close] = rng.integers(max(FIRST_TAP, gate - 4), gate, size=int(close.sum()))
        constant = rng.random(arity) < irregular / 4
        nets[constant] = rng.integers(0, 2, size=int(constant.sum()))
        fanin[g, :arity] = nets
        table[g] = _random_table(arity, k, irregular, rng)
    nets = rng.integers(FIRST_TAP if num_taps + gates else 0, FIRST_TAP + num_taps + gates, outputs)
    if gates:
        deep = rng.random(outputs) < 0.7
        first = FIRST_TAP + num_taps + gates // 2
        nets[deep] = rng.integers(first, FIRST_TAP + num_taps + gates, size=int(deep.sum()))
    nets[rng.random(outputs) < irregular / 4] = int(rng.integers(2))
    return Body.build(taps, fanin, table, nets, rank=rank)


def layered_graph(seed: int) -> Graph:
    """Layers of two-input gates, most wired evenly to the layer before, with what fusing must heed:
    gates of other fan-in, outputs from all layers, constants, operands twice, skips, many readers.
    """
    rng = np.random.default_rng(seed)
    taps = int(rng.integers(5, 40))
    fanin, table, layers = [], [], [np.arange(FIRST_TAP, FIRST_TAP + taps)]
    irregular = rng.choice([0.0, 0.02, 0.2])
    for _ in range(int(rng.integers(2, 7))):
        width = int(rng.integers(20, 120))
        below, first = layers[-1], layers[-1][-1] + 1
        wires = np.concatenate([rng.permutation(below) for _ in range(2 * width // len(below) + 1)])
        rows = np.zeros((width, 3), np.int64)
        rows[:, :2] = wires[: 2 * width].reshape(width, 2)
        two = rng.choice(PROPER, width)
        tables = sum((two >> (i >> 1) & 1) << i for i in range(8))  # the third input is ignored
        strange = np.flatnonzero(rng.random(width) < irregular)
        for i in strange:
            kind = rng.integers(5)
            if kind == 0:
                rows[i] = rng.choice(below, 3)
                tables[i] = rng.integers(1, 255)
            elif kind == 1:
                rows[i, 1] = rows[i, 0]
            elif kind == 2:
                rows[i, :2] = rng.integers(first, size=2)
            elif kind == 3:
                rows[i, 0] = below[0]
            else:
                tables[i] = rng.choice([0b11110000, 0b00110011, 0, 255])
        fanin.append(rows)
        table.append(tables)
        layers.append(np.arange(first, first + width))
    inside = np.concatenate(layers[1:-1]) if len(layers) > 2 else np.zeros(0, np.int64)
    outputs = np.concatenate([layers[-1], inside[rng.random(len(inside)) < irregular]])
    tap_rows = np.stack([np.zeros(taps, np.int64), np.arange(taps)], axis=1)
    body = Body.build(tap_rows, np.concatenate(fanin), np.concatenate(table), outputs)
    b = GraphBuilder(f"layered-{seed}")
    x = b.input("x", "bit", (taps,))
    return b.build(b.logic([x], body, ()))


def random_inputs(graph: Graph, n: int, seed: int = 0) -> list[npt.NDArray[Any]]:
    """`n` samples for each input: bool for bit, uint8 for u8, float32 for f32.

    Numbers are drawn around the thresholds that read them, on a level as often as beside it.
    """
    rng = np.random.default_rng(seed)
    arrays: list[npt.NDArray[Any]] = []
    for value in graph.inputs:
        shape = (n, *value.shape)
        if value.dtype == "bit":
            arrays.append(rng.random(shape) < 0.5)
            continue
        all_levels = [
            op.levels for node, op in graph.of_type(Threshold) if value.name in node.inputs
        ]
        levels = np.concatenate([np.ravel(x) for x in all_levels] or [np.zeros(1, np.float32)])
        near = rng.choice(levels, size=shape)
        if value.dtype == "u8":
            near = np.clip(np.floor(near) + rng.integers(-1, 2, size=shape), 0, 255)
            far = rng.integers(0, 256, size=shape)
            arrays.append(np.where(rng.random(shape) < 0.7, near, far).astype(np.uint8))
        else:
            limit = rng.choice(np.array([-np.inf, np.inf], np.float32), size=shape)
            beside = np.where(rng.random(shape) < 0.5, near, np.nextafter(near, limit))
            far = rng.normal(size=shape).astype(np.float32)
            arrays.append(np.where(rng.random(shape) < 0.6, beside, far).astype(np.float32))
    return arrays


def all_inputs(graph: Graph) -> list[npt.NDArray[np.bool_]]:
    """Every sample of a graph whose single input is of few bits, (2**size, *shape) bool."""
    (value,) = graph.inputs
    assert value.dtype == "bit"
    codes = np.arange(1 << value.size)[:, None] >> np.arange(value.size)
    return [(codes & 1).astype(bool).reshape(-1, *value.shape)]


def _random_table(arity: int, k: int, irregular: float, rng: np.random.Generator) -> int:
    if arity == 2 and rng.random() < 0.7:
        table = int(rng.choice(_DEGENERATE_TABLES if rng.random() < irregular else _SIMPLE_TABLES))
    elif rng.random() < irregular / 2:
        table = full_mask(arity) if rng.random() < 0.5 else 0
    else:
        table = int(rng.integers(0, full_mask(arity), dtype=np.uint64, endpoint=True))
    one = np.array([table], dtype=table_dtype(arity))
    return int(widen_table(one, arity, k)[0])


def _random_shape(rank: int, rng: np.random.Generator) -> tuple[int, ...]:
    if rank == 0:
        return (int(rng.integers(1, 13)),)
    top = 8 if rank == 2 else 5
    return (int(rng.integers(1, 4)), *(int(d) for d in rng.integers(2, top, size=rank)))


def _shape_within(rank: int, bits: int, rng: np.random.Generator) -> tuple[int, ...]:
    shape = [int(rng.integers(1, 3)), *(int(d) for d in rng.integers(1, 5, size=rank))]
    if rank == 0:
        return (int(rng.integers(1, bits + 1)),)
    while np.prod(shape) > bits:
        axis = int(np.argmax(shape))
        shape[axis] -= 1
    return tuple(shape)


def _encoded_input(
    b: GraphBuilder, name: str, dtype: str, shape: tuple[int, ...], rng: np.random.Generator
) -> Value:
    x = b.input(name, dtype, shape)
    if dtype == "bit":
        return x
    lead = int(rng.choice([0, 1, len(shape)]))
    count = int(rng.integers(1, 4))
    if dtype == "u8":
        levels = rng.integers(0, 255, size=(*shape[:lead], count)).astype(np.float32)
    else:
        levels = rng.normal(size=(*shape[:lead], count)).astype(np.float32)
    if rng.random() < 0.7:  # thermometers are sorted; a model may still hold any order
        levels = np.sort(levels, axis=-1)
    return b.threshold(x, levels)
