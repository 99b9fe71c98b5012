"""The interpreter: walk an ATen graph, with torch for what is concrete and tables for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch

from lgir.errors import LiftError
from lgir.frontend.trace.context import Context, Refused
from lgir.frontend.trace.export import AtenGraph, operator_name, origin_of
from lgir.frontend.trace.functions import Functions
from lgir.frontend.trace.numbers import Numbers
from lgir.frontend.trace.operators import (  # noqa: F401 (fill the dispatch table)
    accumulations,
    heads,
    lookups,
    normalizations,
    pointwise,
    products,
    reductions,
    structural,
    windows,
)
from lgir.frontend.trace.operators.heads import Head
from lgir.frontend.trace.operators.table import HANDLERS, Call

_IGNORED: Final = {
    "_assert_async", "_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range",
    "sym_constrain_range_for_size",
}  # fmt: skip
_OF_SHAPE: Final = {
    "full_like", "zeros_like", "ones_like", "empty_like", "new_zeros", "new_ones", "new_full",
    "new_empty", "sym_size", "size",
}  # fmt: skip
_RANDOM: Final = {"rand_like", "randn_like", "randint_like", "bernoulli", "native_dropout",
                  "multinomial", "rand", "randn", "randint", "randperm", "normal",
                  "exponential"}  # fmt: skip


class UnknownOperator(LiftError):
    """An operator that the dispatch table lacks; decomposed, its parts may be there."""


def interpret(graph: AtenGraph, inputs: Sequence[Any], context: Context, label: str) -> list[Any]:
    """The outputs for symbolic inputs. Raises LiftError at the operation that is not Boolean."""
    known: dict[Any, Any] = {}
    given = dict(zip(graph.inputs, inputs, strict=True))
    last_use = _last_uses(graph)
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            known[node] = given[node.name] if node.name in given else graph.values[node.name]
        elif node.op == "get_attr":
            known[node] = _attribute(graph.module, node.target)
        elif node.op == "call_function":
            known[node] = _run(node, known, context, label)
        for gone in last_use.get(node, ()):
            known.pop(gone, None)
    return [known[out] if isinstance(out, torch.fx.Node) else out for out in graph.outputs]


def _last_uses(graph: AtenGraph) -> dict[Any, list[Any]]:
    """Node -> the nodes whose values nobody needs after it."""
    last: dict[Any, Any] = {}
    for node in graph.graph.nodes:
        if node.op != "output":
            last.update(dict.fromkeys(node.all_input_nodes, node))
    kept = {out for out in graph.outputs if isinstance(out, torch.fx.Node)}
    found: dict[Any, list[Any]] = {}
    for node, user in last.items():
        if node not in kept:
            found.setdefault(user, []).append(node)
    return found


def _attribute(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


def _run(node: Any, known: Mapping[Any, Any], context: Context, label: str) -> Any:
    name = operator_name(node)
    if name in _IGNORED:
        return None
    args = torch.fx.node.map_arg(node.args, lambda n: known[n])
    kwargs = dict(torch.fx.node.map_arg(node.kwargs, lambda n: known[n]))
    if name == "getitem":
        return args[0][args[1]]
    symbolic = _symbols([*args, *kwargs.values()])
    context.origin = origin_of(node)
    if any(isinstance(x, Head) for x in symbolic):
        raise _refusal(
            label, context, "works on the argmax, softmax or maximum of scores; lift the module up "
            "to the scores", symbolic,
        )  # fmt: skip
    if name in _RANDOM:
        raise _refusal(
            label, context, "draws random numbers in eval mode; a circuit has none. Return the "
            "likeliest value when not self.training", symbolic,
        )  # fmt: skip
    with torch.no_grad():
        if not symbolic:
            try:
                return node.target(*args, **kwargs)
            except (RuntimeError, IndexError, ValueError) as error:
                raise _refusal(label, context, f"fails: {error}", symbolic) from error
        if name in _OF_SHAPE:
            plain = [_blank(x) for x in args]
            return node.target(*plain, **kwargs)
        handler = HANDLERS.get(name)
        if handler is None and pointwise.is_pointwise(node.target):
            handler = pointwise.pointwise
        if handler is None:
            raise UnknownOperator(
                str(_refusal(label, context, "is an operator that lgir cannot trace", symbolic))
            )
        call = Call(name, node.target, tuple(args), kwargs, node.meta.get("val"))
        try:
            return handler(context, call)
        except Refused as reason:
            raise _refusal(label, context, str(reason), symbolic) from None
        except (RuntimeError, IndexError, ValueError) as error:
            if isinstance(error, LiftError):
                raise
            raise _refusal(label, context, f"fails: {error}", symbolic) from error


def _symbols(values: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for x in values:
        if isinstance(x, list | tuple):
            found += _symbols(x)
        elif isinstance(x, Functions | Numbers | Head):
            found.append(x)
    return found


def _blank(x: Any) -> Any:
    return torch.zeros(x.shape, dtype=x.dtype) if isinstance(x, Functions | Numbers) else x


def _refusal(label: str, context: Context, reason: str, symbolic: Sequence[Any]) -> LiftError:
    origin = context.origin
    source = next(
        (x.origin for x in symbolic if getattr(x, "origin", None) and x.origin.operator), None
    )
    after = f"; its input comes from {source}" if source and source != origin else ""
    return LiftError(f"{label}: {origin} {reason}{after}")
