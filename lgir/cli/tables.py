"""Tables of a pipeline's report and of the difference of two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Group
from rich.table import Table

from lgir.ir.graph_diff import arrow, spell_operations
from lgir.printable import escape_markup

if TYPE_CHECKING:
    from lgir.equivalence.equal_channels import EqualChannels
    from lgir.ir.graph_diff import GraphDiff, NodeDiff
    from lgir.passes.report import Report


def report_table(report: Report, title: str | None = None) -> Table:
    """Return a table with a row per pass and a line of totals; passes without changes are dim."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=f"  {report.times()}",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_footer=True,
    )
    before, after = report.before, report.after
    table.add_column("pass", footer="in all")
    table.add_column("gates in", justify="right", footer=f"{before.gates:,}")
    table.add_column("gates out", justify="right", footer=f"{after.gates:,}")
    table.add_column("change", justify="right", footer=_change(before.gates, after.gates))
    rolled = before.gates != before.unrolled
    if rolled:
        table.add_column("evaluated\nper sample", justify="right", footer=f"{after.unrolled:,}")
    table.add_column("ms", justify="right", footer=f"{1e3 * report.pass_seconds:,.1f}")
    table.add_column("verify\nms", justify="right", footer=f"{1e3 * report.verify_seconds:,.1f}")
    table.add_column("verified")
    for row in report.rows:
        gates = row.before.gates, row.after.gates
        cells = [row.name, f"{gates[0]:,}", f"{gates[1]:,}", _change(*gates)]
        if rolled:
            cells.append(f"{row.after.unrolled:,}")
        unchanged = row.verified == "unchanged"
        times = (row.seconds, row.verify_seconds)
        cells += [f"{1e3 * seconds:,.1f}" if seconds else "" for seconds in times]
        cells.append(row.verified or "[yellow]no[/]")
        table.add_row(*cells, style="dim" if unchanged else None)
    return table


def _change(before: int, after: int) -> str:
    return f"{100 * (after - before) / before:+.1f} %" if before and before != after else ""


_STYLES: Final = {"-": "red", "+": "green", "~": "", "=": "dim"}


def diff_table(diff: GraphDiff, pairs: Mapping[str, EqualChannels], names: Sequence[str]) -> Group:
    """Return a table with a row per node of two models of some names, and lines that explain it.

    `pairs` holds the channels in common by node of the second model.
    """
    before, after = diff.before, diff.after
    operations = spell_operations(diff.operations())
    rolled = before.gates != before.unrolled_gates
    evaluated = arrow(f"{before.unrolled_gates:,}", f"{after.unrolled_gates:,}")
    notes = [
        "- removed, + added, ~ changed, = the same. Equal channels are those that compute what a",
        f"channel of {names[0]} does, of the same node or the one that is named.",
        *([f"gates evaluated per sample: {evaluated}"] if rolled else []),
        *([f"operations: {operations}"] if operations else []),
    ]
    table = Table(
        title=escape_markup(f" {names[0]} -> {names[1]}"),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_footer=True,
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    table.add_column("node", "in all")
    table.add_column("op", no_wrap=True)
    table.add_column("output")
    table.add_column("gates", arrow(f"{before.gates:,}", f"{after.gates:,}"), justify="right")
    table.add_column("depth", arrow(str(before.depth), str(after.depth)), justify="right")
    table.add_column("equal channels")
    for node in diff.nodes:
        cells = node.mark, node.name, node.op_type, *_sizes(node), _equal(pairs.get(node.name))
        table.add_row(*map(escape_markup, cells), style=_STYLES[node.mark])
    return Group(table, *(escape_markup(f" {line}") for line in notes))


def _sizes(node: NodeDiff) -> tuple[str, str, str]:
    present = [x for x in (node.before, node.after) if x is not None]
    first, last = present[0], present[-1]
    output = arrow(first.type, last.type)
    if node.op_type != "Logic":
        return output, "", ""
    return (
        output,
        arrow(f"{first.gates:,}", f"{last.gates:,}"),
        arrow(str(first.depth), str(last.depth)),
    )


def _equal(pair: EqualChannels | None) -> str:
    """Return how many channels of a node equal channels of a node of the other model."""
    if pair is None:
        return ""
    how, count = "simulated", pair.simulated
    if pair.proved is not None:
        how, count = "proved", pair.proved
    text = f"{how} {count:,}" if count < pair.channels else f"{how} all"
    if pair.proved is not None and pair.simulated > pair.proved:
        text += f", simulated {pair.simulated:,}"
    return text if pair.left == pair.right else f"{text}, of {pair.left}"
