"""`lgir bench` beyond its table: sweep, roofline, history, and options that do not go together."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lgir.cli import main

NET = ("bench", "--net", "dense-2x400", "--no-torch")


def ok(*args) -> str:
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lgir.backends.llvm.probe._SECONDS", 1e-5)
    monkeypatch.setattr("lgir.backends.llvm.probe._LARGEST", 1 << 20)
    monkeypatch.setattr("lgir.bench_roofline._SAMPLES", 1024)


def test_a_sweep_is_a_table_or_json():
    command = (*NET, "-b", "reference", "--sweep", "--repeats", 1)
    assert "samples/s" in ok(*command)
    assert {row["batch"] for row in json.loads(ok(*command, "--json"))["sweep"]} >= {1, 512}


def test_a_roofline_is_of_llvm_unless_told():
    data = json.loads(ok(*NET, "--roofline", "--json"))
    assert data["backend"] == "llvm"
    assert {row["kind"] for row in data["steps"]} >= {"pack", "sum"}


def test_a_history_and_a_picture_are_kept_beside_the_table(tmp_path: Path):
    pytest.importorskip("matplotlib")
    picture, history = tmp_path / "bench.svg", tmp_path / "bench.jsonl"
    for _ in range(2):
        text = ok(*NET, "-b", "reference", "--samples", 64, "--repeats", 1,
                  "--plot", picture, "--history", history)  # fmt: skip
        assert "gate-evals/s" in text
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    assert [line["rows"][0]["backend"] for line in lines] == ["reference"] * 2
    assert picture.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sweep", "--roofline"), "give --sweep or --roofline, not both"),
        (("--sweep", "--batch", "4"), "--sweep takes no --batch"),
        (("--roofline", "--threads", "2"), "--roofline takes no --threads"),
        (("--roofline", "-b", "llvm", "-b", "reference"), "give one -b"),
        (("--roofline", "-b", "reference"), "states no costs of steps; use -b llvm"),
    ],
)
def test_options_that_would_change_nothing_are_refused(options, message):
    result = CliRunner().invoke(main, [*NET, *options])
    assert result.exit_code == 2
    assert message in result.stderr
