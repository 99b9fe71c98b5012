"""Measure several backends side by side, on the same samples, in one run.

Outputs are compared with the reference interpreter before anything is timed, so a figure for wrong
answers is never shown. Times are end to end, from arrays in memory to scores. They are medians over
runs that follow a warm-up. A slow backend gets fewer samples per run, and the report says how many.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, Final

import numpy as np

from lgir.benchmarking.baselines import BATCH, check_baselines, open_baseline
from lgir.benchmarking.checks import OutputChecker, random_samples
from lgir.benchmarking.environment import environment
from lgir.benchmarking.measuring import compile_cold, gate_evaluations
from lgir.benchmarking.throughput_report import MODULE, ONNXRUNTIME, BenchReport, Measurement
from lgir.errors import InputError
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.registry import BACKENDS
from lgir.samples import Array

_FIRST_BATCH: Final = 64


def bench_graph(
    graph: Graph,
    backends: Sequence[str] = ("llvm", "reference"),
    *,
    module: Any = None,
    baselines: Sequence[str] = (MODULE,),
    samples: int | Sequence[Array] | None = None,
    batch: int | None = None,
    threads: int = 1,
    repeats: int = 5,
    run_seconds: float = 0.5,
    check: int = 1000,
    seed: int = 0,
    preparation: Mapping[str, float] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> BenchReport:
    """Measure `backends` on one graph.

    Args:
        graph: measured as it is; optimize it before.
        backends: registered names, in the order of the rows.
        module: a torch module of the same network. It is called in eval mode, on float32 tensors
            for bit inputs and on uint8 or float32 tensors for the others. Its row is "pytorch".
        baselines: what to compare with, of `BASELINES`; "pytorch" and
            "torch-compile" run `module`, and are left out if it is None.
        samples: the number of random samples (by default 100,000, or fewer if they would fill
            256 MiB), or one array (N, *shape) per graph input.
        batch: samples per call; a run then makes several calls. None makes one call per run, and
            calls of 256 samples for baselines, which suits them best.
        threads: number of threads for every backend and for torch.
        repeats: runs behind each median.
        run_seconds: a backend that would need longer per run gets fewer samples.
        check: the most samples whose outputs are compared with the reference.
        seed: seed of the random samples.
        preparation: seconds of earlier steps by name, for the report only.
        options: keyword options for compiling, by backend name.
        progress: called with a description of each step before it begins.

    Raises:
        BackendError: outputs of a backend differ from those of the reference.
        UnknownNameError: no backend has such a name.
        InputError: `samples` does not fit the graph, or a number is below 1.
    """
    if threads < 1 or repeats < 1 or (batch is not None and batch < 1):
        raise InputError("threads, repeats and batch must be at least 1")
    for name in backends:
        BACKENDS.get(name)  # an unknown name is an error before minutes of measuring
    compared = [name for name in baselines if name == ONNXRUNTIME or module is not None]
    check_baselines(compared)
    if samples is None or isinstance(samples, int):
        arrays = random_samples(graph, samples, seed)
    else:
        arrays = [np.asarray(a) for a in samples]
    n = len(arrays[0]) if arrays else 0
    if n < 1:
        raise InputError("a bench needs at least one sample")

    progress("reference outputs")
    checker = OutputChecker.of(BACKENDS.get("reference")(graph), arrays, check)
    meter = _Meter(gate_evaluations(graph), checker, n, repeats, run_seconds, progress)
    rows: list[Measurement] = []
    for name in backends:
        progress(f"{name}: compiling")
        exe, compile_seconds = compile_cold(name, graph, (options or {}).get(name, {}))
        row = meter.measure(name, partial(exe, threads=threads), arrays, batch)
        time_gates = getattr(exe, "time_gates", None)
        alone = time_gates(row.samples, repeats) if time_gates else None
        rows.append(replace(row, compile_seconds=compile_seconds, gates_seconds=alone))
    for name in compared:
        progress(f"{name}: preparing")
        with open_baseline(name, graph, module, arrays, threads) as baseline:
            row = meter.measure(name, baseline.call, baseline.inputs, batch or BATCH)
            rows.append(replace(row, compile_seconds=baseline.compile_seconds))
    return BenchReport(
        name=graph.name,
        gates=meter.gates,
        distinct_gates=sum(op.body.num_gates for _, op in graph.of_type(Logic)),
        threads=threads,
        repeats=repeats,
        preparation=dict(preparation or {}),
        rows=tuple(rows),
        environment=environment(torch=module is not None),
        sample_bytes=sum(array.nbytes for array in arrays) // n,
        batch=batch,
    )


@dataclass(frozen=True)
class _Meter:
    """Measures calls on the same samples, once their outputs are checked.

    Attributes:
        gates: gates evaluated per sample.
        checker: compares outputs with the reference.
        samples: the most samples per run.
        repeats: runs behind each median.
        run_seconds: a call that would need longer per run gets fewer samples.
        progress: called with a description of each step before it begins.
    """

    gates: int
    checker: OutputChecker
    samples: int
    repeats: int
    run_seconds: float
    progress: Callable[[str], None]

    def measure(
        self, name: str, call: Callable[..., Any], inputs: Sequence[Any], batch: int | None
    ) -> Measurement:
        """Return the figures of `call`, with `batch` samples of `inputs` per call, or all of them.

        Raises:
            BackendError: its outputs differ from those of the reference.
        """

        def run(count: int) -> Any:
            step = batch or count
            parts = [
                call(*(x[start : min(start + step, count)] for x in inputs))
                for start in range(0, count, step)
            ]
            return parts[0] if len(parts) == 1 else _concatenate(parts)

        self.progress(f"{name}: outputs")
        count = _fitting_count(run, self.samples, self.run_seconds)
        self.checker.check(name, run(count), count)
        self.progress(f"{name}: {count:,} samples per run")
        seconds = statistics.median(_timed(run, count) for _ in range(self.repeats))
        checked = self.checker.count_within(count)
        return Measurement(name, None, count, seconds, self.gates, None, checked)


def _concatenate(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], tuple):
        return tuple(_concatenate(column) for column in zip(*parts, strict=True))
    return np.concatenate([np.asarray(p) for p in parts])


def _timed(run: Callable[[int], Any], count: int) -> float:
    start = perf_counter()
    run(count)
    return perf_counter() - start


def _fitting_count(run: Callable[[int], Any], n: int, run_seconds: float) -> int:
    """Return how many of `n` samples fit a run of `run_seconds`, and warm `run` up on the way."""
    count = min(n, _FIRST_BATCH)
    _timed(run, count)
    while True:
        seconds = max(_timed(run, count), 1e-7)
        fit = int(count * run_seconds / seconds)
        if count >= n or fit <= count:
            return min(n, count)
        # Fixed costs make a small run look slow, so trust its estimate only up to a factor of 8.
        count = min(n, fit if fit < 8 * count else 8 * count)
