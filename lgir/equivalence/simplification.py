"""Simpler counterexamples: as many elements of the sample as can be are set to zero.

Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", TSE
2002), with 64 candidates in one bit-parallel simulation. What remains nonzero is what makes the
difference, so that a person can read a sample of a thousand pixels.
"""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from lgir.equivalence.arrays import Index, Mask
from lgir.equivalence.simulation import Simulation
from lgir.equivalence.verdict import Array, Counterexample
from lgir.ir.graph import Graph

_CANDIDATES: Final = 64  # one machine word of samples costs as much as one sample


def simplify_counterexample(
    a: Graph, b: Graph, example: Counterexample, *, seconds: float = 5.0
) -> Counterexample:
    """Return a counterexample with fewer nonzero elements, or `example` itself if none was found.

    The graphs differ on its sample too, though maybe in another element of another output.

    Args:
        a, b: the graphs.
        example: a sample on which they differ.
        seconds: time after which the simplest sample so far is taken.
    """
    deadline = time.monotonic() + seconds
    sample = _Sample(example.inputs)
    chunk = max(1, len(sample.nonzero) // 2)
    while len(sample.nonzero) and time.monotonic() < deadline:
        chunks = np.split(sample.nonzero, range(chunk, len(sample.nonzero), chunk))
        removed = False
        for start in range(0, len(chunks), _CANDIDATES):
            part = chunks[start : start + _CANDIDATES]
            differ = _differ(a, b, sample, part)
            # Those that may go one by one may often go together, so longer and longer unions are
            # tried next; the first union is a single chunk and is known to do.
            able = [chunk for chunk, goes in zip(part, differ, strict=True) if goes]
            unions = [np.concatenate(able[: i + 1]) for i in range(len(able))]
            if unions:
                (longest,) = np.flatnonzero(_differ(a, b, sample, unions))[-1:]
                sample.clear(unions[longest])
                removed = True
            if time.monotonic() >= deadline:
                break
        if not removed:
            if chunk == 1:
                break
            chunk = max(1, chunk // 2)
        else:
            chunk = max(1, min(chunk, len(sample.nonzero) // 2))
    verdict = Simulation(a, inputs=[x[None] for x in sample.arrays()]).compare(b)
    return verdict.counterexample or example


class _Sample:
    """A sample as one flat list of elements, of which some are nonzero."""

    def __init__(self, inputs: tuple[Array, ...]) -> None:
        self._inputs = [x.copy() for x in inputs]
        self._ends = np.cumsum([x.size for x in inputs])
        self._settle()

    def _settle(self) -> None:
        self.nonzero: Index = np.concatenate(
            [
                np.flatnonzero(x) + end - x.size
                for x, end in zip(self._inputs, self._ends, strict=True)
            ]
        )

    def clear(self, elements: Index) -> None:
        """Set elements to zero."""
        self._inputs = [x[0] for x in self.cleared([elements])]
        self._settle()

    def cleared(self, chunks: list[Index]) -> list[Array]:
        """Return arrays (chunks, *shape), one per input, each without one chunk of elements."""
        arrays = []
        for x, end in zip(self._inputs, self._ends, strict=True):
            rows = np.repeat(x.reshape(1, -1), len(chunks), axis=0)
            for row, chunk in zip(rows, chunks, strict=True):
                inside = chunk[(chunk >= end - x.size) & (chunk < end)]
                row[inside - (end - x.size)] = 0
            arrays.append(rows.reshape(len(chunks), *x.shape))
        return arrays

    def arrays(self) -> list[Array]:
        """Return an array per input."""
        return self._inputs


def _differ(a: Graph, b: Graph, sample: _Sample, chunks: list[Index]) -> Mask:
    """Return, bool (chunks,), whether the graphs differ on the sample without each chunk."""
    return Simulation(a, inputs=sample.cleared(chunks)).differing_samples(b)
