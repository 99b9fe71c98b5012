"""Throughput and latency by batch size: what one sample costs alone, and where a batch pays.

Backends are compiled once and their outputs compared with the reference's at every size before a
call of it is timed. A time is the median of calls in a row, from arrays in memory to scores.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from lgir.bench_text import facts_grid, plain_text, titled_table
from lgir.benchmark import (
    MODULE,
    Judge,
    compile_cold,
    environment,
    gate_evaluations,
    random_samples,
    si,
    torch_eval,
)
from lgir.errors import InputError
from lgir.graph import Graph
from lgir.registry import BACKENDS

if TYPE_CHECKING:
    from rich.console import Group

BATCHES: Final = (1, 8, 64, 512, 4096, 32768)
_LONGEST: Final = 2.0
"""Seconds: a backend is not taken to sizes where a call would need more."""


@dataclass(frozen=True)
class SweepPoint:
    """One backend at one batch size: `seconds` a call, median of `calls`."""

    backend: str
    batch: int
    seconds: float
    calls: int

    @property
    def samples_per_second(self) -> float:
        return self.batch / self.seconds

    def to_dict(self) -> dict[str, Any]:
        return {
            "backend": self.backend,
            "batch": self.batch,
            "seconds_per_call": self.seconds,
            "samples_per_second": self.samples_per_second,
            "calls": self.calls,
            "outputs_equal": True,
        }


@dataclass(frozen=True)
class SweepReport:
    """What `sweep_batches` measured. `print(report)` shows the table, `to_dict()` is for JSON.

    Attributes:
        gates: gates evaluated per sample.
        points: by backend, then by batch size.
    """

    name: str
    gates: int
    threads: int
    points: tuple[SweepPoint, ...]
    environment: Mapping[str, str]

    def by_backend(self) -> dict[str, list[SweepPoint]]:
        found: dict[str, list[SweepPoint]] = {}
        for point in self.points:
            found.setdefault(point.backend, []).append(point)
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "gates": self.gates,
            "threads": self.threads,
            "environment": dict(self.environment),
            "sweep": [point.to_dict() for point in self.points],
        }

    def __rich__(self) -> Group:
        from rich.console import Group

        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        table = titled_table(f"{self.name}: {self.gates:,} gates a sample, {threads}")
        table.add_column(" batch", justify="right")
        columns = self.by_backend()
        for backend in columns:
            table.add_column(f"{backend}\na call", justify="right")
            table.add_column("\nsamples/s", justify="right")
        sizes = {point.batch for point in self.points}
        for batch in sorted(sizes):
            cells = []
            for points in columns.values():
                at = next((p for p in points if p.batch == batch), None)
                cells += [duration(at.seconds), si(at.samples_per_second)] if at else ["", ""]
            table.add_row(f" {batch:,}", *cells)
        facts = {
            "times": "medians of calls in a row, from arrays in memory to scores",
            "outputs": "equal to the reference's at every size",
        }
        if any(len(points) < len(sizes) for points in columns.values()):
            facts["left out"] = f"calls that would take more than {_LONGEST:g} s"
        facts |= self.environment
        return Group(table, facts_grid(facts))

    def __str__(self) -> str:
        return plain_text(self)


def sweep_batches(
    graph: Graph,
    backends: Sequence[str] = ("llvm", "reference"),
    *,
    batches: Sequence[int] = BATCHES,
    module: Any = None,
    threads: int = 1,
    repeats: int = 5,
    run_seconds: float = 0.3,
    check: int = 1000,
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> SweepReport:
    """Measure `backends` on one graph at each of `batches` samples a call.

    Args:
        repeats: calls behind a median at least; more until `run_seconds` are spent.
        check: at most so many samples' outputs are compared with the reference at each size.
        Others are as in `lgir.benchmark.bench_graph`.

    Raises:
        BackendError: a backend's outputs differ from the reference's. UnknownNameError: no such
        backend. InputError: no batch sizes, or one below 1.
    """
    sizes = sorted(set(batches))
    if not sizes or sizes[0] < 1 or threads < 1 or repeats < 1:
        raise InputError("batch sizes, threads and repeats must be at least 1")
    if not graph.inputs:
        raise InputError("a bench needs a graph with inputs")
    for name in backends:
        BACKENDS.get(name)
    arrays = random_samples(graph, sizes[-1], seed)
    progress("reference outputs")
    reference = BACKENDS.get("reference")(graph)
    judges = {n: Judge.of(reference, [a[:n] for a in arrays], check) for n in sizes}
    points: list[SweepPoint] = []

    def measure(name: str, call: Callable[..., Any], inputs: Sequence[Any]) -> None:
        a_sample = 0.0
        for n in sizes:
            if n * a_sample > _LONGEST:
                break
            progress(f"{name}: {n:,} samples a call")
            batch = [x[:n] for x in inputs]
            began = perf_counter()
            judges[n](name, call(*batch), n)
            a_sample = (perf_counter() - began) / n
            times = _times(partial(call, *batch), repeats, run_seconds)
            points.append(SweepPoint(name, n, statistics.median(times), len(times)))

    for name in backends:
        progress(f"{name}: compiling")
        exe, _ = compile_cold(name, graph, (options or {}).get(name, {}))
        measure(name, lambda *x, e=exe: e(*x, threads=threads), arrays)
    if module is not None:
        with torch_eval(module, threads) as tensor:
            inputs = [tensor(v, a) for v, a in zip(graph.inputs, arrays, strict=True)]
            measure(MODULE, module, inputs)
    return SweepReport(
        name=graph.name,
        gates=gate_evaluations(graph),
        threads=threads,
        points=tuple(points),
        environment=environment(torch=module is not None),
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
    """Three significant digits and a unit: 12.3 us."""
    unit, scale = next(
        ((u, s) for u, s in (("s", 1.0), ("ms", 1e-3)) if seconds >= s), ("us", 1e-6)
    )
    value = seconds / scale
    text = f"{value:,.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")
    return f"{text} {unit}"
