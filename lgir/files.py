"""Whole files: reads and writes with typed errors, and writes that are seen whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from lgir.errors import FormatError


def write_atomically(
    path: str | PathLike[str], data: bytes, *, permissions: int | None = None
) -> None:
    """Write `data` to a new file beside `path`, then rename it over `path`.

    A reader sees the old file or the new one, whole, and a failed write leaves the old one.

    Args:
        permissions: the bits of the new file's mode. None keeps those of the file that is replaced,
            and its owner and group as far as this user may; a new file has what the umask leaves.

    Raises:
        FormatError: the folder cannot be written to, or `path` is a folder or a device.
    """
    try:
        target = _target(path)
        temporary = target.parent / f".lgir-{secrets.token_hex(6)}.tmp"
        old = target.stat() if permissions is None and target.exists() else None
        # Nobody else may read the new file before it has the permissions of the old one.
        initial = 0o600 if old is not None else 0o666 if permissions is None else permissions
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            with open(os.open(temporary, flags, initial), "wb") as file:
                file.write(data)
            if old is not None:
                _copy_permissions(old, temporary)
            os.replace(temporary, target)
        finally:
            with suppress(OSError):
                temporary.unlink()
    except OSError as error:
        raise _cannot_write(path, error) from None


def _copy_permissions(old: os.stat_result, path: Path) -> None:
    """Give the file at `path` the owner, group and permissions of another file.

    A user who may not give the file to the group takes the group's permissions away, since they
    were meant for another group.
    """
    permissions = stat.S_IMODE(old.st_mode) & 0o777
    new = path.stat()
    if hasattr(os, "chown") and (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        with suppress(OSError):
            os.chown(path, -1, old.st_gid)
        with suppress(OSError):
            os.chown(path, old.st_uid, -1)
        if path.stat().st_gid != old.st_gid:
            permissions &= ~0o070
    path.chmod(permissions)


def check_writable(path: str | PathLike[str]) -> None:
    """Raise FormatError if no file can be written at `path`. Call it before minutes of work."""
    try:
        folder = _target(path).parent
        if not folder.is_dir():
            raise FormatError(f"cannot write {path}: there is no folder {Path(path).parent}")
        if not os.access(folder, os.W_OK):
            raise FormatError(f"cannot write {path}: its folder may not be written to")
    except OSError as error:
        raise _cannot_write(path, error) from None


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder that only this user may enter, and remove it afterwards.

    Raises:
        FormatError: the system has no folder for temporary files that can be written to.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="lgir-", ignore_cleanup_errors=True)
    except OSError as error:
        raise FormatError(
            f"cannot make a temporary folder ({error.strerror or error}); free some space, or let "
            "the environment variable TMPDIR name a folder that can be written to"
        ) from None
    with folder as name:
        yield Path(name)


def _cannot_write(path: str | PathLike[str], error: OSError) -> FormatError:
    return FormatError(f"cannot write {path}: {error.strerror or error}")


def _target(path: str | PathLike[str]) -> Path:
    """Return what is written or replaced for `path`: a link stays a link."""
    try:
        target = Path(os.path.realpath(path))
    except ValueError as error:  # a NUL in the path
        raise FormatError(f"cannot write {path}: {error}") from None
    if target.exists() and not target.is_file():
        raise FormatError(f"cannot write {path}: it exists and is not a regular file")
    return target


def open_regular(path: str | PathLike[str]) -> BinaryIO:
    """Open a regular file for reading.

    Opening never waits: a FIFO, a device or a folder is refused, whatever is at its other end.

    Raises:
        FormatError: there is no such file, it is not a regular one, or it may not be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FormatError(f"cannot read {path}: it is not a regular file")
        return open(descriptor, "rb")
    except FormatError:
        raise
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from None
    except (TypeError, ValueError) as error:  # no path at all, or a NUL in it
        raise FormatError(f"cannot read {path!r}: {error}") from None


def read_file(path: str | PathLike[str], limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes.

    Raises FormatError for anything else, as `open_regular` does.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise FormatError(f"cannot read {path}: it has {size:,} bytes, more than {limit:,}")
        return _read(path, file, size)


def read_start(path: str | PathLike[str], count: int) -> bytes:
    """Return the first `count` bytes of a regular file, or all if it has fewer.

    Raises FormatError as `open_regular` does.
    """
    with open_regular(path) as file:
        return _read(path, file, count)


def _read(path: str | PathLike[str], file: BinaryIO, count: int) -> bytes:
    try:
        return file.read(count)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from None
