"""Put machine code in pages of this process, which are written first and executed then."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from typing import Final

from lgir.backends.llvm.avx512.evex_encoder import CodeBytes
from lgir.errors import BackendError

_HUGE_PAGE: Final = 2 << 20


class ExecutableMemory:
    """Holds `code` (at least one byte) on POSIX systems as long as this object lives.

    Attributes:
        address: the address of the first byte.

    Raises BackendError if the system forbids executing memory that the process wrote.
    """

    def __init__(self, code: CodeBytes) -> None:
        size = -(-len(code) // _HUGE_PAGE) * _HUGE_PAGE
        self._pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if len(code) > _HUGE_PAGE // 2:
            # Code is read through, so address translation of small pages costs a tenth of the time.
            with contextlib.suppress(AttributeError, OSError):  # The system has no huge pages.
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
