"""Commands that list what is registered: `lgir passes`, `lgir backends`, `lgir frontends`."""

from __future__ import annotations

from inspect import Parameter, getdoc, signature
from typing import Any

import click

from lgir.cli.options import json_option, load_option
from lgir.cli.output import console, print_json
from lgir.printable import escape_markup
from lgir.registry import BACKENDS, FRONTENDS


@click.command()
@load_option
@json_option
def passes(as_json: bool) -> None:
    """List the passes and named pipelines that -p takes."""
    from lgir.passes.pipeline import PIPELINES, list_passes

    known = list_passes()
    if as_json:
        rows = [{"name": p.name, "about": p.doc, "options": dict(p.options)} for p in known]
        print_json({"passes": rows, "pipelines": PIPELINES})
        return
    options = [", ".join(f"{key}: {kind}" for key, kind in p.options.items()) for p in known]
    columns = {"pass": [p.name for p in known], "what it does": [p.doc for p in known]}
    _print_columns(columns | ({"options": options} if any(options) else {}))
    _print_columns(
        {"pipeline": list(PIPELINES), "stands for": [p or "(no pass)" for p in PIPELINES.values()]}
    )


@click.command()
@load_option
@json_option
def backends(as_json: bool) -> None:
    """List the backends that -b takes."""
    summaries = {name: (getdoc(item) or "").partition("\n")[0] for name, item in BACKENDS.items()}
    if as_json:
        print_json([{"name": name, "about": text} for name, text in summaries.items()])
    else:
        _print_columns({"backend": list(summaries), "what it does": list(summaries.values())})


@click.command()
@load_option
@json_option
def frontends(as_json: bool) -> None:
    """List the frontends, and the options that each takes as --set KEY=VALUE."""
    rows: list[dict[str, Any]] = []
    for name, kind in FRONTENDS.items():
        options = {
            p.name: repr(p.default)
            for p in signature(kind().lift).parameters.values()
            if p.kind is Parameter.KEYWORD_ONLY
        }
        about = (getdoc(kind) or "").partition("\n")[0]
        rows.append({"name": name, "about": about, "options": options})
    if as_json:
        print_json(rows)
        return
    _print_columns(
        {
            "frontend": [str(row["name"]) for row in rows],
            "what it lifts": [str(row["about"]) for row in rows],
            "options": [", ".join(f"{k}={v}" for k, v in row["options"].items()) for row in rows],
        }
    )


def _print_columns(columns: dict[str, list[str]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*map(escape_markup, cells))
    console().print(table)
