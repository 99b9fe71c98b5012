"""The reference backend: the interpreter of `lgir.ir.simulate`, the definition of correct."""

from __future__ import annotations

import numpy as np

from lgir.executable import Executable
from lgir.ir.graph import Graph
from lgir.ir.simulate import evaluate, pack_planes, unpack_planes
from lgir.registry import register_backend
from lgir.samples import Array, check_values

_BATCH = 4096


class ReferenceExecutable(Executable):
    """Evaluates the graph in numpy, a few thousand samples at a time."""

    backend = "reference"

    def _run(self, samples: list[Array], n: int, threads: int | None) -> list[Array]:
        check_values(self.graph.inputs, samples)
        starts = range(0, max(n, 1), _BATCH)
        parts = [self._run_part([a[s : s + _BATCH] for a in samples]) for s in starts]
        return [np.concatenate(p) for p in zip(*parts, strict=True)]

    def _run_part(self, samples: list[Array]) -> list[Array]:
        n = len(samples[0])
        inputs = {
            value.name: pack_planes(array.astype(bool)) if value.dtype == "bit" else array
            for value, array in zip(self.graph.inputs, samples, strict=True)
        }
        values = evaluate(self.graph, inputs, n)
        types = self.graph.values
        return [
            unpack_planes(values[name], n) if types[name].dtype == "bit" else values[name]
            for name in self.graph.outputs
        ]


@register_backend("reference")
def compile_reference(graph: Graph) -> ReferenceExecutable:
    """Interpret the graph in numpy: slow, and the meaning every other backend is held to."""
    return ReferenceExecutable(graph)
