"""The answer of an equivalence check, and the sample that shows a difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

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
        return f"%{self.output}[{index}] is {self.left} in one and {self.right} in the other"


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
        arrays = [x.astype(int) if x.dtype == bool else x for x in self.counterexample.inputs]
        if sum(x.size for x in arrays) > 64:
            return "in verdict.counterexample.inputs"
        return "; ".join(str(x.tolist()) for x in arrays)
