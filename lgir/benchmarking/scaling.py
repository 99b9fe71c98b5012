"""Throughput and latency by batch size, number of threads, or width of a network.

Backends are compiled once per network, and their outputs are compared with those of the reference
at every size before a call of that size is timed. A time is the median of consecutive calls, from
arrays in memory to scores.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from lgir.benchmarking.checks import OutputChecker, random_samples
from lgir.benchmarking.environment import environment
from lgir.benchmarking.rendering import facts_grid, plain_text, si, titled_table
from lgir.benchmarking.throughput import MODULE, compile_cold, gate_evaluations, torch_eval
from lgir.errors import InputError
from lgir.ir.graph import Graph
from lgir.registry import BACKENDS

if TYPE_CHECKING:
    from rich.console import Group

AXES: Final = ("batch", "threads", "width")
BATCHES: Final = (1, 8, 64, 512, 4096, 32768)
BATCH: Final = 32768
"""Samples per call if another size than the batch is swept."""
_LONGEST_CALL: Final = 2.0
"""Seconds per call; a backend is not measured at sizes that would need more."""


@dataclass(frozen=True)
class SweepPoint:
    """One backend at one size: the median `seconds` of `calls` calls of `batch` samples."""

    backend: str
    size: int
    batch: int
    threads: int
    gates: int
    seconds: float
    calls: int

    @property
    def samples_per_second(self) -> float:
        return self.batch / self.seconds

    @property
    def gate_evals_per_second(self) -> float:
        return self.gates * self.samples_per_second

    def to_dict(self) -> dict[str, Any]:
        return {
            "backend": self.backend,
            "batch": self.batch,
            "threads": self.threads,
            "gates": self.gates,
            "seconds_per_call": self.seconds,
            "samples_per_second": self.samples_per_second,
            "gate_evals_per_second": self.gate_evals_per_second,
            "calls": self.calls,
            "outputs_equal": True,
        }


@dataclass(frozen=True)
class SweepReport:
    """The result of a sweep: `print(report)` shows a table, `to_dict()` is for JSON.

    Attributes:
        name: name of the network, or of the family of networks.
        axis: the meaning of the points' sizes, one of AXES.
        points: sorted by backend, then by size.
        environment: the processor and the versions of packages.
    """

    name: str
    axis: str
    points: tuple[SweepPoint, ...]
    environment: Mapping[str, str]

    @property
    def title(self) -> str:
        gates = sorted({p.gates for p in self.points})
        spread = f"{gates[0]:,}" if len(gates) == 1 else f"{gates[0]:,} to {gates[-1]:,}"
        return f"{self.name}: {spread} gates per sample"

    def _calls(self) -> str:
        """Return the batch size and the number of threads if they are the same at all points."""
        batches, threads = ({getattr(p, x) for p in self.points} for x in ("batch", "threads"))
        parts = [f"{n:,} samples" for n in batches if len(batches) == 1]
        parts += [f"{n} threads" if n > 1 else "one thread" for n in threads if len(threads) == 1]
        return " on ".join(parts)

    def by_backend(self) -> dict[str, list[SweepPoint]]:
        """Return the points of each backend, ascending in size."""
        points: dict[str, list[SweepPoint]] = {}
        for point in self.points:
            points.setdefault(point.backend, []).append(point)
        return points

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "axis": self.axis,
            "environment": dict(self.environment),
            "sweep": [{self.axis: point.size} | point.to_dict() for point in self.points],
        }

    def __rich__(self) -> Group:
        from rich.console import Group

        table = titled_table(self.title)
        table.add_column(f" {self.axis}", justify="right")
        columns = self.by_backend()
        rates = "gate-evals/s" if self.axis == "width" else "per call"
        for backend in columns:
            table.add_column(f"{backend}\n{rates}", justify="right")
            table.add_column("\nsamples/s", justify="right")
        sizes = {point.size for point in self.points}
        for size in sorted(sizes):
            cells = []
            for points in columns.values():
                point = next((p for p in points if p.size == size), None)
                cells += [self._rate(point), si(point.samples_per_second)] if point else ["", ""]
            table.add_row(f" {size:,}", *cells)
        facts = {
            "calls": self._calls(),
            "times": "medians of consecutive calls, from arrays in memory to scores",
            "outputs": "equal to the reference's at every size",
        }
        if any(len(points) < len(sizes) for points in columns.values()):
            facts["left out"] = f"calls that would take more than {_LONGEST_CALL:g} s"
        facts |= self.environment
        return Group(table, facts_grid(facts))

    def _rate(self, point: SweepPoint) -> str:
        if self.axis == "width":
            return si(point.gate_evals_per_second)
        return duration(point.seconds)

    def __str__(self) -> str:
        return plain_text(self)


@dataclass(frozen=True)
class SweepSubject:
    """A graph that is measured at some sizes, and the same network as a torch module if given."""

    graph: Graph
    module: Any = None


@dataclass(frozen=True)
class _Case:
    """One size of a sweep: samples per call and number of threads."""

    size: int
    batch: int
    threads: int


def sweep_batches(
    graph: Graph,
    backends: Sequence[str] = ("llvm", "reference"),
    *,
    batches: Sequence[int] = BATCHES,
    module: Any = None,
    threads: int = 1,
    **options: Any,
) -> SweepReport:
    """Measure `backends` on one graph at each of `batches` samples per call.

    Args:
        graph: the graph to measure.
        backends: registered names.
        batches: the sizes.
        module: a torch module of the same network, as in `bench_graph`.
        threads: number of threads.
        options: the options of `sweep_widths` except `batch` and `threads`.

    Raises:
        BackendError: outputs of a backend differ from those of the reference.
        UnknownNameError: no backend has such a name.
        InputError: there is no size, or one is below 1.
    """
    cases = [_Case(n, n, threads) for n in sorted(set(batches))]
    return _sweep(graph.name, "batch", [(SweepSubject(graph, module), cases)], backends, **options)


def sweep_threads(
    graph: Graph,
    backends: Sequence[str] = ("llvm", "reference"),
    *,
    counts: Sequence[int] | None = None,
    module: Any = None,
    batch: int = BATCH,
    **options: Any,
) -> SweepReport:
    """Measure `backends` on one graph with each of `counts` threads.

    If `counts` is None, they are 1, 2, 4, ... and all cores. The other arguments and the errors are
    those of `sweep_batches`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if counts is None:
        counts = [1 << i for i in range((cores or 1).bit_length())] + [cores or 1]
    cases = [_Case(n, batch, n) for n in sorted(set(counts))]
    return _sweep(
        graph.name, "threads", [(SweepSubject(graph, module), cases)], backends, **options
    )


def sweep_widths(
    name: str,
    networks: Mapping[int, SweepSubject],
    backends: Sequence[str] = ("llvm", "reference"),
    *,
    batch: int = BATCH,
    threads: int = 1,
    **options: Any,
) -> SweepReport:
    """Measure `backends` on networks that differ in width.

    Args:
        name: name of the family of networks.
        networks: the networks by width.
        backends: registered names.
        batch: samples per call.
        threads: number of threads.
        options: `repeats`, the least number of calls behind a median, with more calls until
            `run_seconds` are spent; `check`, the most samples whose outputs are compared with the
            reference at each size; `seed` of the random samples; `options` by backend and
            `progress` as in `bench_graph`.

    Raises the errors of `sweep_batches`.
    """
    work = [(networks[n], [_Case(n, batch, threads)]) for n in sorted(networks)]
    return _sweep(name, "width", work, backends, **options)


def _sweep(
    name: str,
    axis: str,
    work: Sequence[tuple[SweepSubject, Sequence[_Case]]],
    backends: Sequence[str],
    *,
    repeats: int = 5,
    run_seconds: float = 0.3,
    check: int = 1000,
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> SweepReport:
    all_cases = [case for _, cases in work for case in cases]
    if not all_cases or min(min(c.size, c.batch, c.threads, repeats) for c in all_cases) < 1:
        raise InputError("batch sizes, threads, widths and repeats must be at least 1")
    if not all(network.graph.inputs for network, _ in work):
        raise InputError("a bench needs a graph with inputs")
    reference = BACKENDS.get("reference")
    for backend in backends:
        BACKENDS.get(backend)
    points: dict[str, list[SweepPoint]] = {backend: [] for backend in (*backends, MODULE)}
    for network, cases in work:
        graph = network.graph
        arrays = random_samples(graph, max(case.batch for case in cases), seed)
        progress("reference outputs")
        checkers = {
            n: OutputChecker.of(reference(graph), [a[:n] for a in arrays], check)
            for n in {case.batch for case in cases}
        }
        gates = gate_evaluations(graph)

        def measure(
            backend: str,
            call: Callable[..., Any],
            inputs: Sequence[Any],
            case: _Case,
            checkers: Mapping[int, OutputChecker] = checkers,
            gates: int = gates,
        ) -> None:
            n, before = case.batch, points[backend][-1:]
            if any(n / point.samples_per_second > _LONGEST_CALL for point in before):
                return
            progress(f"{backend}: {axis} {case.size:,}, {n:,} samples per call")
            batch = [x[:n] for x in inputs]
            checkers[n].check(backend, call(*batch), n)
            times = _times(partial(call, *batch), repeats, run_seconds)
            seconds = statistics.median(times)
            points[backend].append(
                SweepPoint(backend, case.size, n, case.threads, gates, seconds, len(times))
            )

        for backend in backends:
            progress(f"{backend}: compiling")
            exe, _ = compile_cold(backend, graph, (options or {}).get(backend, {}))
            for case in cases:
                measure(backend, partial(exe, threads=case.threads), arrays, case)
        for case in cases if network.module is not None else ():
            with torch_eval(network.module, case.threads) as tensor:
                inputs = [tensor(v, a) for v, a in zip(graph.inputs, arrays, strict=True)]
                measure(MODULE, network.module, inputs, case)
    return SweepReport(
        name=name,
        axis=axis,
        points=tuple(point for measured in points.values() for point in measured),
        environment=environment(torch=any(network.module is not None for network, _ in work)),
    )


def _times(call: Callable[[], Any], repeats: int, run_seconds: float) -> list[float]:
    times: list[float] = []
    stop = perf_counter() + run_seconds
    while len(times) < repeats or perf_counter() < stop:
        began = perf_counter()
        call()
        times.append(perf_counter() - began)
    return times


def duration(seconds: float) -> str:
    """Format seconds with three significant digits and a unit, for example "12.3 us"."""
    unit, scale = next(
        ((u, s) for u, s in (("s", 1.0), ("ms", 1e-3)) if seconds >= s), ("us", 1e-6)
    )
    value = seconds / scale
    text = f"{value:,.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")
    return f"{text} {unit}"
