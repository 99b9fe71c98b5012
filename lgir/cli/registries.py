"""What is plugged in: `lgir passes` and `lgir backends`."""

from __future__ import annotations

from collections.abc import Callable
from inspect import getdoc
from typing import Any

import click

from lgir.cli.common import console, json_option, load_option, print_json
from lgir.registry import BACKENDS, PASSES, Registry


@click.command()
@load_option
@json_option
def passes(as_json: bool) -> None:
    """List the optimisation passes, for use in `lgir opt -p`."""
    _show(PASSES, as_json)


@click.command()
@json_option
def backends(as_json: bool) -> None:
    """List the backends, for use in `lgir run --backend`."""
    _show(BACKENDS, as_json)


def _show(registry: Registry[Callable[..., Any]], as_json: bool) -> None:
    rows = [(name, (getdoc(item) or "").split("\n\n")[0]) for name, item in registry.items()]
    rows = [(name, " ".join(about.split())) for name, about in rows]
    if as_json:
        print_json([{"name": name, "about": about} for name, about in rows])
        return
    from rich import box
    from rich.table import Table

    table = Table(registry.kind, "what it does", box=box.SIMPLE_HEAD)
    for name, about in rows:
        table.add_row(name, about)
    console().print(table)
