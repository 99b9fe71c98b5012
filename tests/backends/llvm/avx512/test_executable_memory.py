"""Executable memory of this process."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from lgir.backends.llvm.avx512.executable_memory import ExecutableMemory
from lgir.errors import BackendError


def test_a_system_that_forbids_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __init__(self, *args: object, **kwargs: object) -> None:
            self.mprotect = lambda *args: -1

    monkeypatch.setattr(ctypes, "CDLL", Refusing)
    with pytest.raises(BackendError, match="does not let this process execute"):
        ExecutableMemory(np.zeros(1, np.uint8))
