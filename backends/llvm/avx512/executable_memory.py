"""Machine code in this process: pages that are written first and then executed, never both."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from typing import Final

from lgir.backends.llvm.avx512.evex import Bytes
from lgir.errors import BackendError

_HUGE_PAGE: Final = 2 << 20


class ExecutableMemory:
    """`code`, one byte or more, at `address` as long as this object lives, on POSIX systems. Raises
    BackendError where the system forbids that.
    """

    def __init__(self, code: Bytes) -> None:
        size = -(-len(code) // _HUGE_PAGE) * _HUGE_PAGE
        self._pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if len(code) > _HUGE_PAGE // 2:
            # Looking up small pages takes a tenth of the time as code is read through.
            with contextlib.suppress(AttributeError, OSError):  # where there are no others
                self._pages.madvise(mmap.MADV_HUGEPAGE)
        self._pages[: len(code)] = code.tobytes()
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        if protect(self.address, size, mmap.PROT_READ | mmap.PROT_EXEC):
            raise BackendError(
                f"the system does not let this process execute code that it wrote (error "
                f"{ctypes.get_errno()} of mprotect)"
            )
