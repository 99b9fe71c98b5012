"""`lgir bench` beyond its table: sweep, roofline, history, and options that do not go together."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import lgir
from lgir.cli import main
from lgir.zoo import build_net, other_widths

NET = ("bench", "--net", "dense-2x400", "--no-torch")


def ok(*args) -> str:
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lgir.backends.llvm.probe._SECONDS", 1e-5)
    monkeypatch.setattr("lgir.backends.llvm.probe._LARGEST", 1 << 20)
    monkeypatch.setattr("lgir.benchmarking.roofline_report._SAMPLES", 1024)


def test_a_sweep_is_a_table_or_json():
    command = (*NET, "-b", "reference", "--sweep", "--repeats", 1)
    assert "samples/s" in ok(*command)
    assert {row["batch"] for row in json.loads(ok(*command, "--json"))["sweep"]} >= {1, 512}


def test_threads_and_widths_are_swept_on_request():
    command = (*NET, "-b", "reference", "--repeats", 1, "--batch", 64, "--json", "--sweep")
    data = json.loads(ok(*command, "threads"))
    assert (data["axis"], data["sweep"][0]["threads"]) == ("threads", 1)
    assert {row["batch"] for row in data["sweep"]} == {64}
    rows = json.loads(ok(*command, "width"))["sweep"]
    assert [row["width"] for row in rows] == [400, 800, 1600]  # 200 would leave inputs unread
    assert all(row["gates"] > row["width"] for row in rows)


def test_a_cache_is_used_where_one_is_named(tmp_path: Path):
    command = (*NET, "-b", "llvm", "--samples", 64, "--repeats", 1)
    ok(*command, "--no-cache")
    assert not list(tmp_path.iterdir())
    ok(*command, "--cache-dir", tmp_path)
    assert list(tmp_path.rglob("*"))


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
    shown = ok("bench", "--history", history, "--show", "--plot", tmp_path / "history.svg")
    assert "of the" in shown
    assert "reference" in shown
    assert (tmp_path / "history.svg").exists()
    (series,) = json.loads(ok("bench", "--history", history, "--show", "--json"))["series"]
    assert len(series["points"]) == 2


def test_widths_that_are_left_out_are_named():
    text = ok(*NET, "-b", "reference", "--repeats", 1, "--batch", 64, "--sweep", "width")
    assert "widths 50, 100, 200 left out: there is no such network" in text


def test_onnxruntime_is_a_row_if_it_is_asked_for():
    pytest.importorskip("onnxruntime")
    data = json.loads(
        ok(*NET, "-b", "reference", "--samples", 64, "--repeats", 1, "--json",
           "--baseline", "onnxruntime")
    )  # fmt: skip
    assert [row["backend"] for row in data["rows"]] == ["reference", "onnxruntime"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--show",), "--show takes --history FILE.jsonl, and no model"),
        (("--sweep", "--roofline"), "give --sweep or --roofline, not both"),
        (("--sweep", "--batch", "4"), "--sweep takes no --batch"),
        (("--sweep", "threads", "--threads", "2"), "--sweep threads takes no --threads"),
        (("--sweep", "width", "--samples", "2"), "--sweep width takes no --samples"),
        (("--no-cache", "--cache-dir", "folder"), "give --cache-dir or --no-cache, not both"),
        (("-b", "reference", "--no-cache"), "'reference' has no option --no-cache"),
        (("--roofline", "--threads", "2"), "--roofline takes no --threads"),
        (("--sweep", "--baseline", "pytorch"), "--sweep takes no --baseline"),
        (("--roofline", "-b", "llvm", "-b", "reference"), "give one -b"),
        (("--roofline", "-b", "reference"), "does not state costs of steps; use -b llvm"),
    ],
)
def test_options_that_would_change_nothing_are_refused(options, message):
    result = CliRunner().invoke(main, [*NET, *options])
    assert result.exit_code == 2
    assert message in result.stderr


def test_widths_are_of_networks_known_by_name(tmp_path: Path):
    path = tmp_path / "net.onnx"
    lgir.save(build_net("dense-2x400"), path)
    result = CliRunner().invoke(main, ["bench", str(path), "--no-torch", "--sweep", "width"])
    assert (result.exit_code, "give --net NAME" in result.stderr) == (2, True)


def test_widths_are_those_that_can_be_built():
    assert other_widths("dense-6x8000-op16")[1000] == "dense-6x1000-op16"
    assert list(other_widths("dense-6x8000")) == [1000, 2000, 4000, 8000, 16000, 32000]
    assert list(other_widths("logictreenet-32-t31")) == [8, 16, 32, 64, 128]
    for name in other_widths("dense-2x400").values():
        assert build_net(name).name == name
