"""Which targets this CPU can run."""

from __future__ import annotations

import pytest

from lgir.backends.llvm.target import resolve_target
from lgir.errors import BackendError


def runnable(target: str) -> bool:
    try:
        resolve_target(target)
    except BackendError:
        return False
    return True


def skip_unless_runnable(target: str) -> None:
    if not runnable(target):
        pytest.skip(f"this CPU cannot run {target}")
