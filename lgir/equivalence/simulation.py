"""Equivalence by bit-parallel simulation: the check that runs after every pass.

Outputs are compared bit for bit on random samples, or on samples that the caller gives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.equivalence.sampling import default_samples, draw_input
from lgir.equivalence.verdict import Counterexample, Verdict
from lgir.errors import GraphError
from lgir.ir.graph import Graph
from lgir.ir.simulate import evaluate, pack_planes, unpack_planes

Array = npt.NDArray[Any]


def check_signature(a: Graph, b: Graph) -> None:
    """Raise GraphError if the inputs (name, type) or the outputs (type) differ, in their order."""
    if a.inputs != b.inputs:
        left_inputs, right_inputs = (", ".join(map(str, g.inputs)) for g in (a, b))
        raise GraphError(f"the graphs differ in inputs: {left_inputs} against {right_inputs}")
    left, right = ([g.values[name].type for name in g.outputs] for g in (a, b))
    if left != right:
        raise GraphError(
            f"the graphs differ in outputs: {', '.join(left)} against {', '.join(right)}"
        )


class Simulation:
    """The outputs of one graph on some samples, with which other graphs are compared.

    Args:
        graph: the graph.
        samples: number of samples to draw; by default it depends on the graph's size.
        seed: seed of the drawn samples.
        inputs: arrays (n, *shape), one per graph input, to use instead of drawn ones.

    Raises:
        GraphError: `samples` is not positive.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        samples: int | None = None,
        seed: int = 0,
        inputs: list[Array] | None = None,
    ) -> None:
        self.graph = graph
        if inputs is None:
            count = default_samples(graph) if samples is None else samples
            if count < 1:
                raise GraphError(f"samples={samples} is not a positive number")
            rng = np.random.default_rng(seed)
            self._inputs = {v.name: draw_input(graph, v, count, rng) for v in graph.inputs}
            self.samples = count
        else:
            self._inputs = {
                v.name: pack_planes(x) if v.dtype == "bit" else x
                for v, x in zip(graph.inputs, inputs, strict=True)
            }
            self.samples = len(inputs[0])
        self._expected = self._outputs(graph)

    def compare(self, other: Graph) -> Verdict:
        """Return a verdict on `other`; its counterexample is the first sample that differs.

        Raises GraphError if the signatures differ.
        """
        check_signature(self.graph, other)
        outputs = self._outputs(other)
        for name, left, right in zip(self.graph.outputs, self._expected, outputs, strict=True):
            if not np.array_equal(_bits(left), _bits(right)):
                if self.graph.values[name].dtype == "bit":
                    left, right = (
                        unpack_planes(left, self.samples),
                        unpack_planes(right, self.samples),
                    )
                sample, *index = (int(i) for i in np.argwhere(_bits(left) != _bits(right))[0])
                element = (sample, *index)
                example = Counterexample(
                    self._sample(sample),
                    name,
                    tuple(index),
                    left[element].item(),
                    right[element].item(),
                )
                return Verdict(False, "sim", self.samples, example)
        return Verdict(True, "sim", self.samples)

    def differing_samples(self, other: Graph) -> npt.NDArray[np.bool_]:
        """Return on which samples `other` differs in any output, bool (samples,).

        Raises GraphError if the signatures differ.
        """
        check_signature(self.graph, other)
        differ = np.zeros(self.samples, bool)
        for name, left, right in zip(
            self.graph.outputs, self._expected, self._outputs(other), strict=True
        ):
            if self.graph.values[name].dtype == "bit":
                left, right = (unpack_planes(x, self.samples) for x in (left, right))
            unequal = _bits(left) != _bits(right)
            differ |= unequal.reshape(self.samples, -1).any(axis=1)
        return differ

    def _sample(self, i: int) -> tuple[Array, ...]:
        """Return sample `i` of each input, as it was drawn."""
        bit = np.uint64(i % 64)
        return tuple(
            (x[..., i // 64] >> bit & np.uint64(1)).astype(bool)
            if v.dtype == "bit"
            else x[i].copy()
            for v, x in zip(self.graph.inputs, self._inputs.values(), strict=True)
        )

    def _outputs(self, graph: Graph) -> list[Array]:
        """Return each output: scores (n, groups), or bit planes, zero after the last sample."""
        values = evaluate(graph, self._inputs, self.samples)
        used_bits = np.uint64((1 << 64) - 1 >> -self.samples % 64)
        outputs = []
        for name in graph.outputs:
            value = values[name]
            if graph.values[name].dtype == "bit" and self.samples % 64:
                value = value.copy()
                value[..., -1] &= used_bits
            outputs.append(value)
        return outputs


def _bits(values: Array) -> Array:
    """Return what to compare, so that 0.0 differs from -0.0 and NaN equals itself."""
    return values.view(np.uint32) if values.dtype == np.float32 else values
