"""The roofline: the least time that a machine needs for what a step of a plan does.

Williams, Waterman, Patterson, "Roofline" (CACM 2009): a step takes at least as long as its traffic
at the bandwidth of the level where its data lies, and as its logic at the rate of the ports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LINE: Final = 64
"""Bytes of a line, which is a plane: one bit of 512 samples."""
BLOCK: Final = 8 * LINE


@dataclass(frozen=True)
class Level:
    """A cache or the memory, as one thread sees it: `size` bytes, None for memory, and bytes/s.

    A copied byte counts once, though it is read and written.
    """

    name: str
    size: int | None
    read: float
    write: float
    copy: float

    def seconds(self, loads: float, stores: float) -> float:
        """That so many lines take at least: loads and stores share a level no better than a copy
        does, and overlap at best.
        """
        pairs = min(loads, stores)
        return LINE * max(loads / self.read, stores / self.write, pairs / self.copy)


@dataclass(frozen=True)
class Machine:
    """Measured roofs of one thread: levels from near to far, and instructions of logic on planes a
    second, in registers.
    """

    levels: tuple[Level, ...]
    logic: float

    def level_of(self, footprint: int) -> Level:
        """The nearest that holds `footprint` bytes."""
        return next(x for x in self.levels if x.size is None or footprint <= x.size)


@dataclass(frozen=True)
class Traffic:
    """Lines loaded and stored, by accesses spread over `footprint` bytes."""

    loads: float
    stores: float
    footprint: int = 0


@dataclass(frozen=True)
class StepCost:
    """What one step does for 512 samples: `rows` evaluations of its kernel's body, instructions of
    logic on planes, and traffic by footprint, of which the first is every access that the kernel
    makes. `evaluates_gates` says whether its time is part of the time in gates.
    """

    kind: str
    rows: int
    logic: float
    traffic: tuple[Traffic, ...]
    evaluates_gates: bool = False

    def bound(self, machine: Machine) -> tuple[float, str]:
        """Seconds that it takes at least, and what says so. Levels and ports work side by side, so
        the slowest of them is the bound.
        """
        bounds = [(self.logic / machine.logic, "logic")]
        for part in self.traffic:
            level = machine.level_of(part.footprint)
            bounds.append((level.seconds(part.loads, part.stores), level.name))
        return max(bounds)
