"""Executables of this process by identity, so that one pickled here is not compiled again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

E = TypeVar("E")


class LiveExecutables(Generic[E]):
    """Weak references to executables, and strong ones to the few that were restored last.

    A worker process is sent its executable anew with every task; the strong references keep it
    alive from task to task.
    """

    def __init__(self, kept: int = 4) -> None:
        self._alive: WeakValueDictionary[str, E] = WeakValueDictionary()
        self._restored: deque[E] = deque(maxlen=kept)

    def add(self, identity: str, executable: E) -> None:
        """Remember an executable as long as it lives."""
        self._alive[identity] = executable

    def restore(self, identity: str, build: Callable[[], E]) -> E:
        """Return the executable of that identity, built if this process does not have it.

        `build` adds what it returns. A forked process has the executables of the process that it
        was forked from.
        """
        executable = self._alive.get(identity)
        if executable is None:
            executable = build()
            self._restored.append(executable)
        return executable
