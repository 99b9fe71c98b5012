"""The report of a sweep over batch sizes, numbers of threads, or widths of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lgir.benchmarking.batch_memory import BY_BATCH, level_of_bytes
from lgir.benchmarking.rendering import (
    duration,
    facts_grid,
    plain_text,
    si,
    spell_bytes,
    titled_table,
)

if TYPE_CHECKING:
    from rich.console import Group

LONGEST_CALL: Final = 2.0
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
        sample_bytes: bytes of one sample, all inputs together; 0 if they are not known.
        left_out: why sizes of the axis were left out, "" if none was.
    """

    name: str
    axis: str
    points: tuple[SweepPoint, ...]
    environment: Mapping[str, str]
    sample_bytes: int = 0
    left_out: str = ""

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
            "sample_bytes": self.sample_bytes,
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
        reads = self.axis == "batch" and self.sample_bytes > 0
        if reads:
            table.add_column("\nread from", justify="right")
        sizes = {point.size for point in self.points}
        for size in sorted(sizes):
            cells = []
            for points in columns.values():
                point = next((p for p in points if p.size == size), None)
                cells += [self._rate(point), si(point.samples_per_second)] if point else ["", ""]
            if reads:
                read = self.sample_bytes * size
                cells.append(f"{spell_bytes(read)}, {level_of_bytes(read)}")
            table.add_row(f" {size:,}", *cells)
        facts = {
            "calls": self._calls(),
            "times": "medians of consecutive calls, from arrays in memory to scores",
            "outputs": "equal to the reference's at every size",
        }
        if self.axis == "batch":
            facts["batch"] = BY_BATCH
        if self.left_out:
            facts["sizes"] = self.left_out
        if any(len(points) < len(sizes) for points in columns.values()):
            facts["left out"] = f"calls that would take more than {LONGEST_CALL:g} s"
        facts |= self.environment
        return Group(table, facts_grid(facts))

    def _rate(self, point: SweepPoint) -> str:
        if self.axis == "width":
            return si(point.gate_evals_per_second)
        return duration(point.seconds)

    def __str__(self) -> str:
        return plain_text(self)
