"""The text form of a graph: what `print(graph)` and `lgir dump` show, and golden tests hold.

Each line is one statement, with SSA names after a percent sign as in MLIR. Two-input gates are
written by name, wider ones by truth table. `dumps(graph, full=True)` and `parse` (see
`lgir.formats.text.parser`) are inverses. The printer is part of `lgir.ir`, and the parser is not,
because a graph prints itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.nodes import GroupSum, Logic, Node, Reshape, Threshold
from lgir.ir.truth_tables import gate_name, narrow_table
from lgir.ir.types import FIRST_TAP, Value

if TYPE_CHECKING:
    from lgir.ir.graph import Graph

TEXT_VERSION: Final = 1

_LONG_BODY: Final = 32  # lines; a longer body is elided unless `full` is set
_LONG_LIST: Final = 8  # taps, gates, outputs or levels that an elided body or list shows
_LONG_TEXT: Final = 400  # characters; longer metadata is elided unless `full` is set
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)


def dumps(graph: Graph, *, full: bool = False) -> str:
    """Return the text of `graph`.

    With `full`, every gate is written, which is the only form that `parse` reads. Otherwise long
    bodies and long lists of levels are cut short, with a line that says what is missing.
    """
    lines = [f"lgir {TEXT_VERSION}", f"graph {_string(graph.name)} {{"]
    for key, text in sorted(graph.metadata.items()):
        shown = _string(text)
        if not full and len(text) > _LONG_TEXT:
            shown = _elided(len(text), "character")
        lines.append(f"  metadata {_string(key)} = {shown}")
    for value in graph.inputs:
        lines.append(f"  input {_name(value.name)} : {value.type}")
    for node in graph.nodes:
        lines.extend(_node_lines(node, graph.values[node.output], full))
    lines.append(f"  output {', '.join(map(_name, graph.outputs))}")
    lines.append("}")
    return "\n".join(lines) + "\n"


def print_node(graph: Graph, name: str, *, full: bool = False) -> str:
    """Return the text of the node `name` alone, cut short as by `dumps` unless `full` is set.

    Raises UnknownNameError, which suggests a near name, if there is no such node.
    """
    node = graph.node(name)
    return "\n".join(_node_lines(node, graph.values[node.output], full)) + "\n"


def gate_names(body: Body) -> list[str]:
    """Return the `gate_name` of every gate of a body."""
    arity = body.arity()
    names = np.empty(body.num_gates, dtype=object)
    for n in range(body.k + 1):
        gates = np.flatnonzero(arity == n)
        table = narrow_table(body.table[gates], body.k, n)
        unique, inverse = np.unique(table, return_inverse=True)
        spellings = np.array([gate_name(int(t), n) for t in unique], dtype=object)
        if len(gates):
            names[gates] = spellings[inverse]
    result: list[str] = names.tolist()
    return result


def _node_lines(node: Node, value: Value, full: bool) -> Iterator[str]:
    head = f"  {_name(node.output)} = {node.op_type.lower()}"
    operands = ", ".join(map(_name, node.inputs))
    op = node.op
    if isinstance(op, Logic):
        over = f" over {_dims(op.space)}" if op.space else ""
        if any(s != 1 for s in op.stride):
            over += f" stride {_dims(op.stride)}"
        body = op.body
        depth = int(body.levels().max())
        channels, gates = _count(len(body.outputs), "channel"), _count(body.num_gates, "gate")
        yield f"{head}({operands}){over} {{  ; {channels}, {gates}, depth {depth}"
        yield from _body_lines(body, full)
        yield f"  }} : {value.type}"
    elif isinstance(op, Threshold):
        yield f"{head} {operands} {{levels={_levels(op.levels, full)}}} : {value.type}"
    elif isinstance(op, GroupSum):
        tau, beta = _float(op.tau), _float(op.beta)
        yield f"{head} {operands} {{groups={op.groups}, tau={tau}, beta={beta}}} : {value.type}"
    else:
        assert isinstance(op, Reshape)
        yield f"{head} {operands} : {value.type}"


def _body_lines(body: Body, full: bool) -> Iterator[str]:
    elide = not full and body.num_taps + body.num_gates + 1 > _LONG_BODY
    taps, gates = body.num_taps, body.num_gates
    if elide:
        taps, gates = min(taps, _LONG_LIST), min(gates, _LONG_LIST)
    for i, (source, *cell) in enumerate(body.taps[:taps].tolist()):
        yield f"    %{FIRST_TAP + i} = tap {source}[{','.join(map(str, cell))}]"
    if taps < body.num_taps:
        yield f"    {_elided(body.num_taps - taps, 'tap')}"
    shown = Body(body.taps, body.fanin[:gates], body.table[:gates], body.outputs)
    for i, (name, fanin, arity) in enumerate(
        zip(gate_names(shown), shown.fanin.tolist(), shown.arity().tolist(), strict=True)
    ):
        operands = ", ".join(map(_net, fanin[:arity]))
        yield f"    %{body.first_gate + i} = {name} {operands}".rstrip()
    if gates < body.num_gates:
        yield f"    {_elided(body.num_gates - gates, 'gate')}"
    outputs = list(map(_net, body.outputs.tolist()))
    if not full and len(outputs) > _LONG_BODY:
        outputs[_LONG_LIST:] = [_elided(len(outputs) - _LONG_LIST, "output")]
    yield f"    yield {', '.join(outputs)}"


def _net(net: int) -> str:
    return f"%{net}" if net >= FIRST_TAP else ("false", "true")[net]


def _elided(count: int, what: str) -> str:
    return f"... {_count(count, what)} elided (lgir dump --full) ..."


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _dims(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _string(text: str) -> str:
    """Return a JSON string, so that no line break or lone surrogate can break the line."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _name(name: str) -> str:
    return f"%{name}" if _PLAIN_NAME.fullmatch(name) else f"%{_string(name)}"


def _levels(levels: npt.NDArray[np.float32], full: bool) -> str:
    if not full and levels.size > _LONG_BODY:
        return f"[{_elided(levels.size, 'level')}]"

    def spell(x: Any) -> str:
        return f"[{', '.join(map(spell, x))}]" if isinstance(x, np.ndarray) else _float32(x)

    return spell(levels)


def _float32(x: np.float32) -> str:
    """Return the shortest text that reads back as `x`, even if it is rounded to double first."""
    short = _trim(str(x))
    with np.errstate(over="ignore"):
        return short if np.float32(float(short)) == x else repr(float(x))


def _float(x: float) -> str:
    return _trim(repr(float(x)))


def _trim(text: str) -> str:
    return text[:-2] if text.endswith(".0") and text != "-0.0" else text
