"""Keyword options: an unknown one is an error that suggests the option that was meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from lgir.errors import UnknownNameError, did_you_mean


def keyword_options(function: Callable[..., Any]) -> list[str] | None:
    """Return the names of the keyword-only parameters of `function`; None if it takes any name."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD and p.annotation != "Never" for p in parameters):
        return None
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def check_options(owner: str, options: Iterable[str], known: Iterable[str] | None) -> None:
    """Raise UnknownNameError for the first of `options` that `owner` does not take.

    Args:
        owner: who takes the options, as the error names it, for example "backend 'llvm'".
        options: names of the options that the caller gave.
        known: names that `owner` takes; None if it takes any name.
    """
    if known is None:
        return
    names = list(known)
    for option in options:
        if option not in names:
            hint = did_you_mean(option, names)
            raise UnknownNameError(
                f"{owner} has no option {option!r}{hint} (options: {', '.join(names) or 'none'})"
            )
