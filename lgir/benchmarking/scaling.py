"""Throughput and latency by batch size, number of threads, or width of a network.

Backends are compiled once a network and their outputs compared with the reference's at every size
before a call of it is timed. A time is the median of calls in a row, from arrays in memory to
scores.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from lgir.benchmarking.checks import Judge, random_samples
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
"""Samples a call where another size is swept."""
_LONGEST: Final = 2.0
"""Seconds: a backend is not taken to sizes where a call would need more."""


@dataclass(frozen=True)
class SweepPoint:
    """One backend at one size: `seconds` a call of `batch` samples, median of `calls`."""

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
    """What a sweep measured. `print(report)` shows the table, `to_dict()` is for JSON.

    Attributes:
        axis: what the points' sizes are, one of AXES.
        points: by backend, then by size.
    """

    name: str
    axis: str
    points: tuple[SweepPoint, ...]
    environment: Mapping[str, str]

    @property
    def title(self) -> str:
        gates = sorted({p.gates for p in self.points})
        spread = f"{gates[0]:,}" if len(gates) == 1 else f"{gates[0]:,} to {gates[-1]:,}"
        return f"{self.name}: {spread} gates a sample"

    def _calls(self) -> str:
        """What is the same at all points."""
        batches, threads = ({getattr(p, x) for p in self.points} for x in ("batch", "threads"))
        parts = [f"{n:,} samples" for n in batches if len(batches) == 1]
        parts += [f"{n} threads" if n > 1 else "one thread" for n in threads if len(threads) == 1]
        return " on ".join(parts)

    def by_backend(self) -> dict[str, list[SweepPoint]]:
        found: dict[str, list[SweepPoint]] = {}
        for point in self.points:
            found.setdefault(point.backend, []).append(point)
        return found

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
        rates = "gate-evals/s" if self.axis == "width" else "a call"
        for backend in columns:
            table.add_column(f"{backend}\n{rates}", justify="right")
            table.add_column("\nsamples/s", justify="right")
        sizes = {point.size for point in self.points}
        for size in sorted(sizes):
            cells = []
            for points in columns.values():
                at = next((p for p in points if p.size == size), None)
                cells += [self._rate(at), si(at.samples_per_second)] if at else ["", ""]
            table.add_row(f" {size:,}", *cells)
        facts = {
            "calls": self._calls(),
            "times": "medians of calls in a row, from arrays in memory to scores",
            "outputs": "equal to the reference's at every size",
        }
        if any(len(points) < len(sizes) for points in columns.values()):
            facts["left out"] = f"calls that would take more than {_LONGEST:g} s"
        facts |= self.environment
        return Group(table, facts_grid(facts))

    def _rate(self, point: SweepPoint) -> str:
        if self.axis == "width":
            return si(point.gate_evals_per_second)
        return duration(point.seconds)

    def __str__(self) -> str:
        return plain_text(self)


@dataclass(frozen=True)
class Network:
    """What is measured at some sizes: a graph, and a torch module of it where there is one."""

    graph: Graph
    module: Any = None


@dataclass(frozen=True)
class _Case:
    """A size: so many samples a call, so many threads."""

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
    """Measure `backends` on one graph at each of `batches` samples a call.

    Args:
        module, threads: as in `lgir.benchmarking.throughput.bench_graph`.
        options: as in `sweep_widths`, where they are explained, `batch` and `threads` excepted.

    Raises:
        BackendError: a backend's outputs differ from the reference's. UnknownNameError: no such
        backend. InputError: no sizes, or one below 1.
    """
    cases = [_Case(n, n, threads) for n in sorted(set(batches))]
    return _sweep(graph.name, "batch", [(Network(graph, module), cases)], backends, **options)


def sweep_threads(
    graph: Graph,
    backends: Sequence[str] = ("llvm", "reference"),
    *,
    counts: Sequence[int] | None = None,
    module: Any = None,
    batch: int = BATCH,
    **options: Any,
) -> SweepReport:
    """Measure `backends` on one graph with each of `counts` threads: 1, 2, 4, ... and all cores,
    where None. Others are as in `sweep_batches`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if counts is None:
        counts = [1 << i for i in range((cores or 1).bit_length())] + [cores or 1]
    cases = [_Case(n, batch, n) for n in sorted(set(counts))]
    return _sweep(graph.name, "threads", [(Network(graph, module), cases)], backends, **options)


def sweep_widths(
    name: str,
    networks: Mapping[int, Network],
    backends: Sequence[str] = ("llvm", "reference"),
    *,
    batch: int = BATCH,
    threads: int = 1,
    **options: Any,
) -> SweepReport:
    """Measure `backends` on networks that differ in width, which is their key.

    Args:
        name: what these networks are called together.
        batch: samples a call.
        options: `repeats` calls behind a median at least, more until `run_seconds` are spent; at
            most `check` samples' outputs are compared with the reference at each size; `seed` of
            random samples; `options` by backend and `progress` as in `bench_graph`.

    Raises as `sweep_batches`.
    """
    work = [(networks[n], [_Case(n, batch, threads)]) for n in sorted(networks)]
    return _sweep(name, "width", work, backends, **options)


def _sweep(
    of: str,
    axis: str,
    work: Sequence[tuple[Network, Sequence[_Case]]],
    backends: Sequence[str],
    *,
    repeats: int = 5,
    run_seconds: float = 0.3,
    check: int = 1000,
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> SweepReport:
    every = [case for _, cases in work for case in cases]
    if not every or min(min(c.size, c.batch, c.threads, repeats) for c in every) < 1:
        raise InputError("batch sizes, threads, widths and repeats must be at least 1")
    if not all(network.graph.inputs for network, _ in work):
        raise InputError("a bench needs a graph with inputs")
    reference = BACKENDS.get("reference")
    for name in backends:
        BACKENDS.get(name)
    points: dict[str, list[SweepPoint]] = {name: [] for name in (*backends, MODULE)}
    for network, cases in work:
        graph = network.graph
        arrays = random_samples(graph, max(case.batch for case in cases), seed)
        progress("reference outputs")
        judges = {
            n: Judge.of(reference(graph), [a[:n] for a in arrays], check)
            for n in {case.batch for case in cases}
        }
        gates = gate_evaluations(graph)

        def measure(
            name: str,
            call: Callable[..., Any],
            inputs: Sequence[Any],
            case: _Case,
            judges: Mapping[int, Judge] = judges,
            gates: int = gates,
        ) -> None:
            n, before = case.batch, points[name][-1:]
            if any(n / point.samples_per_second > _LONGEST for point in before):
                return
            progress(f"{name}: {axis} {case.size:,}, {n:,} samples a call")
            batch = [x[:n] for x in inputs]
            judges[n](name, call(*batch), n)
            times = _times(partial(call, *batch), repeats, run_seconds)
            seconds = statistics.median(times)
            points[name].append(
                SweepPoint(name, case.size, n, case.threads, gates, seconds, len(times))
            )

        for name in backends:
            progress(f"{name}: compiling")
            exe, _ = compile_cold(name, graph, (options or {}).get(name, {}))
            for case in cases:
                measure(name, partial(exe, threads=case.threads), arrays, case)
        for case in cases if network.module is not None else ():
            with torch_eval(network.module, case.threads) as tensor:
                inputs = [tensor(v, a) for v, a in zip(graph.inputs, arrays, strict=True)]
                measure(MODULE, network.module, inputs, case)
    return SweepReport(
        name=of,
        axis=axis,
        points=tuple(point for found in points.values() for point in found),
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
    """Three significant digits and a unit: 12.3 us."""
    unit, scale = next(
        ((u, s) for u, s in (("s", 1.0), ("ms", 1e-3)) if seconds >= s), ("us", 1e-6)
    )
    value = seconds / scale
    text = f"{value:,.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")
    return f"{text} {unit}"
