"""A folder of object code that outlives the process, shared by all networks and processes.

There is one entry per kernel. It is named by a hash of all that its code depends on, and lies in
one of 256 subfolders by the first byte of its name, as git stores objects. An entry begins with its
checksum: a damaged one is removed and counts as missing. Nothing here raises; a folder that cannot
be used only makes compiling slower.

Object code runs, so whoever could write an entry could run code as its readers. `folder_trust` says
what is trusted. Where something else is found, one warning says so, and the cache is neither read
nor written any more.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Final

from lgir.backends.llvm.folder_trust import distrust_of_entry, distrust_of_folder
from lgir.files import write_atomically

LIMIT: Final = 256 << 20
"""The most bytes that a cache holds."""
_SHARDS: Final = 256
_CHECKSUM_BYTES: Final = 32
_MOST_ENTRY_BYTES: Final = 64 << 20
"""More than the code of any kernel has."""


class ObjectCache:
    """Object code by key, in a folder that is created when needed and private to the user.

    Args:
        folder: where entries lie.
        limit: bytes. Each subfolder drops its least recently used entries beyond its equal share.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        self._trusted = True
        self._folder_checked = False
        self._writable = True

    def get(self, key: str) -> bytes | None:
        """Return what was stored under `key`, a hexadecimal hash.

        The result is None if there is no such regular file, or if it is damaged or not trusted.
        """
        path = self._path(key)
        trusted = self._trusts_folder() and self._trusts_shard(path.parent)
        entry = self._read(path) if trusted else None
        if entry is None:
            return None
        data = entry[_CHECKSUM_BYTES:]
        intact = entry[:_CHECKSUM_BYTES] == _checksum(key, data)
        with suppress(OSError):
            if intact:
                os.utime(path)  # used now
            else:
                path.unlink()
        return data if intact else None

    def put(self, key: str, data: bytes) -> None:
        """Store `data` if the folder takes it; other processes see it whole or not at all.

        A link, folder or pipe in the place of an entry stays there.
        """
        if not self._writable or len(data) > _MOST_ENTRY_BYTES:
            return
        path = self._path(key)
        try:
            if not self._trusts_folder():
                return
            for missing in reversed(
                [p for p in (self.folder, *self.folder.parents) if not p.exists()]
            ):
                missing.mkdir(mode=0o700, exist_ok=True)
            if not self._trusts_folder():  # in /tmp, somebody else may have been faster
                return
            path.parent.mkdir(mode=0o700, exist_ok=True)
            if not self._trusts_shard(path.parent):
                return
            if not os.path.lexists(path) or stat.S_ISREG(path.lstat().st_mode):
                write_atomically(path, _checksum(key, data) + data, permissions=0o600)
                _shrink(path.parent, self.limit // _SHARDS)
        except (OSError, ValueError):  # FormatError is a ValueError
            self._writable = False

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key[2:]

    def _trusts_folder(self) -> bool:
        """Return whether the cache's folder, or what exists of its path, is trusted."""
        if self._trusted and not self._folder_checked:
            try:
                self._distrust(distrust_of_folder(self.folder))
                # From now on only this user and root can change what lies there.
                self._folder_checked = self.folder.is_dir()
            except (OSError, ValueError):  # ValueError: a NUL in the folder's name
                return False
        return self._trusted

    def _trusts_shard(self, shard: Path) -> bool:
        """Return whether there is a subfolder and it is trusted."""
        try:
            status = shard.lstat()
        except (OSError, ValueError):
            return False
        self._distrust(distrust_of_entry(shard, status))
        return self._trusted and stat.S_ISDIR(status.st_mode)

    def _read(self, path: Path) -> bytes | None:
        """Return the bytes of a trusted regular file, or None."""
        # Neither wait for the writer of a pipe nor follow a link.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            with open(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_ENTRY_BYTES:
                    return None
                self._distrust(distrust_of_entry(path, status))
                return file.read(_MOST_ENTRY_BYTES) if self._trusted else None
        except (OSError, ValueError):
            return None

    def _distrust(self, reason: str | None) -> None:
        """Warn and stop using the folder if there is a `reason`."""
        if reason is not None:
            self._trusted = self._writable = False
            warnings.warn(
                f"object code is compiled and not cached: {reason}; see SECURITY.md, or give "
                "another cache_dir",
                stacklevel=2,
            )


def default_folder() -> Path | None:
    """Return where this user's cached files belong by the system's convention.

    The result is None if there is no such place or it belongs to somebody else, as under sudo.
    """
    try:
        if sys.platform == "win32":
            return Path(os.environ["LOCALAPPDATA"], "lgir", "cache")
        if sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            xdg = os.environ.get("XDG_CACHE_HOME", "")
            base = Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache"
        folder = base / "lgir"
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        is_own = nearest.stat().st_uid == os.geteuid()
    except (KeyError, RuntimeError, OSError):  # no such variable, no home, or no permission to look
        return None
    return folder if is_own else None


def _checksum(key: str, data: bytes) -> bytes:
    """Return the checksum of key and data: an entry under another name counts as damaged."""
    return hashlib.sha256(key.encode() + data).digest()


def _shrink(folder: Path, limit: int) -> None:
    """Remove the least recently used files of `folder` until the others fit into `limit` bytes."""
    files = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process was faster
            status = path.lstat()
            files.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= limit:
            break
        with suppress(OSError):
            path.unlink()
        total -= size
