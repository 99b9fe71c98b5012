"""The errors that lgir raises on purpose.

Each message says in one line what is wrong, where, and how to fix it. The command line prints the
message and exits with code 2; Python callers catch `LgirError` or one of its kinds.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any, Final

from lgir.printable import printable

LONGEST_MESSAGE: Final = 1200
"""Characters of the longest message, which fits a screen; a longer one loses its middle."""


class LgirError(Exception):
    """Base of all errors that a user can act on.

    The message becomes one line: names from files may hold control characters, which a terminal
    would obey, and be of any length.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


def one_line(message: str) -> str:
    """Return a message without line breaks and control characters, cut to `LONGEST_MESSAGE`."""
    if not message.isprintable():
        message = printable(" ".join(_cut(message).split()))  # which may make it longer again
    return _cut(message)


def _cut(message: str) -> str:
    half = LONGEST_MESSAGE // 2 - 3
    fits = len(message) <= LONGEST_MESSAGE
    return message if fits else f"{message[:half]} ... {message[-half:]}"


def shown(value: Any) -> str:
    """Return a value as it stands in a message: its repr in one short line, however large it is."""
    try:
        return " ".join(reprlib.repr(value).split())
    except Exception:  # integers of more digits than Python prints, and classes that cannot
        return f"a {type(value).__name__}"


class GraphError(LgirError, ValueError):
    """A graph that breaks a structural rule of the IR."""


class ParseError(LgirError, ValueError):
    """Text IR, a pipeline string or a rule that cannot be read."""


class FormatError(LgirError, ValueError):
    """A file that is truncated, corrupt, of an unknown format or lacks what lifting needs."""


class LiftError(LgirError, ValueError):
    """A model or checkpoint that cannot be turned into a graph."""


class InputError(LgirError, ValueError):
    """Samples of a wrong shape, dtype or value handed to an executable."""


class PassError(LgirError, RuntimeError):
    """A pass that failed, broke the IR or changed what the graph computes."""


class BackendError(LgirError, RuntimeError):
    """A backend that cannot lower a graph or lacks what it needs on this machine."""


class UnknownNameError(LgirError, KeyError):
    """A pass, backend, frontend or net that is not registered."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])


_LONGEST_NAME: Final = 100
"""Characters of the longest name that is compared with known ones, which takes their product."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return the error for a name that is not registered, which suggests a near one of `known`."""
    names = sorted(known)
    hint = did_you_mean(name, names)
    known_names = ", ".join(names) or "none"
    return UnknownNameError(f"unknown {kind} {shown(name)}{hint} (known: {known_names})")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" with the known name nearest to `name`, or "" if none is near."""
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        return ""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
