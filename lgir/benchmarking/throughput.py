"""Measure several backends side by side, on the same samples, in one run.

Outputs are compared with the reference interpreter before anything is timed, so a figure for wrong
answers is never shown. Times are end to end, from arrays in memory to scores. They are medians over
runs that follow a warm-up. A slow backend gets fewer samples per run, and the report says how many.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lgir.benchmarking.checks import OutputChecker, random_samples
from lgir.benchmarking.environment import environment
from lgir.benchmarking.rendering import facts_grid, plain_text, si, titled_table
from lgir.errors import InputError
from lgir.executable import Executable
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.ir.types import Value
from lgir.registry import BACKENDS
from lgir.samples import Array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Group
    from rich.table import Table

MODULE: Final = "pytorch"
"""Name of the row of the torch module that a bench compares with."""

_FIRST_BATCH: Final = 64
_MODULE_BATCH: Final = 256  # the fastest for PyTorch on these networks, of 64 to 4,096


@dataclass(frozen=True)
class Measurement:
    """The figures of one backend.

    Attributes:
        backend: its registered name, or "pytorch".
        compile_seconds: seconds of a cold compilation; None if nothing is compiled.
        samples: samples per run.
        seconds: median seconds per run.
        gates: gates evaluated per sample, in the graph as it was measured.
        gates_seconds: seconds per sample in the gates alone, without packing and counting, on one
            thread; None if the executable has no `time_gates()`.
        checked: number of samples whose outputs were compared with the reference, all equal.
    """

    backend: str
    compile_seconds: float | None
    samples: int
    seconds: float
    gates: int
    gates_seconds: float | None
    checked: int

    @property
    def samples_per_second(self) -> float:
        return self.samples / self.seconds

    @property
    def gate_evals_per_second(self) -> float:
        """Gate evaluations per second, end to end."""
        return self.gates * self.samples_per_second

    @property
    def gate_evals_per_second_in_gates(self) -> float | None:
        """Gate evaluations per second in the gates alone, on one thread; None if unknown."""
        return self.gates / self.gates_seconds if self.gates_seconds else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "backend": self.backend,
            "compile_seconds": self.compile_seconds,
            "samples": self.samples,
            "seconds": self.seconds,
            "samples_per_second": self.samples_per_second,
            "gate_evals_per_second": self.gate_evals_per_second,
            "gate_evals_per_second_in_gates": self.gate_evals_per_second_in_gates,
            "outputs_equal": True,
            "samples_checked": self.checked,
        }


@dataclass(frozen=True)
class BenchReport:
    """The result of `bench_graph`: `print(report)` shows a table, `to_dict()` is for JSON.

    Attributes:
        name: name of the graph.
        gates: gates evaluated per sample (the gates of each body times its positions).
        distinct_gates: gates of all bodies.
        threads: number of threads that each backend was given.
        repeats: runs behind each median.
        preparation: seconds of the steps before compiling ("lift", "optimize"), by name.
        rows: one measurement per backend.
        environment: the processor and the versions of packages.
    """

    name: str
    gates: int
    distinct_gates: int
    threads: int
    repeats: int
    preparation: Mapping[str, float]
    rows: tuple[Measurement, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def speed_up(self, row: Measurement) -> float | None:
        """Return the samples/s of `row` over those of the module; None without a module."""
        base = next((r for r in self.rows if r.backend == MODULE), None)
        return row.samples_per_second / base.samples_per_second if base else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "gates": self.gates,
            "distinct_gates": self.distinct_gates,
            "threads": self.threads,
            "repeats": self.repeats,
            "preparation_seconds": dict(self.preparation),
            "environment": dict(self.environment),
            "rows": [row.to_dict() | {"speed_up": self.speed_up(row)} for row in self.rows],
        }

    def __rich__(self) -> Group:
        from rich.console import Group

        runs = ", ".join(f"{row.samples:,} ({row.backend})" for row in self.rows)
        checked = ", ".join(f"{row.checked:,}" for row in self.rows)
        facts = {
            "runs": f"medians of {self.repeats} with {runs} samples",
            "outputs": f"equal to the reference's on {checked} of these",
            **self.environment,
        }
        compiled = [(r.backend, r.compile_seconds) for r in self.rows if r.compile_seconds]
        if self.preparation and compiled:
            name, seconds = compiled[0]
            steps = {**self.preparation, f"compile ({name})": seconds}
            spelled = " + ".join(f"{step} {seconds:.2f} s" for step, seconds in steps.items())
            facts["ready"] = f"{spelled} = [bold]{sum(steps.values()):.2f} s[/]"
        return Group(self._table(), facts_grid(facts))

    def _table(self) -> Table:
        rolled = self.gates != self.distinct_gates
        distinct = f" ({self.distinct_gates:,} distinct)" if rolled else ""
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        table = titled_table(f"{self.name}: {self.gates:,} gates per sample{distinct}, {threads}")
        table.add_column(" backend")
        for name in ("compile", "samples/s", "gate-evals/s", "in gates\nalone"):
            table.add_column(name, justify="right")
        with_module = any(row.backend == MODULE for row in self.rows)
        if with_module:
            table.add_column("speed-up", justify="right")
        table.add_column("equal")
        for row in self.rows:
            compiled, inside = row.compile_seconds, row.gate_evals_per_second_in_gates
            cells = [
                f" {row.backend}",
                "" if compiled is None else f"{compiled:.2f} s",
                si(row.samples_per_second),
                si(row.gate_evals_per_second),
                "" if inside is None else si(inside),
            ]
            if with_module:
                cells.append(f"{self.speed_up(row):,.0f}x" if row.backend != MODULE else "1x")
            table.add_row(*cells, "[green]yes[/]")
        return table

    def __str__(self) -> str:
        return plain_text(self)


def bench_graph(
    graph: Graph,
    backends: Sequence[str] = ("llvm", "reference"),
    *,
    module: Any = None,
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
        samples: the number of random samples (by default 100,000, or fewer if they would fill
            256 MiB), or one array (N, *shape) per graph input.
        batch: samples per call; a run then makes several calls. None makes one call per run, and
            calls of 256 samples for the module, which suits it best.
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
    if samples is None or isinstance(samples, int):
        arrays = random_samples(graph, samples, seed)
    else:
        arrays = [np.asarray(a) for a in samples]
    n = len(arrays[0]) if arrays else 0
    if n < 1:
        raise InputError("a bench needs at least one sample")

    progress("reference outputs")
    checker = OutputChecker.of(BACKENDS.get("reference")(graph), arrays, check)
    gates = gate_evaluations(graph)
    rows: list[Measurement] = []

    def measure(
        name: str, call: Callable[..., Any], inputs: Sequence[Any], batch: int | None
    ) -> tuple[int, float]:
        def run(count: int) -> Any:
            step = batch or count
            parts = [
                call(*(x[start : min(start + step, count)] for x in inputs))
                for start in range(0, count, step)
            ]
            return parts[0] if len(parts) == 1 else _concatenate(parts)

        progress(f"{name}: outputs")
        count = _fitting_count(run, n, run_seconds)
        checker.check(name, run(count), count)
        progress(f"{name}: {count:,} samples a run")
        return count, statistics.median(_timed(run, count) for _ in range(repeats))

    for name in backends:
        progress(f"{name}: compiling")
        exe, compiled = compile_cold(name, graph, (options or {}).get(name, {}))
        count, seconds = measure(name, lambda *x, e=exe: e(*x, threads=threads), arrays, batch)
        time_gates = getattr(exe, "time_gates", None)
        alone = time_gates(count, repeats) if time_gates else None
        checked = checker.count_within(count)
        rows.append(Measurement(name, compiled, count, seconds, gates, alone, checked))
    if module is not None:
        with torch_eval(module, threads) as tensor:
            inputs = [tensor(v, a) for v, a in zip(graph.inputs, arrays, strict=True)]
            count, seconds = measure(MODULE, module, inputs, batch or _MODULE_BATCH)
        rows.append(
            Measurement(MODULE, None, count, seconds, gates, None, checker.count_within(count))
        )
    return BenchReport(
        name=graph.name,
        gates=gates,
        distinct_gates=sum(op.body.num_gates for _, op in graph.of_type(Logic)),
        threads=threads,
        repeats=repeats,
        preparation=dict(preparation or {}),
        rows=tuple(rows),
        environment=environment(torch=module is not None),
    )


def gate_evaluations(graph: Graph) -> int:
    """Return the gates evaluated per sample: the gates of each body times its positions."""
    return sum(op.body.num_gates * op.positions for _, op in graph.of_type(Logic))


def compile_cold(name: str, graph: Graph, options: Mapping[str, Any]) -> tuple[Executable, float]:
    """Compile `graph` with backend `name`; return the executable and the seconds it took.

    Object code found on disk would make the time depend on what ran before, so no cache is used
    unless `options` ask for one.
    """
    lower = BACKENDS.get(name)
    cold = {"cache": False} if "cache" in signature(lower).parameters else {}
    start = perf_counter()
    exe = lower(graph, **{**cold, **options})
    return exe, perf_counter() - start


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


@contextmanager
def torch_eval(module: Any, threads: int) -> Iterator[Callable[[Value, Array], Any]]:
    """Set eval mode and `threads` threads without gradients; yield the conversion to a tensor."""
    import torch

    before, training = torch.get_num_threads(), module.training

    def tensor(value: Value, array: Array) -> Any:
        array = array.astype(np.float32) if value.dtype == "bit" else array.copy()
        return torch.from_numpy(array)

    torch.set_num_threads(threads)
    module.eval()
    try:
        with torch.inference_mode():
            yield tensor
    finally:
        module.train(training)
        torch.set_num_threads(before)
