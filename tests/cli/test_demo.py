"""The demo: that what it says holds, and what it needs."""

import json
import sys

import pytest
from click.testing import CliRunner

from lgir.cli import main


def test_the_demo_compares_every_score_and_measures(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    monkeypatch.setattr("lgir.cli.demo._BENCH_SAMPLES", 2000)
    result = CliRunner().invoke(main, ["demo", "--json"])
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["torch_accuracy"] == data["lgir_accuracy"] >= 0.95
    assert data["test_samples"] == 360
    assert data["optimize"]["after"]["gates"] < data["optimize"]["before"]["gates"]
    rows = {row["backend"]: row for row in data["bench"]["rows"]}
    assert rows["llvm"]["speed_up"] > 1
    assert rows["pytorch"]["speed_up"] == 1
    for word in ("lift", "optimize", "compile", "check", "test accuracy"):
        assert word in result.stderr


def test_without_torch_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: lgir demo needs torch")
    assert result.stderr.endswith("pip install 'lgir[demo]'\n")
    assert result.stderr.count("\n") == 1
