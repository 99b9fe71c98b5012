"""The runner of pipelines: passes in turn, checked, timed, and told to one hook between them.

The hook serves timing, dumping and verifying alike. Dumps go to standard error, so that they never
mix with IR that a command prints.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, TextIO

from lgir.equivalence.verdict import Verdict
from lgir.errors import PassError
from lgir.ir.graph import Graph
from lgir.passes.pipeline.contract import ContractChecker, apply_pass
from lgir.passes.pipeline.grammar import Fix, Step, Steps, parse_steps
from lgir.passes.report import PassRow, Report, Size
from lgir.registry import PASSES

MAX_ROUNDS: Final = 64
"""Rounds of a `fix(...)` after which its passes are taken to undo each other."""


@dataclass(frozen=True)
class PassEvent:
    """What the hook is told after a pass. `after is before` if the pass changed nothing."""

    name: str
    before: Graph
    after: Graph
    seconds: float
    verdict: Verdict | None


Hook = Callable[[PassEvent], None]


class _Stopped(Exception):
    """Raised inside a run when `stop_after` is reached."""


@dataclass(frozen=True)
class Pipeline:
    """A parsed pipeline. `str(pipeline)` is its text, which parses to an equal pipeline."""

    steps: Steps

    @staticmethod
    def parse(text: str) -> Pipeline:
        """Read a pipeline: passes, named pipelines and fix(...), separated by commas.

        Options stand in braces, `lut-map{k=3}`, and are typed by the pass's signature.

        Raises:
            UnknownNameError: a pass is not registered.
            ParseError: the text cannot be read for another reason.
        """
        return Pipeline(parse_steps(text))

    def __str__(self) -> str:
        return ",".join(map(str, self.steps))

    def run(
        self,
        graph: Graph,
        *,
        verify: str | None = "sim",
        on_pass: Hook | None = None,
        dump_after: str | Collection[str] = (),
        dump_to: TextIO | None = None,
        stop_after: str | None = None,
        samples: int | None = None,
        seed: int = 0,
    ) -> tuple[Graph, Report]:
        """Run every pass in turn.

        Args:
            verify: "sim" compares each changed graph with the original on random samples; "sat"
                and "exhaustive" prove that each pass changed nothing; None trusts the passes.
            on_pass: called after each pass, once the pass has been verified.
            dump_after: names of passes after which the text IR is written, or "all".
            dump_to: the stream that dumps go to, standard error by default.
            stop_after: name of a pass after whose first run the pipeline ends.
            samples, seed: of the simulation; by default as many samples as cost little.

        Returns:
            The new graph (the same object if no pass changed anything) and a report.

        Raises:
            UnknownNameError: `verify`, `dump_after` or `stop_after` names nothing known.
            PassError: a pass raised, returned no graph, broke the IR, changed the types of inputs
                or outputs, or changed what the graph computes.
        """
        checker = ContractChecker(graph, verify, samples=samples, seed=seed)
        dumped = (dump_after,) if isinstance(dump_after, str) else tuple(dump_after)
        for name in (*dumped, *([stop_after] if stop_after else ())):
            if name != "all":
                PASSES.get(name)

        def hook(event: PassEvent) -> None:
            if on_pass is not None:
                on_pass(event)
            if event.name in dumped or "all" in dumped:
                print(f"; after {event.name}\n{event.after}", file=dump_to or sys.stderr)
            if event.name == stop_after:
                raise _Stopped

        run = _PipelineRun(graph, Report(str(self), Size.of(graph)), checker, hook)
        start = time.perf_counter()
        with contextlib.suppress(_Stopped):
            run.run_steps(self.steps)
        run.report.seconds = time.perf_counter() - start
        return run.graph, run.report


class _PipelineRun:
    """The state of one run: the graph after the passes so far, and the report on them."""

    def __init__(self, graph: Graph, report: Report, checker: ContractChecker, hook: Hook) -> None:
        self.graph = graph
        self.report = report
        self._checker = checker
        self._hook = hook

    def run_steps(self, steps: Steps) -> None:
        """Run the steps in turn on `graph`, and add a row per pass to `report`."""
        for step in steps:
            if isinstance(step, Step):
                self._run_pass(step)
            else:
                self._run_fix(step)

    def _run_fix(self, fix: Fix) -> None:
        unchanged_in_a_row = 0  # A full round of unchanged parts is the fixpoint.
        for _ in range(MAX_ROUNDS):
            for part in fix.steps:
                before = self.graph
                self.run_steps((part,))
                unchanged_in_a_row = unchanged_in_a_row + 1 if self.graph is before else 0
                if unchanged_in_a_row == len(fix.steps):
                    return
        raise PassError(
            f"{fix} still changes the graph after {MAX_ROUNDS} rounds; its passes undo each other"
        )

    def _run_pass(self, step: Step) -> None:
        before = self.graph
        start = time.perf_counter()
        after = apply_pass(step, before)
        seconds = time.perf_counter() - start
        unchanged = after is before
        verdict = None if unchanged else self._checker.check(step.name, before, after)
        self.report.rows.append(
            PassRow(
                name=str(step),
                before=Size.of(before),
                after=Size.of(after),
                seconds=seconds,
                verified="unchanged" if unchanged else _describe(verdict),
                verify_seconds=time.perf_counter() - start - seconds,
            )
        )
        self.graph = after
        self._hook(PassEvent(step.name, before, after, seconds, verdict))


def _describe(verdict: Verdict | None) -> str:
    """Return the method of a verdict and its samples, "" if there is no verdict."""
    if verdict is None:
        return ""
    if verdict.equivalent is None:
        return f"{verdict.method}: unknown"
    return f"{verdict.method} {verdict.samples}" if verdict.samples else verdict.method
