"""Kernels in which order matters, compiled by numba at their first call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function at its first call, and keep the code on disk if there is a place for it.

    Numba does not notice that a function of another module has changed, so a kernel calls only
    kernels of its own module. Kernels copy slices in loops: numba's own slice assignment, with its
    checks, takes seconds to compile.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        kernel = njit(cache=True, **options)(function)
    except RuntimeError:  # There is no folder to keep the code in.
        kernel = njit(**options)(function)
    result: Callable[..., Any] = kernel
    return result
