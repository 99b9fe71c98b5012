"""Whether a graph computes what a module does, by simulation or by tracing and proof."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from lgir.equivalence.sampling import default_samples, draw_samples
from lgir.equivalence.verdict import Counterexample, Verdict
from lgir.equivalence.verification import METHODS, verify_graphs
from lgir.errors import GraphError, LiftError, unknown_name
from lgir.frontend.trace.target import Target, target_of
from lgir.frontend.trace.tracing import KINDS, trace_module
from lgir.ir.graph import Graph
from lgir.registry import BACKENDS

Array = npt.NDArray[Any]

_CHUNK: Final = 64


def verify_module(
    graph: Graph,
    model: Any,
    method: str = "sim",
    *,
    samples: int | None = None,
    seed: int = 0,
    seconds: float = 120.0,
) -> Verdict:
    """Compare a graph's outputs with a module's in eval mode.

    Args:
        model: a module, a callable, an ExportedProgram or an ONNX model; it takes what the graph
            takes, and gives the scores or bits that the graph gives, or the argmax of the scores.
        method: "sim" runs the module on random samples. Any other method traces the module, and
            compares the two graphs.

    Raises:
        GraphError: the module does not take the graph's inputs, or its outputs have other shapes.
        LiftError: the module cannot be traced.
    """
    label = type(model).__name__
    if method not in METHODS:
        raise unknown_name("verification method", method, METHODS)
    target = target_of(model, label)
    if method != "sim":
        shapes = [value.shape for value in graph.inputs]
        dtypes = [value.dtype for value in graph.inputs]
        traced = trace_module(target, shapes, dtypes, label)
        names = {mine.name: value.name for mine, value in zip(traced.inputs, graph.inputs,
                                                              strict=True)}  # fmt: skip
        return verify_graphs(
            graph, _with_inputs(traced, names), method, samples=samples, seed=seed, seconds=seconds
        )
    count = default_samples(graph) if samples is None else samples
    drawn = draw_samples(graph, count, seed)
    kinds = _kinds(graph, target, [x[:1] for x in drawn], label)
    given = BACKENDS.get("reference")(graph)(*drawn)
    ours = list(given) if isinstance(given, tuple) else [given]
    step = 1 if target.one_by_one else _CHUNK
    for start in range(0, count, step):
        part = [x[start : start + step] for x in drawn]
        theirs = target.evaluate(part, kinds)
        if len(theirs) != len(ours):
            raise GraphError(f"the module has {len(theirs)} outputs, the graph {len(ours)}")
        for name, left, right in zip(graph.outputs, ours, theirs, strict=True):
            mine, yours = _comparable(left[start : start + step], right, name)
            wrong = np.argwhere(mine != yours)
            if len(wrong):
                row, *index = (int(i) for i in wrong[0])
                example = Counterexample(
                    tuple(x[row] for x in part), name, tuple(index), mine[row, *index].item(),
                    yours[row, *index].item(),
                )  # fmt: skip
                return Verdict(False, "sim", count, example)
    return Verdict(True, "sim", count)


def _comparable(left: Array, right: Array, name: str) -> tuple[Array, Array]:
    """Outputs of one shape; labels are compared with the argmax of scores."""
    if left.ndim == 2 and right.dtype.kind == "i" and right.size == len(left):
        left = left.argmax(axis=1)
    size = len(left)
    left, right = left.reshape(size, -1), right.reshape(size, -1)
    if left.shape != right.shape:
        raise GraphError(
            f"output %{name} has {left.shape[1]} elements a sample, the module's {right.shape[1]}"
        )
    return left.astype(np.float64), right.astype(np.float64)


def _kinds(graph: Graph, target: Target, sample: list[Array], label: str) -> list[torch.dtype]:
    """The dtypes of tensors that the module takes for the graph's inputs."""
    if target.kinds is not None:
        return list(target.kinds)
    reason: Exception | None = None
    for attempt in range(max(len(KINDS[v.dtype]) for v in graph.inputs)):
        kinds = [KINDS[v.dtype][min(attempt, len(KINDS[v.dtype]) - 1)] for v in graph.inputs]
        try:
            target.evaluate(sample, kinds)
        except Exception as error:
            reason = reason or error
        else:
            return kinds
    types = ", ".join(value.type for value in graph.inputs)
    raise GraphError(f"{label} fails on {types} ({type(reason).__name__}: {reason})") from reason


def _with_inputs(graph: Graph, names: dict[str, str]) -> Graph:
    """The graph with inputs of other names."""
    taken = {n.output for n in graph.nodes}
    if taken & set(names.values()):
        raise LiftError(f"the graph's input names {', '.join(names.values())} are taken")
    return replace(
        graph,
        inputs=tuple(replace(v, name=names[v.name]) for v in graph.inputs),
        nodes=tuple(
            replace(n, inputs=tuple(names.get(i, i) for i in n.inputs)) for n in graph.nodes
        ),
        outputs=tuple(names.get(o, o) for o in graph.outputs),
    )
