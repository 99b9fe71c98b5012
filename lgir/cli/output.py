"""Output of commands: results on stdout, diagnostics and spinners on stderr.

Rich is imported by the functions that print, so that `lgir --help` and pipes stay quick.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

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
    click.echo(message, err=True)


@contextmanager
def status(message: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner on stderr while the block runs; print nothing if stderr is not a terminal.

    Yield a function that changes the message.
    """
    if sys.stderr.isatty():
        with console(stderr=True).status(message) as spinner:
            yield spinner.update
    else:
        yield lambda message: None


def print_json(data: Any) -> None:
    """Print `data` as indented JSON on stdout."""
    click.echo(json.dumps(data, indent=2))
