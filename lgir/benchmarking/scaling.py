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
from typing import Any, Final

from lgir.benchmarking.checks import OutputChecker, random_samples
from lgir.benchmarking.environment import environment
from lgir.benchmarking.measuring import compile_cold, gate_evaluations, torch_eval
from lgir.benchmarking.scaling_report import LONGEST_CALL, SweepPoint, SweepReport
from lgir.benchmarking.throughput_report import MODULE
from lgir.errors import InputError
from lgir.ir.graph import Graph
from lgir.registry import BACKENDS
from lgir.samples import Array

AXES: Final = ("batch", "threads", "width")
BATCHES: Final = (1, 8, 64, 512, 4096, 32768)
BATCH: Final = 32768
"""Samples per call if another size than the batch is swept."""


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
    """Measure the networks of `work` at their sizes; see `sweep_widths` for the options."""
    all_cases = [case for _, cases in work for case in cases]
    if not all_cases or min(min(c.size, c.batch, c.threads, repeats) for c in all_cases) < 1:
        raise InputError("batch sizes, threads, widths and repeats must be at least 1")
    if not all(network.graph.inputs for network, _ in work):
        raise InputError("a bench needs a graph with inputs")
    for backend in backends:
        BACKENDS.get(backend)  # an unknown name is an error before minutes of measuring
    meter = _SweepMeter(axis, backends, repeats, run_seconds, progress)
    sample_bytes = set()
    for network, cases in work:
        graph = network.graph
        arrays = random_samples(graph, max(case.batch for case in cases), seed)
        sample_bytes.add(sum(a.nbytes for a in arrays) // len(arrays[0]))
        progress(f"{graph.name}: reference outputs")
        meter.begin(graph, arrays, {case.batch for case in cases}, check)
        for backend in backends:
            progress(f"{backend}: compiling")
            exe, _ = compile_cold(backend, graph, (options or {}).get(backend, {}))
            for case in cases:
                meter.measure(backend, partial(exe, threads=case.threads), arrays, case)
        for case in cases if network.module is not None else ():
            with torch_eval(network.module, case.threads) as tensor:
                tensors = [tensor(v, a) for v, a in zip(graph.inputs, arrays, strict=True)]
                meter.measure(MODULE, network.module, tensors, case)
    return SweepReport(
        name=name,
        axis=axis,
        points=tuple(point for points in meter.points.values() for point in points),
        environment=environment(torch=any(network.module is not None for network, _ in work)),
        sample_bytes=sample_bytes.pop() if len(sample_bytes) == 1 else 0,
    )


class _SweepMeter:
    """Measures calls of one network after another, once their outputs are checked.

    Attributes:
        points: the points of each backend, and of the module, in the order of measuring.
    """

    def __init__(
        self,
        axis: str,
        backends: Sequence[str],
        repeats: int,
        run_seconds: float,
        progress: Callable[[str], None],
    ) -> None:
        self.points: dict[str, list[SweepPoint]] = {name: [] for name in (*backends, MODULE)}
        self._axis, self._progress = axis, progress
        self._repeats, self._run_seconds = repeats, run_seconds
        self._gates = 0
        self._checkers: dict[int, OutputChecker] = {}

    def begin(self, graph: Graph, arrays: list[Array], batches: set[int], check: int) -> None:
        """Evaluate the reference outputs of `graph`, whose calls are measured from now on."""
        reference = BACKENDS.get("reference")(graph)
        self._gates = gate_evaluations(graph)
        self._checkers = {
            n: OutputChecker.of(reference, [a[:n] for a in arrays], check) for n in batches
        }

    def measure(
        self, backend: str, call: Callable[..., Any], inputs: Sequence[Any], case: _Case
    ) -> None:
        """Add a point, unless the last one says that a call would take too long.

        Raises:
            BackendError: outputs differ from those of the reference.
        """
        points, n = self.points[backend], case.batch
        if any(n / point.samples_per_second > LONGEST_CALL for point in points[-1:]):
            return
        self._progress(f"{backend}: {self._axis} {case.size:,}, {n:,} samples per call")
        batch = [x[:n] for x in inputs]
        self._checkers[n].check(backend, call(*batch), n)
        times = _times(partial(call, *batch), self._repeats, self._run_seconds)
        seconds = statistics.median(times)
        points.append(
            SweepPoint(backend, case.size, n, case.threads, self._gates, seconds, len(times))
        )


def _times(call: Callable[[], Any], repeats: int, run_seconds: float) -> list[float]:
    times: list[float] = []
    stop = perf_counter() + run_seconds
    while len(times) < repeats or perf_counter() < stop:
        began = perf_counter()
        call()
        times.append(perf_counter() - began)
    return times
