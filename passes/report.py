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
    """Rows in the order in which the passes ran; `str(report)` is a table."""

    pipeline: str
    before: Size
    rows: list[PassRow] = field(default_factory=list)
    seconds: float = 0.0

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
            "rows": [row.to_dict() for row in self.rows],
        }

    def __str__(self) -> str:
        header = ("pass", "gates in", "gates out", "unrolled in", "unrolled out", "nodes", "ms")
        lines: list[tuple[str, ...]] = [(*header, "verified")]
        for row in self.rows:
            cells = _cells(row.name, row.before, row.after, row.seconds)
            lines.append((*cells, row.verified or "-"))
        lines.append((*_cells("total", self.before, self.after, self.seconds), ""))
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        table = []
        for name, *numbers, verified in lines:
            padded = [n.rjust(width) for n, width in zip(numbers, widths[1:-1], strict=True)]
            table.append("  ".join([name.ljust(widths[0]), *padded, verified]).rstrip())
        return "\n".join(table)


def _cells(name: str, before: Size, after: Size, seconds: float) -> tuple[str, ...]:
    return (
        name,
        f"{before.gates:,}",
        f"{after.gates:,}",
        f"{before.unrolled:,}",
        f"{after.unrolled:,}",
        str(after.nodes),
        f"{seconds * 1e3:.1f}",
    )
