"""The reference backend: the interpreter of `lgir.ir.simulate`, the definition of correct."""

from __future__ import annotations

from typing import Final

import numpy as np

from lgir.executable import Executable
from lgir.ir.graph import Graph
from lgir.ir.simulate import interpret
from lgir.registry import register_backend
from lgir.samples import Array, check_values

_BATCH: Final = 4096
"""The samples that are evaluated together, so that memory does not grow with the batch."""


class ReferenceExecutable(Executable):
    """Evaluates a graph in numpy, 4,096 samples at a time."""

    backend = "reference"

    def _run(self, samples: list[Array], n: int, threads: int | None) -> list[Array]:
        check_values(self.graph.inputs, samples)
        starts = range(0, max(n, 1), _BATCH)
        parts = [interpret(self.graph, [a[s : s + _BATCH] for a in samples]) for s in starts]
        return [np.concatenate(p) for p in zip(*parts, strict=True)]


@register_backend("reference")
def compile_reference(graph: Graph) -> ReferenceExecutable:
    """Interpret the graph in numpy: slow, and the definition that all other backends must equal."""
    return ReferenceExecutable(graph)
