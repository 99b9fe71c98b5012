"""Find the pass that breaks a property, by bisection over the graphs between passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lgir.equivalence.verdict import Verdict
from lgir.equivalence.verification import verify_graphs
from lgir.ir.graph import Graph
from lgir.passes.pipeline import Instrumentation, PassEvent, Pipeline


@dataclass(frozen=True)
class Culprit:
    """The first pass after which a property no longer holds.

    Attributes:
        name: the pass.
        position: its number among the passes that ran, from 1.
        before: the last graph that has the property.
        after: the first graph that lacks it.
        verdict: the comparison of `before` and `after`, with a sample on which they differ; None if
            the property was another than to compute the same.
    """

    name: str
    position: int
    before: Graph
    after: Graph
    verdict: Verdict | None = None

    def __str__(self) -> str:
        return f"pass {self.name!r}, number {self.position} to run, breaks it"


def bisect(
    graph: Graph,
    passes: str = "default",
    holds: Callable[[Graph], bool] | None = None,
    *,
    method: str = "sim",
    instrumentation: Sequence[Instrumentation] = (),
    progress: Callable[[str], None] = lambda step: None,
) -> Culprit | None:
    """Run `passes` unverified and return the first that breaks a property, None if none does.

    Args:
        holds: the property, asked of about log2(passes) graphs. A graph that lacks it must lack it
            after later passes too. By default: the graph computes what `graph` computes.
        method: the method by which the default property is checked, see `lgir.verify`.
        instrumentation: what is told of the passes while they run.
        progress: called with a description of each check before it begins.

    Raises:
        PassError: a pass raised or broke the IR; the error names the pass.
    """
    by_default = holds is None
    if holds is None:

        def holds(candidate: Graph) -> bool:
            return verify_graphs(graph, candidate, method).equivalent is not False

    changes: list[PassEvent] = []

    def record(event: PassEvent) -> None:
        if event.changed:
            changes.append(event)

    Pipeline.parse(passes).run(graph, verify=None, on_pass=record, instrumentation=instrumentation)
    if not changes:
        return None
    progress(f"checking the last of {len(changes)} graphs")
    if holds(changes[-1].after):
        return None
    low, high = 0, len(changes) - 1  # changes[high] is broken; all changes before low hold.
    while low < high:
        middle = (low + high) // 2
        progress(f"checking graph {middle + 1} of {len(changes)}; {high - low + 1} are left")
        if holds(changes[middle].after):
            low = middle + 1
        else:
            high = middle
    event = changes[high]
    verdict = verify_graphs(event.before, event.after, method) if by_default else None
    return Culprit(event.name, event.number, event.before, event.after, verdict)
