"""What a program is made of: constant tables, and launches of kernels with their arguments.

An argument says what a kernel receives, not where it lies: the source's host part and the runtime
each resolve it for a chunk, which is the part of a batch that the workspace holds at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import numpy as np
import numpy.typing as npt

WORD_BITS: Final = 32
WARP_LANES: Final = 32


@dataclass(frozen=True, eq=False)
class ConstantTable:
    """Constant data of C type `c_type`, (rows, columns). "plane_t" is the type of plane numbers."""

    name: str
    c_type: str
    data: npt.NDArray[np.generic]


@dataclass(frozen=True)
class TableArgument:
    """A pointer to a table, as elements of C type `c_type`."""

    table: ConstantTable
    c_type: str


@dataclass(frozen=True)
class SamplesArgument:
    """A pointer to the chunk's first sample of a graph input.

    A sample has `width` elements of C type `c_type`.
    """

    input: int
    c_type: str
    width: int


@dataclass(frozen=True)
class PackedSamplesArgument:
    """A pointer to the chunk's first word in plane `first` of a packed graph input."""

    input: int
    first: int


@dataclass(frozen=True)
class ResultsArgument:
    """A pointer to the chunk's first result of a graph output.

    A result has `width` elements of C type `c_type`.
    """

    output: int
    c_type: str
    width: int


class ChunkSize(Enum):
    """A number that the chunk or the call decides."""

    SAMPLES = auto()
    """Samples of the chunk."""
    PACKED_WORDS = auto()
    """Words of a packed plane: 32 samples each, of all the samples of the call."""


LaunchArgument = (
    TableArgument
    | SamplesArgument
    | PackedSamplesArgument
    | ResultsArgument
    | ChunkSize
    | int
    | float
)


class LaunchShape(Enum):
    """How threads meet the work. Each value is the suffix of the source's function for it."""

    ROWS = "rows"
    """Threads along y are rows."""
    POSITIONS = "positions"
    """Blocks along x are rows, threads along y are positions."""
    TILES = "tiles"
    """A block works on 32 elements by 8 words."""
    GROUPS = "groups"
    """Blocks along x are groups."""


@dataclass(frozen=True)
class Launch:
    """One kernel call.

    Attributes:
        kernel: the kernel's name.
        size: number of rows, elements or groups, as `shape` says.
        note: what it computes, for a comment.
        positions: positions at which each row is evaluated.
        packed: the launch that replaces this one if the caller has packed the samples.
    """

    kernel: str
    shape: LaunchShape
    size: int
    args: tuple[LaunchArgument, ...]
    note: str
    positions: int = 1
    packed: Launch | None = None
