"""The table of a pipeline's report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from lgir.passes.report import Report


def report_table(report: Report, title: str | None = None) -> Table:
    """Return a table with a row per pass and a line of totals; passes without changes are dim."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_footer=True
    )
    before, after = report.before, report.after
    table.add_column("pass", footer="in all")
    table.add_column("gates in", justify="right", footer=f"{before.gates:,}")
    table.add_column("gates out", justify="right", footer=f"{after.gates:,}")
    table.add_column("change", justify="right", footer=_change(before.gates, after.gates))
    rolled = before.gates != before.unrolled
    if rolled:
        table.add_column("evaluated\nper sample", justify="right", footer=f"{after.unrolled:,}")
    table.add_column("ms", justify="right", footer=f"{1e3 * report.seconds:.1f}")
    table.add_column("verified")
    for row in report.rows:
        gates = row.before.gates, row.after.gates
        cells = [row.name, f"{gates[0]:,}", f"{gates[1]:,}", _change(*gates)]
        if rolled:
            cells.append(f"{row.after.unrolled:,}")
        unchanged = row.verified == "unchanged"
        cells += [f"{1e3 * row.seconds:.1f}", row.verified or "[yellow]no[/]"]
        table.add_row(*cells, style="dim" if unchanged else None)
    return table


def _change(before: int, after: int) -> str:
    return f"{100 * (after - before) / before:+.1f} %" if before and before != after else ""
