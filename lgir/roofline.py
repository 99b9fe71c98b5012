"""The cost vocabulary of backends: what a step does, and the least time that it takes.

Backends describe steps as `StepCost`, made of `Traffic`; a probe measures a `Machine`, made of
`Level`s; `lgir.benchmarking.roofline_report` sets the bounds beside measured times. The model is
the roofline (Williams, Waterman, Patterson, "Roofline", CACM 2009): a step takes at least as long
as its traffic at the bandwidth of the level in which its data lies, and as its logic at the rate of
the ports.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

LINE: Final = 64
"""Bytes of a cache line, which holds a plane: one bit of 512 samples."""
BLOCK: Final = 8 * LINE
"""Samples of a block, one per bit of a line."""

_SIZES: Final = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
"""Bytes of the caches if the system does not tell them."""


def cache_sizes() -> dict[str, int]:
    """Return the bytes of the first core's data caches, by level."""
    sizes = {}
    try:
        for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
            text = {name: (folder / name).read_text().strip() for name in ("level", "type", "size")}
            if text["type"] != "Instruction":
                sizes[f"L{text['level']}"] = int(text["size"].removesuffix("K")) << 10
    except (OSError, ValueError):
        return dict(_SIZES)
    return sizes or dict(_SIZES)


@dataclass(frozen=True)
class Level:
    """A cache or the memory, as one thread sees it.

    Attributes:
        name: its name, for example "L2".
        size: its bytes, or None for the memory.
        read, write: bandwidths in bytes per second.
        copy: bandwidth of copies in bytes per second; a copied byte counts once, although it is
            read and written.
    """

    name: str
    size: int | None
    read: float
    write: float
    copy: float

    @property
    def peak(self) -> float:
        """The most bytes per second that loads and stores together can move, in any mix."""
        return self.read + min(self.read, self.write, self.copy)

    def seconds(self, loads: float, stores: float) -> float:
        """Return the least time in which so many lines are loaded and stored.

        Loads and stores share a level no better than a copy does, and overlap at best.
        """
        pairs = min(loads, stores)
        return LINE * max(loads / self.read, stores / self.write, pairs / self.copy)


@dataclass(frozen=True)
class Machine:
    """The measured roofs of one thread.

    Attributes:
        levels: the caches and the memory, from near to far.
        logic: logic instructions on planes per second, in registers.
    """

    levels: tuple[Level, ...]
    logic: float

    def level_of(self, footprint: int) -> Level:
        """Return the nearest level that holds `footprint` bytes."""
        return next(x for x in self.levels if x.size is None or footprint <= x.size)


@dataclass(frozen=True)
class Traffic:
    """The lines that accesses spread over `footprint` bytes load and store."""

    loads: float
    stores: float
    footprint: int = 0


@dataclass(frozen=True)
class StepCost:
    """What one step does for a block of 512 samples.

    Attributes:
        kind: the kind of step, as reports group them.
        rows: evaluations of its kernel's body.
        logic: logic instructions on planes.
        traffic: traffic by footprint; the first entry is every access that the kernel makes.
        evaluates_gates: whether its time is part of the time in gates.
    """

    kind: str
    rows: int
    logic: float
    traffic: tuple[Traffic, ...]
    evaluates_gates: bool = False

    def bound(self, machine: Machine) -> tuple[float, str]:
        """Return the least seconds that it takes, and the name of the level or "logic" as reason.

        Levels and ports work side by side, so the slowest of them is the bound.
        """
        bounds = [(self.logic / machine.logic, "logic")]
        for part in self.traffic:
            level = machine.level_of(part.footprint)
            bounds.append((level.seconds(part.loads, part.stores), level.name))
        return max(bounds)
