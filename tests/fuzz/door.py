"""Doors, the contract that they keep, and what generators of input share."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from lgir.errors import LgirError

Case = tuple[str, Callable[[], Any]]
"""The description of an input in one line, and the call that hands the input to lgir."""

Door = Callable[[Random], Case]
"""Draw an input; equal states of the generator draw equal inputs."""

DOORS: Final[dict[str, Door]] = {}
"""The doors by name."""

T = TypeVar("T")


def door(name: str) -> Callable[[Door], Door]:
    """Return a decorator that adds a door under `name`, a kebab-case word."""

    def add(function: Door) -> Door:
        if name in DOORS:
            raise ValueError(f"there are two doors {name!r}")
        DOORS[name] = function
        return function

    return add


LONGEST_MESSAGE: Final = 2000
"""Characters of a screen of 80 columns and 25 lines."""


def outcome(call: Callable[[], Any]) -> str:
    """Return "accepted" or "refused"; let everything out that lgir must not raise.

    Raises AssertionError if the message of a refusal is not one line that fits a screen.
    """
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(None):
            warnings.simplefilter("ignore")
            call()
    except LgirError as error:
        message = str(error)
        assert message, "the message is empty"
        assert len(message) <= LONGEST_MESSAGE, f"the message has {len(message)} characters"
        assert not {"\n", "\r", "\x1b"} & set(message), f"the message is not one line: {message!r}"
        return "refused"
    return "accepted"


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="lgir-fuzz-")


def written(data: bytes, name: str) -> Path:
    """Write `data` to a file called `name` in this process's scratch folder; return its path."""
    path = Path(_folder().name) / name
    path.write_bytes(data)
    return path


_NUMBERS: Final = (0, 1, 127, 128, 255, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)

_WORDS: Final = (b"9", b"-", b"[", b"{", b'"', b" ", b"\n", b"\0")


def mutated(data: bytes, rng: Random) -> bytes:
    """Return `data` with one to four edits: bits, numbers, blocks copied, removed or inserted."""
    edited = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(edited) + 1)
        length = rng.choice((1, 2, 4, 8, rng.randrange(64)))
        kind = rng.randrange(7)
        if kind == 0 and start < len(edited):
            edited[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            number = rng.choice(_NUMBERS).to_bytes(8, rng.choice(("little", "big")))
            edited[start : start + 8] = number
        elif kind == 2:
            del edited[start : start + length]
        elif kind == 3:
            edited[start:start] = rng.randbytes(length)
        elif kind == 4:
            source = rng.randrange(len(edited) + 1)
            edited[start:start] = edited[source : source + length] * rng.choice((1, 1, 50))
        elif kind == 5:
            del edited[start:]
        else:
            edited[start : start + 1] = rng.choice(
                (b"9", b"-", b"[", b"{", b'"', b" ", b"\n", b"\0")
            )
    return bytes(edited)
