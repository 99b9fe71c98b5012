"""The report on a pipeline: one row per pass, as a table for people and a dict for machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic


@dataclass(frozen=True)
class Size:
    """The size of a graph.

    Attributes:
        nodes: number of nodes.
        gates: number of distinct gates, those of a convolution counted once.
        unrolled: number of gates, those of a convolution counted at every position.
    """

    nodes: int
    gates: int
    unrolled: int

    @staticmethod
    def of(graph: Graph) -> Size:
        """Return the size of a graph."""
        bodies = [(op.body.num_gates, op.positions) for _, op in graph.of_type(Logic)]
        return Size(len(graph.nodes), sum(g for g, _ in bodies), sum(g * p for g, p in bodies))


@dataclass(frozen=True)
class PassRow:
    """One pass: the sizes before and after it, the time it took, and how it was verified.

    Attributes:
        seconds: time of the pass alone.
        verified: "unchanged", "sim 1024" (the method and the samples tried), or "" if passes were
            trusted.
        verify_seconds: time of the check after the pass.
    """

    name: str
    before: Size
    after: Size
    seconds: float
    verified: str
    verify_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return {
            "pass": self.name,
            "gates_in": self.before.gates,
            "gates_out": self.after.gates,
            "unrolled_in": self.before.unrolled,
            "unrolled_out": self.after.unrolled,
            "nodes_in": self.before.nodes,
            "nodes_out": self.after.nodes,
            "seconds": self.seconds,
            "verified": self.verified,
            "verify_seconds": self.verify_seconds,
        }


@dataclass
class Report:
    """Rows in the order in which the passes ran; `str(report)` is a table.

    Attributes:
        pipeline: the pipeline's text.
        before: the size of the graph before the first pass.
        rows: a row per pass that ran.
        seconds: time of the whole run: `pass_seconds`, `verify_seconds` and `other_seconds`.
    """

    pipeline: str
    before: Size
    rows: list[PassRow] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def pass_seconds(self) -> float:
        """The time of all passes, without their checks."""
        return sum(row.seconds for row in self.rows)

    @property
    def verify_seconds(self) -> float:
        """The time of the checks after passes."""
        return sum(row.verify_seconds for row in self.rows)

    @property
    def other_seconds(self) -> float:
        """The time between passes: instrumentation such as dumps, and this report."""
        return max(0.0, self.seconds - self.pass_seconds - self.verify_seconds)

    def times(self) -> str:
        """Return one line: the time of the run, and the parts that add up to it."""
        parts = {
            "in passes": self.pass_seconds,
            "in verification": self.verify_seconds,
            "between passes": self.other_seconds,
        }
        shown = " + ".join(f"{_ms(seconds)} {name}" for name, seconds in parts.items())
        return f"{_ms(self.seconds)} ms = {shown}"

    @property
    def after(self) -> Size:
        """The size after the last pass."""
        return self.rows[-1].after if self.rows else self.before

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return {
            "pipeline": self.pipeline,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "seconds": self.seconds,
            "pass_seconds": self.pass_seconds,
            "verify_seconds": self.verify_seconds,
            "other_seconds": self.other_seconds,
            "rows": [row.to_dict() for row in self.rows],
        }

    def __str__(self) -> str:
        header = ("pass", "gates in", "gates out", "unrolled in", "unrolled out", "nodes", "ms")
        lines: list[tuple[str, ...]] = [(*header, "verify ms", "verified")]
        for row in self.rows:
            times = row.seconds, row.verify_seconds
            lines.append((*_cells(row.name, row.before, row.after, *times), row.verified or "-"))
        times = self.pass_seconds, self.verify_seconds
        lines.append((*_cells("total", self.before, self.after, *times), ""))
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        table = []
        for name, *numbers, verified in lines:
            padded = [n.rjust(width) for n, width in zip(numbers, widths[1:-1], strict=True)]
            table.append("  ".join([name.ljust(widths[0]), *padded, verified]).rstrip())
        return "\n".join(table)


def _cells(
    name: str, before: Size, after: Size, seconds: float, verify_seconds: float
) -> tuple[str, ...]:
    return (
        name,
        f"{before.gates:,}",
        f"{after.gates:,}",
        f"{before.unrolled:,}",
        f"{after.unrolled:,}",
        str(after.nodes),
        _ms(seconds),
        _ms(verify_seconds),
    )


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f}"
