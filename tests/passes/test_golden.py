"""Golden IR of each pass: golden/<case>.before.lgir becomes golden/<case>.after.lgir.

The first line of a case names the passes to run, `; run: fold`. `pytest --update-golden` rewrites
what comes after; read the difference before committing it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import lgir
from lgir.registry import PASSES

FOLDER = Path(__file__).parent / "golden"
CASES = sorted(path.name.removesuffix(".before.lgir") for path in FOLDER.glob("*.before.lgir"))


def pipeline_of(case: str) -> str:
    first_line = (FOLDER / f"{case}.before.lgir").read_text().partition("\n")[0]
    return first_line.removeprefix("; run: ")


@pytest.mark.parametrize("case", CASES)
def test_a_pass_turns_the_graph_before_into_the_graph_after(case, request):
    if "sweep" in pipeline_of(case):
        pytest.importorskip("pysat")
    before = lgir.parse((FOLDER / f"{case}.before.lgir").read_text())
    after, _ = lgir.optimize(before, pipeline_of(case), verify="exhaustive")
    golden = FOLDER / f"{case}.after.lgir"
    if request.config.getoption("--update-golden"):
        golden.write_text(lgir.dumps(after))
    assert lgir.dumps(after) == golden.read_text()


def test_every_pass_of_the_project_has_a_case():
    covered = {pipeline_of(case).partition(",")[0].partition("{")[0] for case in CASES}
    builtin = {name for name, run in PASSES.items() if run.__module__.startswith("lgir.passes.")}
    assert builtin - {"fraig"} == covered
