"""The progress of a pipeline, as an instrumentation that changes a message."""

from __future__ import annotations

from collections.abc import Callable

from lgir.passes.pipeline import Instrumentation, PassEvent, PassStart
from lgir.passes.report import Size


class PassProgress(Instrumentation):
    """Says which pass runs or is verified, how many changed something, and the number of gates.

    Args:
        update: called with the new message.
    """

    def __init__(self, update: Callable[[str], None]) -> None:
        self._update = update
        self._changed = 0

    def before_pass(self, start: PassStart) -> None:
        gates = Size.of(start.graph).gates
        past = f", {self._changed} changed the graph" if start.number > 1 else ""
        self._update(f"pass {start.number}: {start.text} on {gates:,} gates{past}")

    def before_check(self, start: PassStart) -> None:
        self._update(f"pass {start.number}: verifying {start.text}")

    def after_pass(self, event: PassEvent) -> None:
        self._changed += event.changed
