"""How reports of benches look: a titled table, facts below it, and both as plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def titled_table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=f" {title}",
        box=box.SIMPLE_HEAD,
        title_style="bold",
        title_justify="left",
        pad_edge=False,
    )


def facts_grid(facts: Mapping[str, str]) -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    for key, text in facts.items():
        grid.add_row(f" [dim]{key}[/]", text)
    return grid


def plain_text(report: RenderableType) -> str:
    from rich.console import Console

    console = Console(width=120, highlight=False, color_system=None)
    with console.capture() as text:
        console.print(report)
    return text.get().rstrip("\n")
