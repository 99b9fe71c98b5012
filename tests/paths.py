"""Folders that tests read: source tree, golden files, and the shared data beside the tree."""

from __future__ import annotations

from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
ROOT: Final = TESTS.parent
GOLDEN: Final = TESTS / "golden"
SHARED: Final = ROOT.parent / "shared"
"""Data sets and real checkpoints. It may be absent; tests that need it skip then."""
