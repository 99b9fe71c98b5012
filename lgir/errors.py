"""The errors that lgir raises on purpose.

Each message says in one line what is wrong, where, and how to fix it. The command line prints the
message and exits with code 2; Python callers catch `LgirError` or one of its kinds.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LgirError(Exception):
    """Base of all errors that a user can act on."""


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


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return the error for a name that is not registered, which suggests a near one of `known`."""
    names = sorted(known)
    hint = did_you_mean(name, names)
    return UnknownNameError(f"unknown {kind} {name!r}{hint} (known: {', '.join(names) or 'none'})")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" with the known name nearest to `name`, or "" if none is near."""
    near = difflib.get_close_matches(str(name), sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
