"""Trust in files that hold code which runs: nobody but the user and root can write them.

The rules follow OpenSSH's StrictModes, with two additions: a folder with the sticky bit, such as
/tmp, may hold a trusted one, since nobody else can rename what lies in it; and symbolic links on
the way must belong to the user or root. Windows has no such modes: there everything is trusted, and
the folder of a user's application data is private by its access list.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
"""With an access control list, the bit of the group is set if any entry may write."""
_MOST_LINKS: Final = 40
"""As many links as Linux follows in a path."""


def distrust_of_folder(folder: Path) -> str | None:
    """Return why the content of a folder is not trusted; None if it is, or does not exist yet.

    It must be the user's and not writable by group or others. Every folder above, and every link on
    the way, must be the user's or root's, and group and others may write to a folder above only if
    it has the sticky bit.

    Raises:
        OSError: a part of the path may not be looked at.
    """
    if os.name != "posix":
        return None
    path = Path.cwd() / folder
    todo = list(reversed(path.parts[1:]))
    current = Path(path.anchor)
    links = 0
    while True:
        try:
            status = current.lstat()
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(f"{folder}: too many symbolic links")
            if status.st_uid not in (0, os.geteuid()):
                return f"{current} is a link of another user"
            target = Path(os.readlink(current))
            todo += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            current = Path(target.anchor) if target.is_absolute() else current.parent
            continue
        if not todo:
            return distrust_of_entry(current, status)
        reason = _distrust_of_parent(current, status)
        if reason is not None:
            return reason
        part = todo.pop()
        current = current.parent if part == ".." else current / part


def distrust_of_entry(path: Path, status: os.stat_result) -> str | None:
    """Return why a file or folder of this status is not trusted as content; None if it is."""
    if os.name != "posix" or stat.S_ISLNK(status.st_mode):
        return None  # links are not followed
    if status.st_uid != os.geteuid():
        return f"{path} belongs to another user"
    if status.st_mode & _OTHERS_WRITE:
        return f"{path} can be written by others than its owner (chmod go-w)"
    return None


def _distrust_of_parent(path: Path, status: os.stat_result) -> str | None:
    """Return why a folder is not trusted to hold a trusted one; None if it is."""
    if status.st_uid not in (0, os.geteuid()):
        return f"{path}, in which the cache lies, belongs to another user"
    if status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
        return f"{path}, in which the cache lies, can be written by others than its owner"
    return None
