"""Whole files: reads and writes with typed errors, and writes that are seen whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from os import PathLike
from pathlib import Path

from lgir.errors import FormatError


def write_atomically(path: str | PathLike[str], data: bytes) -> None:
    """Write `data` to a new file beside `path`, then rename it over `path`.

    A reader sees the old file or the new one, whole, and a failed write leaves the old one.
    Raises FormatError if the folder cannot be written or `path` is a folder or a device.
    """
    try:
        target = _target(path)
        temporary = target.parent / f".lgir-{secrets.token_hex(6)}.tmp"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
            os.replace(temporary, target)
        finally:
            with suppress(OSError):
                temporary.unlink()
    except OSError as error:
        raise FormatError(f"cannot write {path}: {error.strerror or error}") from None


def check_writable(path: str | PathLike[str]) -> None:
    """Raise FormatError if no file can be written to `path`, before minutes of work are spent."""
    try:
        folder = _target(path).parent
        if not folder.is_dir():
            raise FormatError(f"cannot write {path}: there is no folder {Path(path).parent}")
        if not os.access(folder, os.W_OK):
            raise FormatError(f"cannot write {path}: its folder may not be written to")
    except OSError as error:
        raise FormatError(f"cannot write {path}: {error.strerror or error}") from None


def _target(path: str | PathLike[str]) -> Path:
    """Return the file that is written or replaced for `path`; a link stays a link."""
    try:
        target = Path(os.path.realpath(path))
    except ValueError as error:  # a NUL in the path
        raise FormatError(f"cannot write {path}: {error}") from None
    if target.exists() and not target.is_file():
        raise FormatError(f"cannot write {path}: it exists and is not a regular file")
    return target


def read_file(path: str | PathLike[str], limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes.

    Raises FormatError for anything else.
    """
    try:
        target = Path(path)
        if target.exists() and not target.is_file():
            raise FormatError(f"cannot read {path}: it is not a regular file")
        size = target.stat().st_size
        if size > limit:
            raise FormatError(f"cannot read {path}: it has {size:,} bytes, more than {limit:,}")
        return target.read_bytes()
    except FormatError:
        raise
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:  # a NUL in the path
        raise FormatError(f"cannot read {path}: {error}") from None
