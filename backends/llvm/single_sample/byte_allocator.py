"""Allocate byte ranges of the workspace that holds one sample's bits.

A range is either allocated for the whole program or borrowed for scratch values. Borrowed ranges
serve again after `release`, so that the scratch of successive layers shares cache lines.
"""

from __future__ import annotations

from typing import Final

LINE: Final = 64
"""Bytes of a cache line. Every range begins at a multiple of it."""
SLACK: Final = 4 * LINE
"""Bytes behind every range that hold no value: a kernel may read or overwrite some of them."""


class ByteAllocator:
    """Allocates ranges of bytes behind the first `size` bytes of a workspace.

    Attributes:
        size: the bytes of the workspace that are in use so far.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: list[tuple[int, int]] = []  # (start, size), the smallest first
        self._borrowed: list[tuple[int, int]] = []

    def allocate(self, size: int) -> int:
        """Return the start of a new range of `size` bytes that is never used again."""
        start = self.size
        self.size += -(-(size + SLACK) // LINE) * LINE
        return start

    def borrow(self, size: int) -> int:
        """Return the start of a range of `size` bytes with arbitrary content, until `release`."""
        for i, (start, available) in enumerate(self._free):
            if available >= size:
                del self._free[i]
                self._borrowed.append((start, available))
                return start
        start = self.allocate(size)
        self._borrowed.append((start, size))
        return start

    def release(self) -> None:
        """Make all borrowed ranges available again."""
        self._free = sorted([*self._free, *self._borrowed], key=lambda free: free[1])
        self._borrowed = []
