"""The verbs of the Python API: a misspelled option is an error that suggests the right one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lgir
from lgir.errors import LgirError, LiftError, UnknownNameError
from lgir.zoo import build_net

GRAPH = build_net("dense-2x400")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: lgir.optimize(GRAPH, dump_afer="cse"),
            "optimize .*'dump_afer'.*'dump_after'",
        ),
        (lambda: lgir.verify(GRAPH, GRAPH, sampels=3), "lgir.verify .*'sampels'.*'samples'"),
        (lambda: lgir.bench(GRAPH, repeat=3), "lgir.bench .*'repeat'.*'repeats'"),
        (lambda: lgir.compile(GRAPH, treads=2), "backend 'llvm' .*'treads'.*'threads'"),
        (lambda: lgir.compile(GRAPH, "reference", x=2), "backend 'reference' .*'x'"),
        (lambda: lgir.export(GRAPH, "n.c", prefx="n"), "format 'c' .*'prefx'.*'prefix'"),
        (lambda: lgir.export(GRAPH, "n.blif", guard=True), "format 'blif' .*'guard'.*'guarded'"),
    ],
)
def test_a_misspelled_option_is_named_with_the_one_that_was_meant(
    call: Callable[[], Any], message: str
) -> None:
    with pytest.raises(UnknownNameError, match=message) as caught:
        call()
    for inner in ("run()", "Pipeline", "bench_graph", "compile_llvm", "unexpected keyword"):
        assert inner not in str(caught.value)


def test_a_misspelled_option_of_lifting_is_named_with_the_one_that_was_meant() -> None:
    from lgir.frontend.digits import demo_checkpoint

    with pytest.raises(LiftError, match=r"'nam'.*'name'"):
        lgir.lift(demo_checkpoint(), nam="digits")


def test_no_file_is_written_if_an_option_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(LgirError):
        lgir.export(GRAPH, tmp_path / "net.c", prefx="net")
    assert list(tmp_path.iterdir()) == []
