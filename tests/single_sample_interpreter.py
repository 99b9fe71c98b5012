"""Evaluate a single-sample plan in numpy, step by step, as the steps' docstrings say.

Writes have the granularity of the kernels, so that a range that is too short is noticed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.single_sample.perfect_trees import PerfectTreeTemplate
from lgir.backends.llvm.single_sample.plan import SingleSamplePlan
from lgir.backends.llvm.single_sample.steps import (
    LANES,
    LOOKUP_BITS,
    NUMBERS,
    POSITIONS,
    CompareLevels,
    CountRanges,
    DenseTrees,
    ExportBits,
    GatherBytes,
    LoadSample,
    MapTrees,
    MoveMaps,
)

Bools = npt.NDArray[np.bool_]


def interpret(plan: SingleSamplePlan, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Return the outputs for one sample, given as one array without batch axis per graph input."""
    machine = _Machine(plan, inputs)
    for step in plan.steps:
        machine.run(step)
    shapes = [plan.graph.values[name].shape for name in plan.graph.outputs]
    return [machine.outputs[i].reshape(shape) for i, shape in enumerate(shapes)]


def tree_values(template: PerfectTreeTemplate, leaves: Bools, masks: Bools) -> Bools:
    """Return the values of trees from leaves (L, ...) and masks (M, ...)."""
    if not template.height:
        index = np.zeros(leaves.shape[1:], np.int64)
        for leaf in leaves:
            index = index << 1 | leaf
        return np.take_along_axis(masks, index[None], axis=0)[0]
    next_mask, values = iter(masks), list(leaves)
    while len(values) > 1:
        pairs, values = list(zip(values[::2], values[1::2], strict=True)), []
        for x, y in pairs:
            b, a, ab = next(next_mask), next(next_mask), next(next_mask)
            values.append((x & a) ^ (y & b) ^ (x & y & ab))
    return values[0] ^ next(next_mask)


class _Machine:
    def __init__(self, plan: SingleSamplePlan, inputs: list[np.ndarray]) -> None:
        self.inputs = inputs
        self.outputs: dict[int, np.ndarray] = {}
        self.bytes = np.zeros(plan.workspace, np.uint8)
        self.bytes[slice(*plan.ones)] = 0xFF

    def run(self, step: object) -> None:
        match step:
            case LoadSample():
                raw = np.ascontiguousarray(self.inputs[step.index]).ravel().view(np.uint8)
                self.bytes[step.out : step.out + len(raw)] = raw
            case CompareLevels():
                self.compare(step)
            case GatherBytes():
                self.gather(step)
            case DenseTrees():
                self.dense_trees(step)
            case MapTrees():
                self.map_trees(step)
            case MoveMaps():
                self.move(step)
            case CountRanges():
                self.count(step)
            case ExportBits():
                bits = self.bytes[step.source : step.source + step.size]
                self.outputs[step.index] = bits == 0xFF
            case _:
                raise AssertionError(f"unknown step {step}")

    def write_row(self, out: int, bits: Bools, granularity: int) -> None:
        """Write a row of cells; the cells behind it become False up to the granularity."""
        size = -(-len(bits) // granularity) * granularity
        self.bytes[out : out + size] = 0
        self.bytes[out : out + len(bits)] = np.where(bits, 0xFF, 0)

    def compare(self, step: CompareLevels) -> None:
        channels, levels, rows = step.rows.shape
        kind = np.dtype(np.float32 if step.dtype == "f32" else np.uint8)
        size = channels * rows * step.width
        raw = self.bytes[step.numbers : step.numbers + size * kind.itemsize]
        numbers = raw.view(kind).reshape(channels, rows, step.width)
        for c, level, r in np.ndindex(channels, levels, rows):
            if step.thresholds is None:
                bits = numbers[c, r] != 0
            else:
                bits = numbers[c, r] > step.thresholds[c, level, r]
            self.write_row(int(step.rows[c, level, r]), bits, NUMBERS)

    def gather(self, step: GatherBytes) -> None:
        values = self.bytes[step.sources]
        if step.lookup is not None:
            offsets = step.sources - step.lookup.first
            assert 0 <= offsets.min() <= offsets.max() < step.lookup.rounds * LOOKUP_BITS
            size = step.lookup.rounds * LOOKUP_BITS // 8
            self.bytes[step.lookup.scratch : step.lookup.scratch + size] = 0xAA
        self.bytes[step.out : step.out + len(values)] = values

    def dense_trees(self, step: DenseTrees) -> None:
        template = step.template
        size = step.vectors * template.num_leaves * LANES
        leaves = self.bits(step.leaves, size).reshape(step.vectors, template.num_leaves, LANES)
        masks = step.masks.reshape(step.vectors, LANES, template.num_masks)
        values = tree_values(template, leaves.transpose(1, 0, 2), masks.transpose(2, 0, 1))
        self.write_row(step.out, values.ravel(), LANES)

    def map_trees(self, step: MapTrees) -> None:
        cells = np.arange(step.vectors * POSITIONS)
        leaves = self.bytes[step.leaves.T[..., None] + cells] == 0xFF
        masks = np.broadcast_to(step.masks.T[..., None], (step.masks.shape[1], *leaves.shape[1:]))
        values = tree_values(step.template, leaves, masks)
        self.bytes[step.out[:, None] + cells] = np.where(values, 0xFF, 0)

    def move(self, step: MoveMaps) -> None:
        planes, rows, width = step.space
        for channel in range(len(step.out)):
            for z, y in np.ndindex(planes, rows):
                source = int(np.dot((z, y), step.source_pitch))
                cells = source + np.arange(width) * step.stride
                bits = (self.bytes[step.sources[channel][:, None] + cells] == 0xFF).any(axis=0)
                out = int(step.out[channel]) + int(np.dot((z, y), step.out_pitch))
                self.write_row(out, bits, step.cells_at_once)

    def count(self, step: CountRanges) -> None:
        counts = [
            sum(int(self.bits(start, size).sum()) for start, size in group.tolist())
            for group in step.ranges
        ]
        sums = np.array(counts, np.float32) + np.float32(step.beta)
        self.outputs[step.index] = sums / np.float32(step.tau)

    def bits(self, start: int, size: int) -> Bools:
        bits: Bools = self.bytes[start : start + size] == 0xFF
        return bits
