"""The runner of pipelines: passes in turn, checked and timed, with instrumentation between them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Final, Self, TextIO

from lgir.equivalence.verdict import Verdict
from lgir.errors import PassError
from lgir.ir.graph import Graph
from lgir.passes.pipeline.contract import ContractChecker, apply_pass
from lgir.passes.pipeline.grammar import Fix, Step, Steps, parse_steps
from lgir.passes.pipeline.instrumentation import (
    Callback,
    DumpFolder,
    Instrumentation,
    PassEvent,
    PassStart,
    PrintGraphs,
)
from lgir.passes.report import PassRow, Report, Size
from lgir.registry import PASSES

MAX_ROUNDS: Final = 64
"""Rounds of a `fix(...)` after which its passes are taken to undo each other."""


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
        on_pass: Callable[[PassEvent], None] | None = None,
        dump_after: str | Collection[str] = (),
        dump_to: TextIO | None = None,
        dump_dir: str | PathLike[str] | None = None,
        instrumentation: Sequence[Instrumentation] = (),
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
            dump_to: the stream that these go to, standard error by default.
            dump_dir: a folder that gets a numbered file of text IR per pass that changes the graph,
                see `DumpFolder`.
            instrumentation: what else is told of every pass, before and after it.
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
        if stop_after is not None:
            PASSES.get(stop_after)
        watchers = list(instrumentation)
        if on_pass is not None:
            watchers.append(Callback(on_pass))
        dumped = (dump_after,) if isinstance(dump_after, str) else tuple(dump_after)
        if dumped:
            watchers.append(PrintGraphs(after=dumped, stream=dump_to))
        if dump_dir is not None:
            watchers.append(DumpFolder(dump_dir))
        run = _PipelineRun(graph, Report(str(self), Size.of(graph)), checker, watchers, stop_after)
        start = time.perf_counter()
        with contextlib.suppress(_Stopped):
            run.run_steps(self.steps)
        run.report.seconds = time.perf_counter() - start
        return run.graph, run.report


class _PipelineRun:
    """The state of one run: the graph after the passes so far, and the report on them."""

    def __init__(
        self,
        graph: Graph,
        report: Report,
        checker: ContractChecker,
        watchers: Sequence[Instrumentation],
        stop_after: str | None,
    ) -> None:
        self.graph = graph
        self.report = report
        self._checker = checker
        self._watchers = watchers
        self._stop_after = stop_after

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
        start = PassStart(len(self.report.rows) + 1, step.name, str(step), before)
        for watcher in self._watchers:
            watcher.before_pass(start)
        with _Stopwatch() as pass_time:
            after = apply_pass(step, before)
        verdict = None
        verify_time = _Stopwatch()
        if after is not before:
            for watcher in self._watchers:
                watcher.before_check(start)
            with verify_time:
                verdict = self._checker.check(step.name, before, after)
        self.report.rows.append(
            PassRow(
                name=start.text,
                before=Size.of(before),
                after=Size.of(after),
                seconds=pass_time.seconds,
                verified="unchanged" if after is before else _describe(verdict),
                verify_seconds=verify_time.seconds,
            )
        )
        self.graph = after
        event = PassEvent(
            start.number,
            start.name,
            start.text,
            before,
            after,
            pass_time.seconds,
            verify_time.seconds,
            verdict,
        )
        for watcher in self._watchers:
            watcher.after_pass(event)
        if step.name == self._stop_after:
            raise _Stopped


class _Stopwatch:
    """Measures the seconds that a block takes; 0 if none has been entered."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start


def _describe(verdict: Verdict | None) -> str:
    """Return the method of a verdict and its samples, "" if there is no verdict."""
    if verdict is None:
        return ""
    if verdict.equivalent is None:
        return f"{verdict.method}: unknown"
    return f"{verdict.method} {verdict.samples}" if verdict.samples else verdict.method
