"""Instrumentation of a pipeline: objects that a run tells of every pass, before and after it.

Progress, dumps and diffs are all written as one, after MLIR's PassInstrumentation. Text goes to
standard error by default, so that it never mixes with IR that a command prints.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TextIO

from lgir.equivalence.verdict import Verdict
from lgir.errors import FormatError, unknown_name
from lgir.files import write_atomically
from lgir.ir.graph import Graph
from lgir.ir.graph_diff import diff_graphs
from lgir.ir.printer import dumps, print_node
from lgir.registry import PASSES

ALL = "all"
"""The name that stands for every pass."""


@dataclass(frozen=True)
class PassStart:
    """A pass that is about to run.

    Attributes:
        number: its number among the passes that run, from 1.
        name: its registered name.
        text: its text in the pipeline, with options.
        graph: the graph that it is given.
    """

    number: int
    name: str
    text: str
    graph: Graph


@dataclass(frozen=True)
class PassEvent:
    """A pass that has run, and was verified unless passes are trusted.

    Attributes:
        number: its number among the passes that ran, from 1.
        name: its registered name.
        text: its text in the pipeline, with options.
        before: the graph that it was given.
        after: the graph that it returned; `after is before` if it changed nothing.
        seconds: time of the pass alone.
        verify_seconds: time of the check after it.
        verdict: the answer of that check, None if nothing changed or passes are trusted.
    """

    number: int
    name: str
    text: str
    before: Graph
    after: Graph
    seconds: float
    verify_seconds: float
    verdict: Verdict | None

    @property
    def changed(self) -> bool:
        """Whether the pass changed the graph."""
        return self.after is not self.before


class Instrumentation:
    """Base of what watches a run. Each method does nothing unless a subclass says what."""

    def before_pass(self, start: PassStart) -> None:
        """Take note of a pass that is about to run."""

    def before_check(self, start: PassStart) -> None:
        """Take note of a pass that changed the graph and is about to be verified."""

    def after_pass(self, event: PassEvent) -> None:
        """Take note of a pass that has run and been verified."""


class Callback(Instrumentation):
    """Calls a function after each pass."""

    def __init__(self, function: Callable[[PassEvent], None]) -> None:
        self._function = function

    def after_pass(self, event: PassEvent) -> None:
        self._function(event)


class NodeFilter:
    """The nodes that are printed: those of some names, or whole graphs if no name is given."""

    def __init__(self, names: Collection[str] = (), *, full: bool = False) -> None:
        self.names = tuple(names)
        self.full = full
        self._seen: set[str] = set()

    def note(self, graph: Graph) -> None:
        """Take note of the nodes of a graph, for `check_names`."""
        if self.names:
            self._seen |= {node.output for node in graph.nodes}

    def check_names(self) -> None:
        """Raise UnknownNameError for a name that no graph so far had a node of."""
        for name in self.names:
            if name not in self._seen:
                raise unknown_name("node", name, self._seen)

    def text(self, graph: Graph) -> str:
        """Return the text IR of the nodes of a graph that are chosen."""
        if not self.names:
            return dumps(graph, full=self.full)
        present = [node.output for node in graph.nodes if node.output in self.names]
        missing = [name for name in self.names if name not in present]
        return "".join(
            [print_node(graph, name, full=self.full) for name in present]
            + [f"  ; no node %{name}\n" for name in missing]
        )


class PrintGraphs(Instrumentation):
    """Prints the text IR before and after passes of some names.

    A graph that was printed last is not printed again, since most passes change little; a line says
    so instead.

    Args:
        before: names of passes before which the graph is printed; "all" stands for every pass.
        after: names of passes after which it is printed.
        nodes: the nodes to print.
        stream: the stream to print on, standard error by default.

    Raises:
        UnknownNameError: a pass is not registered.
    """

    def __init__(
        self,
        *,
        before: Collection[str] = (),
        after: Collection[str] = (),
        nodes: NodeFilter | None = None,
        stream: TextIO | None = None,
    ) -> None:
        for name in (*before, *after):
            if name != ALL:
                PASSES.get(name)
        self._before, self._after = frozenset(before), frozenset(after)
        self._nodes = nodes or NodeFilter()
        self._stream = stream
        self._printed: Graph | None = None

    def before_pass(self, start: PassStart) -> None:
        self._nodes.note(start.graph)
        if self._before & {start.name, ALL}:
            self._print(f"before {start.text} (pass {start.number})", start.graph)

    def after_pass(self, event: PassEvent) -> None:
        self._nodes.note(event.after)
        if self._after & {event.name, ALL}:
            self._print(f"after {event.text} (pass {event.number})", event.after)

    def _print(self, title: str, graph: Graph) -> None:
        if graph is self._printed:
            text = f"; {title}: as printed above\n"
        else:
            text = f"; {title}\n{self._nodes.text(graph)}"
        self._printed = graph
        print(text, file=self._stream or sys.stderr)


class PrintChanges(Instrumentation):
    """Prints what each pass changed, node by node; a pass that changed nothing prints nothing.

    Args:
        nodes: the nodes to print.
        stream: the stream to print on, standard error by default.
    """

    def __init__(self, nodes: NodeFilter | None = None, stream: TextIO | None = None) -> None:
        self._nodes = nodes or NodeFilter()
        self._stream = stream

    def before_pass(self, start: PassStart) -> None:
        self._nodes.note(start.graph)

    def after_pass(self, event: PassEvent) -> None:
        self._nodes.note(event.after)
        if not event.changed:
            return
        names, full = self._nodes.names, self._nodes.full
        diff = diff_graphs(event.before, event.after, nodes=names, full=full)
        if diff.changed:
            print(
                f"; {event.text} (pass {event.number}): {diff}\n", file=self._stream or sys.stderr
            )


class DumpFolder(Instrumentation):
    """Writes the graph before the first pass and after each pass that changes it to a folder.

    `000-input.lgir` is the first; `003-cse.lgir` is the graph after the third pass, "cse". A pass
    that changed nothing has no file. Files hold every gate, and `lgir` commands read them.

    Args:
        folder: the folder, which is made if it does not exist. Dumps of an earlier run are removed.

    Raises:
        FormatError: the folder cannot be made or written to.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in self._folder.glob("[0-9][0-9][0-9]-*.lgir"):
                path.unlink()
        except OSError as error:
            raise FormatError(f"cannot write to {folder}: {error.strerror or error}") from None

    def before_pass(self, start: PassStart) -> None:
        if start.number == 1:
            self._write(0, "input", start.graph)

    def after_pass(self, event: PassEvent) -> None:
        if event.changed:
            self._write(event.number, event.name, event.after)

    def _write(self, number: int, name: str, graph: Graph) -> None:
        name = re.sub(r"[^A-Za-z0-9-]", "-", name)
        text = dumps(graph, full=True)
        write_atomically(self._folder / f"{number:03}-{name}.lgir", text.encode())
