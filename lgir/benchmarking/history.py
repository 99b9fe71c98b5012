"""A history of benches: one JSON line per run, with its date and environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from os import PathLike
from typing import Any

from lgir.errors import FormatError
from lgir.files import check_writable


def check_history(path: str | PathLike[str]) -> None:
    """Raise FormatError if `append_history` could not append JSON lines to `path`.

    Call it before minutes of measuring.
    """
    if not os.path.exists(path):
        check_writable(path)
        return
    try:
        with open(path, "r+b") as file:
            first = file.read(1)
    except OSError as error:
        raise FormatError(f"cannot write {path}: {error.strerror or error}") from None
    if first not in (b"", b"{"):
        raise FormatError(f"{path}: no history of benches, which has lines of JSON; it is kept")


def append_history(path: str | PathLike[str], report: Mapping[str, Any]) -> None:
    """Append the dict of a report to a .jsonl file, which may be new, with the date (UTC) first.

    The line is written by one system call, so that lines of runs that append at the same time do
    not mix. Raises FormatError if it cannot be written.
    """
    date = datetime.now(UTC).isoformat(timespec="seconds")
    line = (json.dumps({"date": date, **report}) + "\n").encode()
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            written = os.write(file, line)
        finally:
            os.close(file)
    except OSError as error:
        raise FormatError(f"cannot write {path}: {error.strerror or error}") from None
    if written != len(line):
        raise FormatError(f"cannot write {path}: only {written} of {len(line)} bytes fit")
