"""The demo: that what it says holds, and what it needs."""

import json
import sys
from pathlib import Path

import numpy as np
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


def test_the_demo_reads_test_images_of_a_trained_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    monkeypatch.setattr("lgir.cli.demo._BENCH_SAMPLES", 600)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "mnist_x_test.npy", rng.integers(0, 256, (40, 28, 28), dtype=np.uint8))
    np.save(tmp_path / "mnist_y_test.npy", rng.integers(0, 10, 40, dtype=np.uint8))
    arguments = ["demo", "--net", "mnist-s", "--data", str(tmp_path), "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["test_samples"] == 40
    assert data["torch_accuracy"] == data["lgir_accuracy"]
    np.save(tmp_path / "mnist_y_test.npy", np.zeros(39, np.uint8))
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "a label each" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--net", "mnist-s"], "give --data"),
        (["--net", "mnist"], "did you mean"),
        (["--net", "mnist-s", "--train"], "trains the network of digits alone"),
        (["--data", "."], "scikit-learn"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments: list[str], message: str):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    result = CliRunner().invoke(main, ["demo", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
