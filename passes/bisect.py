"""Which pass broke it: bisection over the graphs between passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lgir.equivalence.verification import verify_graphs
from lgir.ir.graph import Graph
from lgir.passes.pipeline import PassEvent, Pipeline


@dataclass(frozen=True)
class Culprit:
    """The first pass after which a property no longer holds.

    `position` counts the passes that ran, from 1; `before` still has the property, `after` has not.
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
    """Run `passes` unverified and find the first that breaks a property; None where none does.

    Args:
        holds: the property, asked of about log2(passes) graphs; a broken graph must stay broken
            under later passes. By default: the graph computes what `graph` computes.
        method: how the default property is checked, see `lgir.verify`.

    Raises:
        PassError: a pass raised or broke the IR, which names it already.
    """
    if holds is None:

        def holds(candidate: Graph) -> bool:
            return verify_graphs(graph, candidate, method).equivalent is not False

    changes: list[tuple[int, PassEvent]] = []
    ran = 0

    def note(event: PassEvent) -> None:
        nonlocal ran
        ran += 1
        if event.after is not event.before:
            changes.append((ran, event))

    Pipeline.parse(passes).run(graph, verify=None, on_pass=note)
    if not changes or holds(changes[-1][1].after):
        return None
    low, high = 0, len(changes) - 1  # changes[high] is broken; all before changes[low] hold
    while low < high:
        middle = (low + high) // 2
        if holds(changes[middle][1].after):
            low = middle + 1
        else:
            high = middle
    position, event = changes[high]
    return Culprit(event.name, position, event.before, event.after)
