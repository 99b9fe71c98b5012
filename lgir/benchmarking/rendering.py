"""The look of bench reports: titled tables, facts below them, figures, and plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lgir.printable import escape_markup

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def titled_table(title: str) -> Table:
    """Return an empty table with a bold title at its left."""
    from rich import box
    from rich.table import Table

    return Table(
        title=f" {escape_markup(title)}",
        box=box.SIMPLE_HEAD,
        title_style="bold",
        title_justify="left",
        pad_edge=False,
    )


def facts_grid(facts: Mapping[str, str]) -> Table:
    """Return a grid of two columns: a name per line, and a text."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    for key, text in facts.items():
        grid.add_row(f" [dim]{key}[/]", text)
    return grid


def plain_text(report: RenderableType) -> str:
    """Render a report without colors, 120 columns wide."""
    from rich.console import Console

    console = Console(width=120, highlight=False, color_system=None)
    with console.capture() as text:
        console.print(report)
    return text.get().rstrip("\n")


def si(x: float) -> str:
    """Format a number with three significant digits and a metric prefix, for example "1.20 M"."""
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if x >= scale:
            x /= scale
            return f"{x:#.3g}".rstrip(".") + f" {unit}" if x < 1000 else f"{x:,.0f} {unit}"
    return f"{x:#.3g}".rstrip(".")


def duration(seconds: float) -> str:
    """Format seconds with three significant digits and a unit, for example "12.3 us"."""
    unit, scale = next(
        ((u, s) for u, s in (("s", 1.0), ("ms", 1e-3)) if seconds >= s), ("us", 1e-6)
    )
    value = seconds / scale
    text = f"{value:,.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")
    return f"{text} {unit}"


def spell_speed_up(ratio: float) -> str:
    """Return a ratio of speeds as text, for example "901x" or "0.35x"."""
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.2g}x"


def spell_bytes(count: float) -> str:
    """Return a number of bytes as text, for example "2.1 MB"."""
    return f"{si(count)}B" if count >= 1000 else f"{count:.0f} B"
