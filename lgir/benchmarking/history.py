"""A history of benches: one JSON line per run, with its date and environment."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from os import PathLike
from typing import Any, Final

from lgir.errors import FormatError
from lgir.files import check_writable

_MOST_LINE_BYTES: Final = 1 << 20
"""More than the line of any run has."""


def check_history(path: str | PathLike[str]) -> None:
    """Raise FormatError if `append_history` could not append JSON lines to `path`.

    Call it before minutes of measuring.
    """
    if not os.path.lexists(path):
        check_writable(path)
        return
    file = _open(path, os.O_RDWR)
    try:
        if os.read(file, 1) not in (b"", b"{"):
            raise FormatError(f"{path}: no history of benches, which has lines of JSON; it is kept")
        _line_end(file, path)
    finally:
        os.close(file)


def append_history(path: str | PathLike[str], report: Mapping[str, Any]) -> None:
    """Append the dict of a report to a .jsonl file, which may be new, with the date (UTC) first.

    The line is written by one system call, so that lines of runs that append at the same time do
    not mix. If the last line of the file is whole but not ended, it is ended first.

    Raises:
        FormatError: the line cannot be written, or the last line of the file is torn, since a run
            was killed or the disk was full. What was written of the new line is taken back if
            nobody has appended another one since.
    """
    date = datetime.now(UTC).isoformat(timespec="seconds")
    line = (json.dumps({"date": date, **report}) + "\n").encode()
    file = _open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        line = _line_end(file, path) + line
        size = os.fstat(file).st_size
        written = os.write(file, line)
        if written != len(line):
            if os.fstat(file).st_size == size + written:
                os.ftruncate(file, size)
            raise FormatError(f"cannot write {path}: only {written} of {len(line)} bytes fit")
    except OSError as error:
        raise FormatError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        os.close(file)


def _line_end(file: int, path: str | PathLike[str]) -> bytes:
    """Return what ends the last line of a history: nothing, or a line feed if it lacks one.

    Raises:
        FormatError: the last line is torn.
    """
    size = os.fstat(file).st_size
    start = max(0, size - _MOST_LINE_BYTES)
    os.lseek(file, start, os.SEEK_SET)
    _, _, last = os.read(file, size - start).rpartition(b"\n")
    if not last:
        return b""
    try:
        json.loads(last)
    except (ValueError, RecursionError):
        raise FormatError(
            f"{path}: its last line is torn, as if a run was killed or the disk was full; remove "
            "that line"
        ) from None
    return b"\n"


def _open(path: str | PathLike[str], flags: int) -> int:
    """Return the descriptor of a regular file; raise FormatError for anything else."""
    # Opening a pipe that nobody reads would wait for ever.
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        file = os.open(path, flags, 0o666)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"cannot write {path}: {reason}") from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FormatError(f"cannot write {path}: it is not a regular file")
    return file
