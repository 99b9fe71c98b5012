"""`import lgir` stays cheap, and its public names exist."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import lgir
from lgir.errors import GraphError, ParseError
from lgir.zoo import build_net

HEAVY = ("torch", "onnx", "google.protobuf", "llvmlite", "networkx", "rich", "click", "numba")


def test_importing_lgir_loads_nothing_heavy() -> None:
    code = f"import sys, lgir; print([m for m in {HEAVY!r} if m in sys.modules])"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    assert all(hasattr(lgir, name) for name in lgir.__all__)
    assert lgir.__all__ == sorted(lgir.__all__)


@pytest.mark.parametrize(
    "verb",
    [
        lgir.optimize,
        lgir.compile,
        lgir.bench,
        lambda graph: lgir.export(graph, "net.c"),
        lambda graph: lgir.verify(build_net("dense-2x400"), graph),
    ],
)
def test_a_path_in_place_of_a_graph_says_how_to_read_it(verb: Callable[[Any], Any]) -> None:
    with pytest.raises(GraphError, match=r"'net\.onnx' is no graph; lgir\.load reads one"):
        verb("net.onnx")


def test_passes_in_a_list_are_told_to_be_a_string() -> None:
    with pytest.raises(ParseError, match=r"one string, .* not \['fold', 'dce'\]"):
        lgir.optimize(build_net("dense-2x400"), passes=["fold", "dce"])  # type: ignore[arg-type]
