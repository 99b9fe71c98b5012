"""The structural verifier: every rule that a graph must obey, checked whenever one is built.

Rules are checked in one vectorized sweep per body, so that verifying costs less than any pass. An
error names the graph, the node and the offending entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np

from lgir.errors import GraphError
from lgir.ir.body import Body
from lgir.ir.nodes import GroupSum, Logic, Node, Op, Reshape, Threshold, infer_value
from lgir.ir.truth_tables import MAX_FANIN, full_mask, table_dtype
from lgir.ir.types import DTYPES, FIRST_TAP, Value

if TYPE_CHECKING:
    from lgir.ir.graph import Graph

Fail = Callable[[str], NoReturn]

MAX_RANK: Final = 3
MAX_SIZE: Final = 2**31 - 1
"""Largest stride, axis, and number of elements of a value: net ids and offsets are int32."""

MAX_AXES: Final = 8
"""Most axes of a value without the batch, and of the array of a threshold's levels."""


def verify_graph(graph: Graph) -> dict[str, Value]:
    """Return all values of `graph` by name. Raises GraphError at the first broken rule."""
    values: dict[str, Value] = {}
    where = f"graph {graph.name!r}"
    verify_name(graph.name, "graph")
    for value in graph.inputs:
        verify_input(value)
        if value.name in values:
            raise GraphError(f"{where}: input %{value.name} is defined twice")
        values[value.name] = value
    for node in graph.nodes:
        if node.output in values:
            raise GraphError(f"{where}: %{node.output} is defined twice")
        for name in node.inputs:
            if name not in values:
                raise GraphError(
                    f"{where}: node %{node.output} reads %{name}, which is not defined before it "
                    "(a cycle, a wrong order, or a missing node)"
                )
        verify_name(node.output, "value")
        inputs = tuple(values[name] for name in node.inputs)
        verify_node(node, inputs)
        values[node.output] = infer_value(node.op, inputs, node.output)
    if not graph.outputs:
        raise GraphError(f"{where} has no output")
    for name in graph.outputs:
        if name not in values:
            raise GraphError(f"{where}: output %{name} is not defined")
    for entry in graph.metadata.items():
        if not all(isinstance(text, str) and _is_unicode(text) for text in entry):
            raise GraphError(f"{where}: metadata maps strings to strings, not {entry!r}")
    return values


def verify_name(name: object, what: str) -> None:
    """Raise GraphError if `name` is not text that every file format can hold."""
    if not isinstance(name, str) or not name:
        raise GraphError(f"{name!r} cannot name a {what}; a name is a string, and not empty")
    if not _is_unicode(name):
        raise GraphError(f"{name!r} cannot name a {what}; it holds a lone surrogate")


def _is_unicode(text: str) -> bool:
    """Return False for text with a lone surrogate, which no file can hold as UTF-8."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def verify_input(value: Value) -> None:
    """Raise GraphError if a graph input has no valid name or type."""
    verify_name(value.name, "value")
    if value.dtype not in DTYPES:
        raise GraphError(
            f"input %{value.name} has unknown dtype {value.dtype!r} (known: {', '.join(DTYPES)})"
        )
    if not value.shape or not _are_sizes(value.shape):
        raise GraphError(
            f"input %{value.name} has shape {list(value.shape)}; every axis must be an integer "
            f"from 1 to {MAX_SIZE}"
        )
    if message := _excess(value):
        raise GraphError(f"input {message}")


def _excess(value: Value) -> str | None:
    """Return what of a value's shape exceeds the limits, or None."""
    if len(value.shape) > MAX_AXES:
        return f"%{value.name} has {len(value.shape)} axes; at most {MAX_AXES} are supported"
    if value.size > MAX_SIZE:
        return f"{value} has {value.size:,} elements per sample; at most {MAX_SIZE:,} are supported"
    return None


def _are_sizes(shape: Iterable[object]) -> bool:
    return all(isinstance(d, int | np.integer) and 1 <= d <= MAX_SIZE for d in shape)


def verify_node(node: Node, inputs: tuple[Value, ...]) -> None:
    """Raise GraphError if `node` breaks a rule on inputs of these types."""

    def fail(message: str) -> NoReturn:
        raise GraphError(f"node %{node.output} ({node.op_type}): {message}")

    if type(node.op) not in _CHECKS:
        fail(f"is no operator; known: {', '.join(op.__name__ for op in _CHECKS)}")
    if not isinstance(node.op, Logic) and len(inputs) != 1:
        fail(f"takes one input, not {len(inputs)}")
    _CHECKS[type(node.op)](node.op, inputs, fail)
    if message := _excess(infer_value(node.op, inputs, node.output)):
        fail(message)


def _check_threshold(op: Threshold, inputs: tuple[Value, ...], fail: Fail) -> None:
    (x,) = inputs
    if x.dtype not in ("u8", "f32"):
        fail(f"input %{x.name} is {x.dtype}; thresholds apply to u8 or f32")
    if op.levels.ndim < 1 or op.levels.dtype != np.float32 or op.num_levels < 1:
        fail(f"levels must be float32 (..., L) with L >= 1, not {op.levels.dtype}{op.levels.shape}")
    lead = op.levels.shape[:-1]
    if lead != x.shape[: len(lead)]:
        fail(f"levels {op.levels.shape} do not match a prefix of the input's shape {x.shape}")
    if op.levels.ndim > MAX_AXES:
        fail(f"levels have {op.levels.ndim} axes; at most {MAX_AXES} are supported")
    if np.isnan(op.levels).any():
        fail("levels hold NaN")


def _check_logic(op: Logic, inputs: tuple[Value, ...], fail: Fail) -> None:
    rank = len(op.space)
    if rank > MAX_RANK:
        fail(f"iteration space {op.space} has {rank} axes; at most {MAX_RANK} are supported")
    if len(op.stride) != rank:
        fail(f"stride {op.stride} and iteration space {op.space} differ in length")
    if not _are_sizes(op.space) or not _are_sizes(op.stride):
        fail(f"iteration space {op.space} and stride {op.stride} must be of 1 to {MAX_SIZE}")
    if not inputs:
        fail("reads no value; at least one input is needed, even if every gate is constant")
    for x in inputs:
        if x.dtype != "bit":
            fail(f"input %{x.name} is {x.dtype}; gates read bits")
        if len(x.shape) != rank + 1:
            fail(
                f"input %{x.name} has shape {x.shape}; an iteration space of {rank} axes reads "
                f"a channel axis and {rank} more (insert a Reshape)"
            )
    verify_body(op.body, rank, tuple(x.shape[0] for x in inputs), fail)


def verify_body(body: Body, rank: int, channels: tuple[int, ...], fail: Fail) -> None:
    """Check ids, tables and taps of `body` against inputs of these channel counts.

    `fail` is called with the message of the first broken rule.
    """
    for name in ("taps", "fanin", "outputs"):
        if getattr(body, name).dtype != np.int32:
            fail(f"{name} is {getattr(body, name).dtype}, not int32 (make bodies with Body.build)")
    if body.rank != rank:
        fail(f"taps have {body.rank} offsets, the iteration space has {rank} axes")
    if not 1 <= body.k <= MAX_FANIN:
        fail(f"gates have {body.k} inputs; 1 to {MAX_FANIN} are supported")
    if body.table.shape != (body.num_gates,) or body.table.dtype != table_dtype(body.k):
        fail(
            f"table is {body.table.dtype}{body.table.shape}, not one {body.k}-input table per gate"
        )
    if len(body.outputs) == 0:
        fail("has no output channel")
    if body.num_gates:
        gate_net = np.arange(body.first_gate, body.num_nets, dtype=np.int32)
        columns = body.fanin.T
        if any((column < 0).any() or (column >= gate_net).any() for column in columns):
            bad = (columns < 0) | (columns >= gate_net)
            g = int(np.flatnonzero(bad.any(axis=0))[0])
            net, operands = int(gate_net[g]), body.fanin[g].tolist()
            fail(
                f"gate {g} (net {net}) reads nets {operands}; operands must lie in 0..{net - 1} "
                "(a cycle or an index out of range)"
            )
        if int(body.table.max()) > full_mask(body.k):
            g = int(np.argmax(body.table))
            fail(f"gate {g} has table {int(body.table[g]):#x}, more than {1 << body.k} bits")
    bad = (body.outputs < 0) | (body.outputs >= body.num_nets)
    if bad.any():
        c = int(np.flatnonzero(bad)[0])
        fail(f"output {c} is net {int(body.outputs[c])}; nets are 0..{body.num_nets - 1}")
    if body.num_taps:
        source, channel = body.taps[:, 0], body.taps[:, 1]
        limit = np.array(channels, dtype=np.int64)
        bad = (source < 0) | (source >= len(limit))
        if not bad.any():
            bad = (channel < 0) | (channel >= limit[source])
        if bad.any():
            t = int(np.flatnonzero(bad)[0])
            fail(
                f"tap {t} (net {FIRST_TAP + t}) reads input {int(source[t])} channel "
                f"{int(channel[t])}; the inputs have {list(channels)} channels"
            )


def _check_groupsum(op: GroupSum, inputs: tuple[Value, ...], fail: Fail) -> None:
    (x,) = inputs
    if x.dtype != "bit" or len(x.shape) != 1:
        fail(f"input %{x.name} is {x.type}; a flat bit vector is needed (insert a Reshape)")
    if not _are_sizes([op.groups]) or x.size % op.groups:
        fail(f"{x.size} bits do not split into {op.groups} equal groups")
    with np.errstate(over="ignore"):
        tau, beta = np.float32(op.tau), np.float32(op.beta)
    if not np.isfinite(tau) or tau == 0 or not np.isfinite(beta):
        fail(f"tau={op.tau} must be finite and not 0 in float32, beta={op.beta} finite")


def _check_reshape(op: Reshape, inputs: tuple[Value, ...], fail: Fail) -> None:
    (x,) = inputs
    if not op.shape or not _are_sizes(op.shape) or math.prod(op.shape) != x.size:
        fail(f"cannot reshape {x.type} to {list(op.shape)}")


_CHECKS: dict[type[Op], Callable[..., None]] = {
    Threshold: _check_threshold,
    Logic: _check_logic,
    GroupSum: _check_groupsum,
    Reshape: _check_reshape,
}
