"""The report of a benchmark of several backends on one graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lgir.benchmarking.batch_memory import explain_batch
from lgir.benchmarking.rendering import (
    facts_grid,
    plain_text,
    si,
    spell_speed_up,
    titled_table,
)

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

MODULE: Final = "pytorch"
"""Name of the row of the torch module that a bench compares with."""
TORCH_COMPILE: Final = "torch-compile"
ONNXRUNTIME: Final = "onnxruntime"
BASELINES: Final = (MODULE, TORCH_COMPILE, ONNXRUNTIME)
"""Names of what backends can be compared with."""


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
        sample_bytes: bytes of one sample, all inputs together; 0 if they are not known.
        batch: samples per call; None if a run of a backend is one call.
    """

    name: str
    gates: int
    distinct_gates: int
    threads: int
    repeats: int
    preparation: Mapping[str, float]
    rows: tuple[Measurement, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    sample_bytes: int = 0
    batch: int | None = None

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
            "sample_bytes": self.sample_bytes,
            "batch": self.batch,
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
        }
        if self.sample_bytes:
            first = self.rows[0]
            call = min(self.batch or first.samples, first.samples)
            facts["a call"] = f"{first.backend}: {explain_batch(self.sample_bytes, call)}"
        facts |= self.environment
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
                cells.append(spell_speed_up(self.speed_up(row) or 1.0))
            table.add_row(*cells, "[green]yes[/]")
        return table

    def __str__(self) -> str:
        return plain_text(self)
