"""Steps: what a plan is made of. Each is one template applied to a table of rows over planes.

A plane holds one bit of every sample of a batch block. Nothing here depends on a target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering.cones import ConeExpr
from lgir.ir.graph import Graph

ZERO_PLANE: Final = 0
ONE_PLANE: Final = 1
DUMP_PLANE: Final = 2
"""Written by rows whose result nobody wants, and never read."""
FIRST_FREE_PLANE: Final = 3
BUFFER: Final = 0b10
"""The one-input table that copies."""

Planes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PackStep:
    """Samples to planes. Bit (feature f, level l) is `x[f] > levels[l, f]` and goes to
    `planes[l, f]`; a bit input has one level and bit `x[f] != 0`.
    """

    input: int
    dtype: str
    levels: npt.NDArray[np.float32] | None
    planes: Planes


@dataclass(frozen=True)
class GateStep:
    """Independent gates of one table: row (operand planes..., output plane).

    `table` is None for wide gates (fan-in 4 to 6), whose tables are data: `tables` (n,) uint64.
    """

    fanin: int
    table: int | None
    rows: Planes
    tables: npt.NDArray[np.uint64] | None = None


@dataclass(frozen=True)
class ChainStep:
    """Two-input gates in an order where each shares an operand with the row before.

    Row (current plane, output plane) computes `table(previous row's current, current)`; tables (n,)
    are 0..15. Rows run in order: an output may replace a plane that a row before has read. A row
    that begins a trail writes DUMP_PLANE.
    """

    rows: Planes
    tables: npt.NDArray[np.int64]


@dataclass(frozen=True)
class FusedStep:
    """A chain over gates that are evaluated on the way, of two levels in all.

    Row (plane a, plane b, output plane) computes `current = inner(a, b)` and
    `outer(previous row's current, current)`; tables (n, 2) are inner and outer ones, 0..15, and
    depend on both inputs. A row that begins a trail has an AND as its outer gate and writes
    DUMP_PLANE. Otherwise as a ChainStep.
    """

    rows: Planes
    tables: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ConeStep:
    """Cones of one template at every position of a space (n0, n1, n2).

    Attributes:
        leaves: (n, L) planes of the leaves at position 0, `masks` (n, M + 1) as in `ConeGroup`.
        out: (n,) planes of the result at position 0.
        in_step, out_step: planes to advance per position along each axis; "cut" leaves advance
            as the output does.
        shifts: (m,) planes to add to tap leaves for each copy that is ORed; (0,) for none.
        stage: steps that follow one another and have the same stage do not depend on one another;
            None makes no such promise.
    """

    expr: ConeExpr
    leaves: Planes
    masks: npt.NDArray[np.bool_]
    out: Planes
    space: tuple[int, int, int]
    in_step: tuple[int, int, int]
    out_step: tuple[int, int, int]
    shifts: Planes
    stage: int | None = None


@dataclass(frozen=True)
class CountStep:
    """Bit-sliced counts of groups of planes, taken while the planes are still in a cache.

    `counts` (groups, width) are the planes of the results, plane i being worth 2**i: the counts
    `initial` (groups, width) plus the number of True bits in `planes` (groups, bits).
    """

    initial: Planes
    planes: Planes
    counts: Planes


@dataclass(frozen=True)
class SumStep:
    """Class scores of one output: `planes` (groups, bits) are counted, on from `initial` (groups,
    width), a bit-sliced count, if there is one.
    """

    output: int
    planes: Planes
    tau: float
    beta: float
    initial: Planes | None = None


@dataclass(frozen=True)
class ExportStep:
    """Bits of one output, as they are: `planes` (elements,)."""

    output: int
    planes: Planes


Step = PackStep | GateStep | ChainStep | FusedStep | ConeStep | CountStep | SumStep | ExportStep


@dataclass(frozen=True)
class Plan:
    """Steps in order and the number of planes they use. Planes 0 and 1 hold False and True; every
    other plane must be False before the first block, and halos then stay so.
    """

    graph: Graph
    steps: tuple[Step, ...]
    num_planes: int
    gates: int
    """Gates evaluated per sample: gates of every body times its positions."""
