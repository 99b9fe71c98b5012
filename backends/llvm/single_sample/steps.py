"""The steps of a single-sample plan: what is evaluated, over which bytes of the workspace.

A bit of the sample is one byte, 0 for False and 0xFF for True, at an offset of the workspace. All
offsets, pitches and sizes are in bytes. The steps know no target; `program` turns them into kernels
and records. `cycles` of a step is its estimated time, without what every step takes; `ternary` says
that the target has three-input instructions (AVX-512).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.single_sample.costs import CycleCosts
from lgir.backends.llvm.single_sample.perfect_trees import PerfectTreeTemplate
from lgir.backends.llvm.single_sample.shifted_nets import Bools, Ints

LANES: Final = 64
"""Trees of a dense layer that are evaluated at once: the bytes of a 512-bit vector."""
POSITIONS: Final = 32
"""Cells of a map that are evaluated at once. Small maps fit, and few loads straddle lines."""
MOVED_CELLS: Final = 16
"""Cells of a row that are moved at once."""
NUMBERS: Final = 32
"""Numbers that are compared with their thresholds at once."""
GATHER_BLOCK: Final = 256
"""A gather copies a multiple of this many bytes."""
LOOKUP_BITS: Final = 1024
"""Bits among which one permutation of two 512-bit registers looks up."""

MOVABLE_STRIDES: Final = (1, 2, 4, 8)
"""Strides for which MOVED_CELLS cells are moved at once: the cells skipped are the upper bytes of
an integer. With another stride, one cell is moved after the other."""


@dataclass(frozen=True, eq=False)
class LoadSample:
    """Copy graph input `index` to the offset `out`, as `size` numbers of the input's dtype.

    Bits that come in 64-bit words are spread to one byte each, 0 or another number.
    """

    index: int
    dtype: str
    size: int
    out: int

    def cycles(self, costs: CycleCosts, *, ternary: bool) -> float:
        return self.size * costs.streamed_byte


@dataclass(frozen=True, eq=False)
class CompareLevels:
    """Compare numbers with thresholds and write one bit per number and threshold.

    Attributes:
        index: the graph input that the numbers come from.
        dtype: its dtype.
        numbers: the offset of the numbers (channels, rows, width).
        rows: (channels, levels, rows) the offset of each row of bits, in ascending order.
        width: the numbers of a row.
        thresholds: (channels, levels, rows, width) float32, or None if the numbers are bits.
    """

    index: int
    dtype: str
    numbers: int
    rows: Ints
    width: int
    thresholds: npt.NDArray[np.float32] | None

    def cycles(self, costs: CycleCosts, *, ternary: bool) -> float:
        vectors_per_row = -(-self.width // NUMBERS)
        return self.rows.size * (costs.compared_row + costs.compared_vector * vectors_per_row)


@dataclass(frozen=True)
class Lookup:
    """How a gather finds bytes by permutations of registers that hold them as bits.

    Attributes:
        lane_bits: the bits of the permuted lanes, 8 or 16.
        first: the offset of the first byte that is packed into bits.
        rounds: how many times LOOKUP_BITS bits are packed and looked up in.
        scratch: the offset of `rounds * LOOKUP_BITS / 8` bytes for the bits.
    """

    lane_bits: int
    first: int
    rounds: int
    scratch: int


@dataclass(frozen=True, eq=False)
class GatherBytes:
    """Copy the bytes at `sources` (n,) to `out` and the bytes behind it.

    n is a multiple of GATHER_BLOCK. Without a `lookup`, the bytes are copied one by one.
    """

    sources: Ints
    out: int
    lookup: Lookup | None

    def cycles(self, costs: CycleCosts, *, ternary: bool) -> float:
        return gather_cycles(len(self.sources), self.lookup, costs)


@dataclass(frozen=True, eq=False)
class DenseTrees:
    """Evaluate perfect trees whose lanes are trees.

    Attributes:
        template: the shape of the trees, with L leaves and M masks.
        masks: (vectors * LANES, M) the trees' masks; the last vector is filled up with False.
        leaves: the offset of the leaves' bits (vectors, L, LANES).
        out: the offset of the results (vectors, LANES).
    """

    template: PerfectTreeTemplate
    masks: Bools
    leaves: int
    out: int

    @property
    def vectors(self) -> int:
        return len(self.masks) // LANES

    def cycles(self, costs: CycleCosts, *, ternary: bool) -> float:
        masks = costs.dense_mask * self.template.num_masks
        return self.vectors * (costs.dense_leaf * self.template.num_leaves + masks)


@dataclass(frozen=True, eq=False)
class MapTrees:
    """Evaluate perfect trees whose lanes are cells of maps.

    Each of the n trees is evaluated at `vectors * POSITIONS` successive cells.

    Attributes:
        template: the shape of the trees, with L leaves and M masks.
        leaves: (n, L) the offsets of the first cell that each leaf reads.
        out: (n,) the offsets of the first result.
        masks: (n, M) the trees' masks.
        vectors: the vectors of POSITIONS cells of each tree.
    """

    template: PerfectTreeTemplate
    leaves: Ints
    out: Ints
    masks: Bools
    vectors: int

    def cycles(self, costs: CycleCosts, *, ternary: bool) -> float:
        operands = self.template.num_leaves + self.template.num_masks
        logic = operands * (costs.map_operand_ternary if ternary else costs.map_operand)
        return len(self.out) * (costs.map_mask * self.template.num_masks + self.vectors * logic)


@dataclass(frozen=True, eq=False)
class MoveMaps:
    """OR maps and copy every stride-th cell to where the result is read.

    Attributes:
        sources: (C, m) the offsets of the maps that are ORed, per channel.
        out: (C,) the offsets of the first cell written, in ascending order. The cells behind each
            written row become False.
        space: the positions along the three axes; unused leading axes have 1.
        source_pitch: the distance between successive rows read, along the first two axes.
        out_pitch: the distance between successive rows written, along the first two axes.
        stride: the distance between successive cells read along the last axis.
    """

    sources: Ints
    out: Ints
    space: tuple[int, int, int]
    source_pitch: tuple[int, int]
    out_pitch: tuple[int, int]
    stride: int

    @property
    def cells_at_once(self) -> int:
        """How many cells of a row are moved at once."""
        return MOVED_CELLS if self.stride in MOVABLE_STRIDES else 1

    @property
    def vectors_per_row(self) -> int:
        return -(-self.space[2] // self.cells_at_once)

    def cycles(self, costs: CycleCosts, *, ternary: bool) -> float:
        channels, sources = self.sources.shape
        rows = self.space[0] * self.space[1]
        row = costs.moved_row + costs.moved_vector * self.vectors_per_row * sources
        return float(channels * (costs.moved_map + rows * row))


@dataclass(frozen=True, eq=False)
class CountRanges:
    """Count the True bytes of each group and write `(count + beta) / tau` to a graph output.

    Attributes:
        index: the graph output.
        ranges: (groups, r, 2) the ranges (offset, size) that make each group; a size may be 0.
        size: the bytes of all groups.
        tau: the divisor, float32.
        beta: the summand, float32.
    """

    index: int
    ranges: Ints
    size: int
    tau: float
    beta: float

    def cycles(self, costs: CycleCosts, *, ternary: bool) -> float:
        groups, ranges, _ = self.ranges.shape
        counting = self.size * costs.streamed_byte
        return float(groups * ranges * costs.counted_range + counting)


@dataclass(frozen=True)
class ExportBits:
    """Write the `size` bits at `source` to graph output `index`, as bytes 0 and 1."""

    index: int
    source: int
    size: int

    def cycles(self, costs: CycleCosts, *, ternary: bool) -> float:
        return self.size * costs.streamed_byte


SampleStep = (
    LoadSample
    | CompareLevels
    | GatherBytes
    | DenseTrees
    | MapTrees
    | MoveMaps
    | CountRanges
    | ExportBits
)


def gather_cycles(size: int, lookup: Lookup | None, costs: CycleCosts) -> float:
    """Return the estimated cycles of gathering `size` bytes, by permutations or one by one."""
    if lookup is None:
        return costs.gathered_byte * size
    vectors = size * lookup.lane_bits / 512
    vector = costs.lookup_vector + costs.lookup_vector_round * lookup.rounds
    return lookup.rounds * costs.lookup_round + vectors * vector
