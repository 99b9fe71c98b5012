"""A folder of object code that outlives the process, shared by all networks and processes.

There is one entry per kernel. It is named by a hash of all that its code depends on, and lies in
one of 256 subfolders by the first byte of its name, as git stores objects. An entry begins with its
checksum: a damaged one is removed and counts as missing. Nothing here raises; a folder that cannot
be used only makes compiling slower.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from lgir.files import write_atomically

LIMIT: Final = 256 << 20
"""The most bytes that a cache holds."""
_SHARDS: Final = 256
_CHECKSUM_BYTES: Final = 32


class ObjectCache:
    """Object code by key, in a folder that is created when needed and private to the user.

    The checksum detects damage and not malice: whoever may write to the folder can run code as its
    readers.

    Args:
        folder: where entries lie.
        limit: bytes. Each subfolder drops its least recently used entries beyond its equal share.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        self._writable = True

    def get(self, key: str) -> bytes | None:
        """Return what was stored under `key`, a hexadecimal hash; None if missing or damaged."""
        path = self._path(key)
        try:
            entry = path.read_bytes()
        except (OSError, ValueError):  # ValueError: a NUL in the folder's name
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
        """Store `data` if the folder takes it; other processes see it whole or not at all."""
        if not self._writable:
            return
        path = self._path(key)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_atomically(path, _checksum(key, data) + data)
            _shrink(path.parent, self.limit // _SHARDS)
        except (OSError, ValueError):  # FormatError is a ValueError
            self._writable = False

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key[2:]


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
            status = path.stat()
            files.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= limit:
            break
        with suppress(OSError):
            path.unlink()
        total -= size
