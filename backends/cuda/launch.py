"""What a program is made of: tables, and launches of kernels with their arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

WORD_BITS: Final = 32
LANES: Final = 32
"""Words that the lanes of a warp work on."""


@dataclass(frozen=True, eq=False)
class Table:
    """Constant data of C type `kind` ("plane_t" is the type of plane numbers), (n, columns)."""

    name: str
    kind: str
    data: npt.NDArray[np.generic]


@dataclass(frozen=True)
class View:
    """A table as a kernel's argument, seen as elements of `kind`."""

    table: Table
    kind: str


@dataclass(frozen=True)
class Samples:
    """The samples of graph input `input` from the chunk's first on, `width` elements of C type
    `kind` each.
    """

    input: int
    kind: str
    width: int


@dataclass(frozen=True)
class Packed:
    """The packed planes of graph input `input` for one pack step, `first` planes in."""

    input: int
    first: int


@dataclass(frozen=True)
class Pitch:
    """Words of a packed plane: 32 samples each, of all the samples of a call."""


@dataclass(frozen=True)
class Results:
    """Where results of graph output `output` go, `width` elements of C type `kind` a sample."""

    output: int
    kind: str
    width: int


@dataclass(frozen=True)
class Count:
    """The chunk's number of samples."""


Arg = View | Samples | Packed | Pitch | Results | Count | int | float
Shape = Literal["rows", "positions", "tiles", "groups"]


@dataclass(frozen=True)
class Launch:
    """One kernel call.

    `shape` is how threads meet the work: "rows" (threads along y are rows), "positions" (blocks
    along x are rows, threads along y positions), "tiles" (32 elements by 8 words), "groups" (blocks
    along x are groups). `size` counts rows, elements or groups; `positions` is 1 but for positions.
    """

    kernel: str
    shape: Shape
    size: int
    args: tuple[Arg, ...]
    note: str
    positions: int = 1
    packed: Launch | None = None
    """What takes this launch's place where the caller has packed the samples."""
