"""Steps: what a plan is made of. Each is one template applied to a table of rows over planes.

A plane holds one bit of every sample of a batch block. Nothing here depends on a target: a backend
says how each kind of step is evaluated, and what it costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering.cones import ConeExpr
from lgir.ir.graph import Graph

ZERO_PLANE: Final = 0
"""The plane of False."""
ONE_PLANE: Final = 1
"""The plane of True."""
DUMP_PLANE: Final = 2
"""The plane of results that nothing reads."""
FIRST_FREE_PLANE: Final = 3
BUFFER: Final = 0b10
"""The one-input table that copies."""

Planes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PackStep:
    """Packs samples into planes.

    Bit (feature f, level l) is `x[f] > levels[l, f]` and goes to `planes[l, f]`. An input of bits
    has one level, and its bit is `x[f] != 0`.

    Attributes:
        input: the index of the graph input.
        dtype: the dtype of the graph input.
        levels: (L, features), or None for an input of bits.
        planes: (L, features).
    """

    input: int
    dtype: str
    levels: npt.NDArray[np.float32] | None
    planes: Planes


@dataclass(frozen=True)
class GateStep:
    """Evaluates independent gates of one table.

    Attributes:
        fanin: the number of inputs of each gate, 1 to 6.
        table: the table of all gates; None for wide gates (fan-in 4 to 6), whose tables are data.
        rows: (n, fanin + 1) the operand planes, then the output plane.
        tables: (n,) the tables of wide gates; None for others.
    """

    fanin: int
    table: int | None
    rows: Planes
    tables: npt.NDArray[np.uint64] | None = None


@dataclass(frozen=True)
class ChainStep:
    """Evaluates two-input gates in an order in which each shares an operand with the row before.

    A row computes `table(plane of the previous row, own plane)`. Rows run in order: an output may
    replace a plane that an earlier row has read. A row that begins a trail writes DUMP_PLANE.

    Attributes:
        rows: (n, 2) the plane that the row reads, then the output plane.
        tables: (n,) the tables, 0 to 15.
    """

    rows: Planes
    tables: npt.NDArray[np.int64]


@dataclass(frozen=True)
class FusedStep:
    """Evaluates two levels: a chain whose operands are gates evaluated on the way.

    A row (plane a, plane b, output plane) computes `current = inner(a, b)` and
    `outer(current of the previous row, current)`. A row that begins a trail has an AND as its outer
    gate and writes DUMP_PLANE. In all other respects this is a ChainStep.

    Attributes:
        rows: (n, 3) the two planes that the row reads, then the output plane.
        tables: (n, 2) the inner and the outer table, 0 to 15, which depend on both inputs.
    """

    rows: Planes
    tables: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ConeStep:
    """Evaluates cones of one template at every position of a space of three axes.

    Attributes:
        expr: the template.
        leaves: (n, L) the planes of the leaves at position 0.
        masks: (n, M + 1) the masks, as in `ConeGroup`.
        out: (n,) the planes of the results at position 0.
        space: the number of positions along each axis.
        in_step: the planes to advance per position along each axis, for "tap" leaves.
        out_step: the planes to advance for results, and for "cut" leaves, which are results too.
        shifts: (m,) the planes to add to "tap" leaves for each of the copies that are ORed; (0,)
            if there is one copy.
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
    """Counts groups of planes, bit-sliced, while the planes are still in a cache.

    Attributes:
        initial: (groups, width) the planes of the counts so far; plane i is worth 2**i.
        planes: (groups, bits) the planes whose True bits are added.
        counts: (groups, width) the planes of the resulting counts.
    """

    initial: Planes
    planes: Planes
    counts: Planes


@dataclass(frozen=True)
class SumStep:
    """Computes the scores `(count + beta) / tau` of one output.

    Attributes:
        output: the index of the graph output.
        planes: (groups, bits) the planes to count.
        tau, beta: the parameters of the GroupSum.
        initial: (groups, width) the planes of a count of other bits to begin with, or None.
    """

    output: int
    planes: Planes
    tau: float
    beta: float
    initial: Planes | None = None


@dataclass(frozen=True)
class ExportStep:
    """Hands out the bits of one output.

    Attributes:
        output: the index of the graph output.
        planes: (elements,) the plane of each element, in row-major order.
    """

    output: int
    planes: Planes


Step = PackStep | GateStep | ChainStep | FusedStep | ConeStep | CountStep | SumStep | ExportStep


@dataclass(frozen=True)
class Plan:
    """The steps of a graph, in order.

    Planes 0 and 1 hold False and True. Every other plane must be False before the first block;
    halos then stay so, since no step writes them.

    Attributes:
        graph: the graph that the steps evaluate, legalized and split into channel groups.
        steps: the steps in order.
        num_planes: the number of planes that the steps use, the constants included.
        gates: the gates evaluated per sample: the gates of every body times its positions.
    """

    graph: Graph
    steps: tuple[Step, ...]
    num_planes: int
    gates: int


def copy_steps(source: Planes, target: Planes) -> list[Step]:
    """Return the step that copies the planes `source` to `target`, of equal shape, if any."""
    rows = np.stack([source.ravel(), target.ravel()], axis=1)
    return [GateStep(1, BUFFER, rows)] if len(rows) else []
