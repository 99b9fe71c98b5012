"""trace_module: from a live module to a checked graph."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch

from lgir.errors import LiftError
from lgir.frontend.trace.comparison import compare
from lgir.frontend.trace.context import Context, Refused
from lgir.frontend.trace.emission import Emission
from lgir.frontend.trace.export import AtenGraph, export_module, in_eval_mode, of_program
from lgir.frontend.trace.functions import Functions
from lgir.frontend.trace.interpreter import UnknownOperator, interpret
from lgir.frontend.trace.netlist import Origin
from lgir.frontend.trace.numbers import InputBlock, Numbers
from lgir.frontend.trace.operators.heads import Head
from lgir.frontend.trace.scores import BitOutput, ScoreOutput, describe_output, emit_output
from lgir.frontend.trace.target import Target, target_of
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph

Shape = tuple[int, ...]

KINDS: Final = {
    "bit": (torch.float32, torch.bool, torch.int64, torch.uint8, torch.float64, torch.int32),
    "u8": (torch.uint8, torch.float32, torch.int64, torch.float64),
    "f32": (torch.float32, torch.float64),
}
"""The dtypes of tensors that a module may take for an input of each kind, most common first."""


def trace_module(
    module: Any,
    shapes: Sequence[Shape],
    dtypes: Sequence[str],
    label: str,
    samples: Any = None,
    name: str | None = None,
) -> Graph:
    """Trace a module, and compare the graph with it.

    Args:
        module: a torch module, a callable on tensors, or anything that `target_of` takes.
        shapes, dtypes: of its inputs, without the batch axis; "bit", "u8" or "f32".
        samples: one array (N, *shape) per input to compare on besides random ones.

    Raises LiftError if it is not Boolean, naming the operation, or if the graph differs.
    """
    target = target_of(module, label)
    graph, kinds = _export(target, shapes, dtypes, label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about operators that it runs
        context, found = _interpret(graph, shapes, dtypes, kinds, label)
    built, heads = build_graph(context, found, shapes, dtypes, label, name)
    compare(built, target, kinds, heads, samples, label)
    return built


def _interpret(
    graph: AtenGraph,
    shapes: Sequence[Shape],
    dtypes: Sequence[str],
    kinds: Sequence[torch.dtype],
    label: str,
) -> tuple[Context, list[Any]]:
    """The outputs for symbolic inputs, and what was made; decomposes operators if need be."""
    context = Context()
    inputs = [
        _input(context, i, shape, dtype, kind)
        for i, (shape, dtype, kind) in enumerate(zip(shapes, dtypes, kinds, strict=True))
    ]
    try:
        return context, interpret(graph, inputs, context, label)
    except UnknownOperator:
        if graph.program is None:
            raise
    fewer = of_program(graph.program, decompose=True)
    return _interpret(replace(fewer, program=None), shapes, dtypes, kinds, label)


def _export(
    target: Target, shapes: Sequence[Shape], dtypes: Sequence[str], label: str
) -> tuple[AtenGraph, list[torch.dtype]]:
    """Export with the first dtypes of tensors that the module takes."""
    module = target.module
    if target.kinds is not None:
        kinds = list(target.kinds)
        return export_module(module, _example(shapes, kinds), label), kinds
    floats = {p.dtype for p in module.parameters() if p.is_floating_point()}
    failure: Exception | None = None
    for attempt in range(max(len(KINDS[d]) for d in dtypes)):
        kinds = [KINDS[d][min(attempt, len(KINDS[d]) - 1)] for d in dtypes]
        if len(floats) == 1 and attempt == 0 and torch.float32 not in floats:
            kinds = [next(iter(floats)) if k == torch.float32 else k for k in kinds]
        example = _example(shapes, kinds)
        try:  # export takes what torch cannot compute, such as bitwise operators on floats
            with in_eval_mode(module):
                module(*example)
        except Exception as error:
            failure = failure or error
            continue
        return export_module(module, example, label), kinds
    assert failure is not None
    reason = (str(failure).strip().splitlines() or [""])[0]
    raise LiftError(
        f"{label}: its forward fails on {', '.join(map(str, shapes))} of {', '.join(dtypes)} "
        f"({type(failure).__name__}: {reason:.300}); check input_shape and input_dtype"
    ) from failure


def _example(shapes: Sequence[Shape], kinds: Sequence[torch.dtype]) -> list[torch.Tensor]:
    """One sample of each input."""
    return [torch.zeros((1, *shape), dtype=kind) for shape, kind in zip(shapes, kinds, strict=True)]


def _input(
    context: Context, number: int, shape: Shape, dtype: str, kind: torch.dtype
) -> Functions | Numbers:
    origin = Origin("", "input")
    if dtype == "bit":
        layer = context.netlist.add_input(number, shape, origin)
        return Functions.of_nets((1, *shape), layer.all_nets, kind, origin)
    size = int(np.prod(shape))
    block = context.sources.add_input(number, size, kind, dtype)
    source = block.base + np.arange(size)
    return Numbers((1, *shape), source, np.zeros(size, np.int64), kind, origin)


def build_graph(
    context: Context,
    outputs: Sequence[Any],
    shapes: Sequence[Shape],
    dtypes: Sequence[str],
    label: str,
    name: str | None = None,
) -> tuple[Graph, list[Any]]:
    """The graph of what was traced, and what heads the module puts on its outputs."""
    heads = [x if isinstance(x, Head) else None for x in outputs]
    described: list[BitOutput | ScoreOutput] = []
    try:
        for x in outputs:
            value = x.scores if isinstance(x, Head) else x
            context.origin = getattr(value, "origin", Origin()) or Origin()
            described.append(describe_output(context, value))
    except Refused as reason:
        raise LiftError(f"{label}: the output of {context.origin} {reason}") from None
    metadata = {"source": "trace"}
    if any(heads):
        metadata["head"] = ", ".join(h.name if h else "none" for h in heads)
    builder = GraphBuilder(name or label, metadata)
    names = _input_names(dtypes)
    values = [builder.input(n, d, s) for n, d, s in zip(names, dtypes, shapes, strict=True)]
    emission = Emission(builder, context.netlist, values)
    emission.views = {b.input: b.views for b in context.sources.blocks if isinstance(b, InputBlock)}
    emission.emit(np.concatenate([o.nets for o in described]))
    results = []
    for i, output in enumerate(described):
        score = "score" if len(described) == 1 else f"score{i + 1}"
        results.append(emit_output(builder, emission, output, score))
    return builder.build(*results), heads


def _input_names(dtypes: Sequence[str]) -> list[str]:
    if len(dtypes) == 1:
        return ["image" if dtypes[0] == "u8" else "x"]
    return [f"x{i + 1}" for i in range(len(dtypes))]
