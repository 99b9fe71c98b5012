"""`import lgir` stays cheap, and its public names exist."""

from __future__ import annotations

import subprocess
import sys

import lgir

HEAVY = ("torch", "onnx", "google.protobuf", "llvmlite", "networkx", "rich", "click", "numba")


def test_importing_lgir_loads_nothing_heavy() -> None:
    code = f"import sys, lgir; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    assert all(hasattr(lgir, name) for name in lgir.__all__)
    assert lgir.__all__ == sorted(lgir.__all__)
