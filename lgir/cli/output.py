"""Where commands say things: results on stdout, diagnostics and spinners on stderr.

Rich is imported where it prints, so that `lgir --help` and pipes stay quick.
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
    """A rich console on the current stdout or stderr; wide enough for any table when piped."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else PIPED_WIDTH)


def note(message: str) -> None:
    """A diagnostic line on stderr."""
    click.echo(message, err=True)


@contextmanager
def status(message: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr while something takes time, silent where stderr is not a terminal.

    Yields a function that changes the message.
    """
    if sys.stderr.isatty():
        with console(stderr=True).status(message) as spinner:
            yield spinner.update
    else:
        yield lambda message: None


def print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2))
