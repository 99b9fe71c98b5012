"""Find the pass that breaks a property, by bisection over the graphs between passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lgir.equivalence.verification import verify_graphs
from lgir.ir.graph import Graph
from lgir.passes.pipeline import PassEvent, Pipeline


@dataclass(frozen=True)
class Culprit:
    """The first pass after which a property no longer holds.

    Attributes:
        name: the pass.
        position: its number among the passes that ran, from 1.
        before: the last graph that has the property.
        after: the first graph that lacks it.
    """

    name: str
    position: int
    before: Graph
    after: Graph

    def __str__(self) -> str:
        return f"pass {self.name!r}, number {self.position} to run, breaks it"


def bisect(
    graph: Graph,
    passes: str = "default",
    holds: Callable[[Graph], bool] | None = None,
    *,
    method: str = "sim",
) -> Culprit | None:
    """Run `passes` unverified and return the first that breaks a property, None if none does.

    Args:
        holds: the property, asked of about log2(passes) graphs. A graph that lacks it must lack it
            after later passes too. By default: the graph computes what `graph` computes.
        method: the method by which the default property is checked, see `lgir.verify`.

    Raises:
        PassError: a pass raised or broke the IR; the error names the pass.
    """
    if holds is None:

        def holds(candidate: Graph) -> bool:
            return verify_graphs(graph, candidate, method).equivalent is not False

    changes: list[tuple[int, PassEvent]] = []
    passes_run = 0

    def record(event: PassEvent) -> None:
        nonlocal passes_run
        passes_run += 1
        if event.after is not event.before:
            changes.append((passes_run, event))

    Pipeline.parse(passes).run(graph, verify=None, on_pass=record)
    if not changes or holds(changes[-1][1].after):
        return None
    low, high = 0, len(changes) - 1  # changes[high] is broken; all changes before low hold.
    while low < high:
        middle = (low + high) // 2
        if holds(changes[middle][1].after):
            low = middle + 1
        else:
            high = middle
    position, event = changes[high]
    return Culprit(event.name, position, event.before, event.after)
