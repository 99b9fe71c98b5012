"""The answer of an equivalence check, and the sample that shows a difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.printable import printable

_SMALL: Final = 64  # elements of a sample that is shown whole
_SHOWN_ELEMENTS: Final = 8

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Counterexample:
    """A sample on which two graphs differ.

    Attributes:
        inputs: one array per graph input, of its shape: bool, uint8 or float32.
        output: name of the first graph's output that differs.
        index: position of the element that differs in it.
        left, right: what the two graphs give for that element.
    """

    inputs: tuple[Array, ...]
    output: str
    index: tuple[int, ...]
    left: float | bool
    right: float | bool

    def __str__(self) -> str:
        index = ",".join(map(str, self.index))
        left, right = spell_number(self.left), spell_number(self.right)
        return f"%{printable(self.output)}[{index}] is {left} in one and {right} in the other"


@dataclass(frozen=True)
class Verdict:
    """The answer of a check.

    Attributes:
        equivalent: True, False, or None if it is not known.
        method: the method that gave the answer.
        samples: number of samples that were tried.
        counterexample: a sample on which the graphs differ, if they do.
        note: why it is not known.
    """

    equivalent: bool | None
    method: str
    samples: int = 0
    counterexample: Counterexample | None = None
    note: str = ""

    def __str__(self) -> str:
        if self.equivalent is None:
            return f"unknown: {self.note}"
        if self.counterexample is not None:
            return f"different: {self.counterexample} on the sample {self._shown_sample()}"
        if self.method == "sim":
            return f"equal on {self.samples:,} simulated samples (not a proof)"
        if self.method == "exhaustive":
            return f"equivalent: all {self.samples:,} cases tried"
        return "equivalent: proved by SAT"

    def _shown_sample(self) -> str:
        assert self.counterexample is not None
        return "; ".join(map(_spell_array, self.counterexample.inputs))


def spell_number(x: Any) -> str:
    """Return a bit as 0 or 1, an integer, or a float32 with as many digits as tell it apart."""
    return str(np.float32(x)) if isinstance(x, float | np.floating) else str(int(x))


def _spell_array(x: Array) -> str:
    """Return an array on one line: a long one by its first elements that are not zero."""
    x = x.astype(int) if x.dtype == bool else x
    nonzero = np.argwhere(x)
    if x.size <= _SMALL and 4 * len(nonzero) >= x.size:
        return str(x.tolist())
    elements = [
        f"[{','.join(map(str, index))}] = {spell_number(x[tuple(index)])}"
        for index in nonzero[:_SHOWN_ELEMENTS]
    ]
    if not elements:
        return "of zeros"
    if len(nonzero) > len(elements):
        elements.append(f"{len(nonzero) - len(elements):,} more (in verdict.counterexample.inputs)")
    return f"of zeros except for {', '.join(elements)}"
