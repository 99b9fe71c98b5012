"""The difference of two graphs, node by node: what was removed, added or changed, in numbers.

Nodes correspond if they have the same name. A pass keeps the names of the nodes that it changes, so
this is how to see what a pass did. `lgir.equivalence.equal_channels` says which values compute the
same, whatever their names.
"""

from __future__ import annotations

import difflib
import textwrap
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.ir.printer import print_node
from lgir.ir.summary import NodeSummary, Summary, summarize

_WIDTH: Final = 100
_INDENT: Final = 6
_SHOWN_OPERATIONS: Final = 8
_ELIDED: Final = "elided (lgir dump --full)"


@dataclass(frozen=True)
class NodeDiff:
    """One node in two graphs.

    Attributes:
        name: name of the node.
        before: the node in the first graph, None if it was added.
        after: the node in the second graph, None if it was removed.
        changed: whether the nodes differ in anything, wiring included.
        lines: lines of text IR that were removed (begun by "-"), added ("+") or are beside these
            (" "); empty if the text of either is elided.
    """

    name: str
    before: NodeSummary | None
    after: NodeSummary | None
    changed: bool
    lines: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """The mark of a line: "-" removed, "+" added, "~" changed, "=" unchanged."""
        if self.after is None:
            return "-"
        if self.before is None:
            return "+"
        return "~" if self.changed else "="

    @property
    def op_type(self) -> str:
        """The type of the operator, in the first graph if it was removed."""
        present = self.after or self.before
        assert present is not None
        return present.op_type

    def operations(self) -> dict[str, int]:
        """Return by how much the number of gates of each operation grew, the largest change first.

        Operations with as many gates as before are left out.
        """
        return _grown(*(x.operations if x else {} for x in (self.before, self.after)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings, fit for JSON."""
        return {
            "node": self.name,
            "change": {"-": "removed", "+": "added", "~": "changed", "=": "none"}[self.mark],
            "before": _numbers(self.before),
            "after": _numbers(self.after),
            "operations": self.operations(),
        }

    def __str__(self) -> str:
        return "\n".join(self._text())

    def _text(self) -> Iterator[str]:
        present = self.after or self.before
        assert present is not None
        before, after = self.before or present, self.after or present
        parts = [arrow(before.type, after.type)]
        if self.op_type == "Logic":
            parts.append(f"gates {arrow(f'{before.gates:,}', f'{after.gates:,}')}")
            parts.append(f"depth {arrow(str(before.depth), str(after.depth))}")
            parts.append(f"taps {arrow(f'{before.taps:,}', f'{after.taps:,}')}")
        if before.inputs != after.inputs:
            parts.append(f"reads {arrow(', '.join(before.inputs), ', '.join(after.inputs))}")
        yield f"  {self.mark} {self.name}: {self.op_type}, {', '.join(parts)}"
        operations = self.operations() if self.mark == "~" else {}
        if operations:
            yield from _wrapped(f"operations {spell_operations(operations)}")
        yield from (f"{_INDENT * ' '}{line}" for line in self.lines)


@dataclass(frozen=True)
class GraphDiff:
    """Two graphs, node by node; `str(diff)` shows the nodes that differ.

    Attributes:
        before, after: the two graphs in numbers.
        nodes: all nodes, in the order of the second graph; removed ones stand where they were.
    """

    before: Summary
    after: Summary
    nodes: tuple[NodeDiff, ...]

    @property
    def changed(self) -> tuple[NodeDiff, ...]:
        """The nodes that were removed, added or changed."""
        return tuple(node for node in self.nodes if node.changed)

    def operations(self) -> dict[str, int]:
        """Return by how much the number of gates of each operation grew, the largest change first.

        Operations with as many gates as before are left out.
        """
        return _grown(self.before.operations, self.after.operations)

    def headline(self) -> str:
        """Return one line: the nodes that differ, the gates and the depth of both graphs."""
        sizes = [
            ("gates", self.before.gates, self.after.gates),
            ("per sample", self.before.unrolled_gates, self.after.unrolled_gates),
            ("depth", self.before.depth, self.after.depth),
        ]
        if self.before.gates == self.before.unrolled_gates:
            del sizes[1]
        shown = ", ".join(f"{name} {arrow(f'{a:,}', f'{b:,}')}" for name, a, b in sizes)
        return f"{len(self.changed)} of {len(self.nodes)} nodes differ; {shown}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings, fit for JSON."""
        return {
            "gates": [self.before.gates, self.after.gates],
            "unrolled_gates": [self.before.unrolled_gates, self.after.unrolled_gates],
            "depth": [self.before.depth, self.after.depth],
            "operations": self.operations(),
            "nodes": [node.to_dict() for node in self.nodes],
        }

    def __str__(self) -> str:
        return "\n".join([self.headline(), *map(str, self.changed)])


def diff_graphs(
    a: Graph, b: Graph, *, nodes: Collection[str] = (), full: bool = False
) -> GraphDiff:
    """Return the difference of two graphs by the names of their nodes.

    Args:
        a: the first graph.
        b: the second graph.
        nodes: names of the nodes to keep in the difference; all if empty.
        full: whether lines of text IR are shown for long bodies too.
    """
    before, after = summarize(a), summarize(b)
    left, right = ({x.name: x for x in summary.nodes} for summary in (before, after))
    diffs = []
    for name in _merged(list(left), list(right)):
        if nodes and name not in nodes:
            continue
        changed = name not in left or name not in right or a.node(name) != b.node(name)
        lines = _line_diff(a, b, name, full) if changed and name in left and name in right else ()
        diffs.append(NodeDiff(name, left.get(name), right.get(name), changed, lines))
    return GraphDiff(before, after, tuple(diffs))


def arrow(before: str, after: str) -> str:
    """Return "before -> after", or `after` alone if they are the same."""
    return after if before == after else f"{before} -> {after}"


def spell_operations(operations: Mapping[str, int]) -> str:
    """Return the first few changes of operations as text, for example "and +20, xor -3"."""
    shown = [f"{name} {n:+,}" for name, n in list(operations.items())[:_SHOWN_OPERATIONS]]
    left_out = len(operations) - len(shown)
    return ", ".join([*shown, *([f"{left_out} more"] if left_out else [])])


def _merged(left: list[str], right: list[str]) -> list[str]:
    """Return the names of both lists, each once, in an order that keeps `right`'s."""
    names: list[str] = []
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    for _, start, end, first, last in matcher.get_opcodes():
        names += [name for name in left[start:end] if name not in right]
        names += right[first:last]
    return names


def _line_diff(a: Graph, b: Graph, name: str, full: bool) -> tuple[str, ...]:
    if not isinstance(b.node(name).op, Logic):
        return ()  # The type, which is shown already, says what became of other operators.
    before, after = (print_node(graph, name, full=full) for graph in (a, b))
    if _ELIDED in before or _ELIDED in after:
        return ()
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=1, lineterm="")
    shown = ("..." if line.startswith("@@") else line for line in list(lines)[3:])
    return tuple(line[:1] + line[1:].removeprefix("  ") for line in shown)


def _grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    growth = Counter(after)
    growth.subtract(before)
    return {name: n for name, n in sorted(growth.items(), key=lambda x: (-abs(x[1]), x[0])) if n}


def _numbers(node: NodeSummary | None) -> dict[str, Any] | None:
    if node is None:
        return None
    names = ("op_type", "type", "gates", "unrolled_gates", "taps", "depth")
    return {name: getattr(node, name) for name in names} | {"inputs": list(node.inputs)}


def _wrapped(text: str) -> list[str]:
    indent = _INDENT * " "
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")
