"""How hard a proof tries, and the exceptions by which it stops."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np


class TimeUp(Exception):
    """The deadline has passed."""


class GaveUp(Exception):
    """A pair of nets has too large a window or too hard a formula."""


class TooLarge(Exception):
    """A netlist has more gates than its limit."""

    def __init__(self, gates: int) -> None:
        super().__init__(f"{gates:,} gates")
        self.gates = gates


@dataclass(frozen=True)
class Effort:
    """The limits of a proof.

    Attributes:
        conflicts: conflicts of the SAT solver per pair of nets, after which the pair is left alone.
        words: words of 64 samples each that draw the first classes of candidates.
        deadline: time of `time.monotonic()` after which `TimeUp` is raised.
        seed: seed of the samples.
    """

    conflicts: int = 20_000
    words: int = 32
    deadline: float = np.inf
    seed: int = 0

    def check_time(self) -> None:
        """Raise TimeUp if the deadline has passed."""
        if time.monotonic() > self.deadline:
            raise TimeUp
