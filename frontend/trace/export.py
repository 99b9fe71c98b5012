"""A module as a graph of ATen operators: torch.export, or make_fx if that refuses."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import torch

from lgir.errors import LiftError
from lgir.frontend.trace.netlist import Origin

_FRAME: Final = re.compile(r'File "([^"]*)", line (\d+), in [^\n]*\n\s*([^\n]*)')


@dataclass(frozen=True, eq=False)
class AtenGraph:
    """A graph of ATen operators without mutation.

    Attributes:
        graph: the torch.fx graph.
        values: placeholder -> its concrete tensor, for parameters, buffers and constants.
        inputs: placeholders of the user's inputs, in order.
        outputs: the output node's arguments that are the user's.
        module: what holds the attributes that nodes read.
        program: the ExportedProgram, if it is one.
    """

    graph: torch.fx.Graph
    values: Mapping[str, Any]
    inputs: Sequence[str]
    outputs: Sequence[Any]
    module: Any = None
    program: Any = None


@contextmanager
def in_eval_mode(module: Any) -> Iterator[None]:
    """Evaluate in eval mode without gradients, and restore each submodule's mode afterwards."""
    modes = [(m, m.training) for m in module.modules()] if hasattr(module, "modules") else []
    try:
        if modes and any(mode for _, mode in modes):
            with suppress(NotImplementedError):  # of an exported program, which has no modes
                module.eval()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def export_module(module: Any, samples: Sequence[torch.Tensor], label: str) -> AtenGraph:
    """Trace `module` on one sample of each input.

    Raises LiftError if it cannot be traced, as with control flow that depends on the data.
    """
    with in_eval_mode(module):
        try:
            return of_program(torch.export.export(module, tuple(samples), strict=False))
        except Exception as error:
            reason = error
        try:
            return _of_make_fx(module, samples)
        except Exception as error:
            raise LiftError(f"{label}: {_explained(reason, error)}") from reason


def of_program(program: Any, decompose: bool = False) -> AtenGraph:
    """A torch.export.ExportedProgram as a graph with its values.

    It is decomposed into fewer operators, none of which mutates, if asked for or needed.
    """
    if decompose or any(map(_mutates, program.graph.nodes)):
        program = program.run_decompositions()
    signature = program.graph_signature
    values: dict[str, Any] = {}
    inputs = []
    for spec in signature.input_specs:
        kind, name = spec.kind.name, spec.arg.name
        if kind == "USER_INPUT":
            inputs.append(name)
        elif kind in ("PARAMETER", "BUFFER"):
            known = program.state_dict if spec.target in program.state_dict else program.constants
            values[name] = known[spec.target]
        elif spec.target in program.constants:
            values[name] = program.constants[spec.target]
    (end,) = [node for node in program.graph.nodes if node.op == "output"]
    outputs = [
        node
        for node, spec in zip(end.args[0], signature.output_specs, strict=True)
        if spec.kind.name == "USER_OUTPUT"
    ]
    return AtenGraph(program.graph, values, inputs, outputs, program.graph_module, program)


def _mutates(node: Any) -> bool:
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and bool(schema.is_mutable)


def _of_make_fx(module: Any, samples: Sequence[torch.Tensor]) -> AtenGraph:
    from torch.func import functionalize
    from torch.fx.experimental.proxy_tensor import make_fx

    traced = make_fx(
        functionalize(lambda *x: module(*x), remove="mutations"),
        tracing_mode="fake",
        _allow_non_fake_inputs=True,
    )(*samples)
    inputs = [node.name for node in traced.graph.nodes if node.op == "placeholder"]
    (end,) = [node for node in traced.graph.nodes if node.op == "output"]
    found = end.args[0]
    outputs = list(found) if isinstance(found, list | tuple) else [found]
    return AtenGraph(traced.graph, {}, inputs, outputs, traced)


def _explained(export: BaseException, trace: BaseException) -> str:
    text = str(export) + str(trace)
    if re.search("data-dependent|DataDependent|control flow|GuardOnDataDependent|item\\(\\)", text):
        return (
            f"its control flow depends on the data ({_line(export) or _line(trace)}), and a "
            "circuit has none; compute both cases and choose with torch.where"
        )
    first = str(export).strip().splitlines() or [type(export).__name__]
    return (
        f"torch.export cannot trace its forward ({type(export).__name__}: {first[0]:.300}); check "
        "input_shape and input_dtype, and keep to tensor operators"
    )


def _line(error: BaseException) -> str:
    found = _FRAME.findall(str(error))
    return f"{_short(found[-1][0])}:{found[-1][1]}: {found[-1][2]}" if found else ""


def _short(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def origin_of(node: Any) -> Origin:
    """Where in the user's module a node comes from."""
    stack = node.meta.get("nn_module_stack") or {}
    path = ""
    for name, _ in stack.values():
        path = str(name)
    path = re.sub(r"@\d+", "", path)
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    own = [f for f in frames if "/torch/" not in f[0]] or frames
    line = f"{_short(own[-1][0])}:{own[-1][1]}: {own[-1][2].strip()}" if own else ""
    return Origin(path, operator_name(node), line)


def operator_name(node: Any) -> str:
    """An operator's name without its overload."""
    name = getattr(node.target, "_opname", None) or getattr(node.target, "__name__", None)
    return str(name or node.target)
