"""Output of commands: results on stdout, diagnostics and progress on stderr.

Rich is imported by the functions that print, so that `lgir --help` and pipes stay quick.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from lgir.printable import escape_markup, printable

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 160


def console(*, stderr: bool = False) -> Console:
    """Return a rich console on stdout or stderr, wide enough for any table if it is a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else PIPED_WIDTH)


def note(message: str) -> None:
    """Print a diagnostic line on stderr."""
    click.echo(printable(message), err=True)


@contextmanager
def status(message: str, *, shown: bool = True) -> Iterator[Callable[[str], None]]:
    """Show a spinner, a message and the elapsed time on stderr while the block runs.

    Yield a function that changes the message. Nothing is printed if stderr is not a terminal or
    `shown` is false, as it must be if the block prints lines of its own.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda message: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(escape_markup(message))
        yield lambda message: progress.update(task, description=escape_markup(message))


def print_json(data: Any) -> None:
    """Print `data` as indented JSON on stdout."""
    click.echo(json.dumps(data, indent=2))
