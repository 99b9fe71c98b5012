"""Sweeps over batch sizes, pictures and histories of benches."""

import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

import lgir
from lgir.benchmarking.batch_memory import explain_batch
from lgir.benchmarking.history import append_history, check_history, read_history
from lgir.benchmarking.plots import _roofline, check_plot, color, save_plot
from lgir.benchmarking.rendering import duration
from lgir.benchmarking.roofline_report import RooflineReport, kind_figures
from lgir.benchmarking.scaling import sweep_batches
from lgir.benchmarking.scaling_report import SweepReport
from lgir.benchmarking.throughput import bench_graph
from lgir.errors import BackendError, FormatError, InputError, UnknownNameError
from lgir.executable import Executable
from lgir.ir.graph import Graph
from lgir.registry import BACKENDS
from lgir.roofline import Level, Machine, StepCost, Traffic
from lgir.zoo import build_net

QUICK = {"batches": [64, 1, 8, 8], "repeats": 2, "run_seconds": 0.001}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return build_net("dense-2x400")


@pytest.fixture(scope="module")
def sweep(graph: Graph) -> SweepReport:
    return sweep_batches(graph, ["reference", "llvm"], **QUICK)


class WrongInLargeBatches(Executable):
    backend = "test-double"

    def _run(self, samples, n, threads):
        scores = lgir.compile(self.graph, "reference")(*samples).copy()
        scores[:, 0] += n >= 64
        return [scores]


def test_a_sweep_has_each_backend_at_each_size_once(sweep: SweepReport):
    points = [(p.backend, p.batch) for p in sweep.points]
    assert points == [(b, n) for b in ("reference", "llvm") for n in (1, 8, 64)]
    for point in sweep.points:
        assert point.calls >= 2
        assert point.samples_per_second == pytest.approx(point.batch / point.seconds)


def test_a_sweep_prints_a_row_per_size_and_is_json(sweep: SweepReport):
    data = json.loads(json.dumps(sweep.to_dict()))
    assert [row["batch"] for row in data["sweep"]] == [1, 8, 64] * 2
    assert all(row["outputs_equal"] for row in data["sweep"])
    text = str(sweep)
    for part in (
        "dense-2x400: 800 gates per sample",
        "llvm",
        "samples/s",
        "equal to the reference",
    ):
        assert part in text


def test_wrong_outputs_of_one_size_are_not_timed(graph: Graph, monkeypatch: pytest.MonkeyPatch):
    BACKENDS.names()
    monkeypatch.setitem(BACKENDS._items, "test-double", WrongInLargeBatches)
    with pytest.raises(BackendError, match="test-double differ from reference in 64 of 64"):
        sweep_batches(graph, ["test-double"], **QUICK)


def test_a_slow_backend_is_not_taken_to_large_sizes(graph: Graph, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lgir.benchmarking.scaling.LONGEST_CALL", 0.0)
    report = sweep_batches(graph, ["reference"], **QUICK)
    assert [p.batch for p in report.points] == [1]


def test_the_table_says_which_sizes_are_left_out(sweep: SweepReport):
    assert "left out" not in str(sweep)
    assert "calls that would take more" in str(replace(sweep, points=sweep.points[:-1]))


def test_a_module_is_swept_in_eval_mode(graph: Graph):
    torch = pytest.importorskip("torch")

    class Module(torch.nn.Module):
        def forward(self, x):
            assert not self.training
            return torch.from_numpy(lgir.compile(graph, "reference")(x.numpy()))

    report = sweep_batches(graph, [], module=Module(), **QUICK)
    assert [p.backend for p in report.points] == ["pytorch"] * 3


@pytest.mark.parametrize("options", [{"batches": []}, {"batches": [0, 4]}, {"threads": 0}])
def test_senseless_sweeps_are_refused(graph: Graph, options):
    with pytest.raises(InputError, match="at least 1"):
        sweep_batches(graph, ["reference"], **options)


def test_a_misspelled_backend_of_a_sweep_is_told_first(graph: Graph):
    with pytest.raises(UnknownNameError, match="did you mean 'reference'"):
        sweep_batches(graph, ["refrence"], **QUICK)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.0, "2.00 s"), (0.0123, "12.3 ms"), (1.5e-7, "0.150 us"), (1234.0, "1,234 s")],
)
def test_durations_carry_units(seconds, text):
    assert duration(seconds) == text


def test_every_kind_of_report_becomes_a_picture(tmp_path, graph: Graph, sweep: SweepReport):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    machine = Machine((Level("memory", None, 1e9, 1e9, 1e9),), 1e9)
    kind = kind_figures([StepCost("gate", 1, 1, (Traffic(2, 1),))], 1e-6, machine)
    roofline = RooflineReport(
        name="net",
        backend="llvm",
        gates=1,
        machine=machine,
        kinds=(kind,),
        seconds=1e-6,
        sample_bytes=1,
        samples_in=machine.levels[0],
        checked=1,
        environment={"cpu": "one"},
    )
    bench = bench_graph(graph, ["reference"], samples=64, repeats=1, run_seconds=0.01)
    for report in (bench, sweep, roofline):
        save_plot(report, tmp_path / "bench.png")
        image = imread(tmp_path / "bench.png")[..., :3]
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10, "it is not blank"
    assert [p.name for p in tmp_path.iterdir()] == ["bench.png"]


def test_the_roofline_plot_has_a_roof_per_level_and_a_point_per_kind_below_them(tmp_path):
    figures = pytest.importorskip("matplotlib.figure")
    levels = Level("L1", 4096, 64e9, 32e9, 32e9), Level("memory", None, 16e9, 16e9, 8e9)
    machine = Machine(levels, 2e9)
    costs = {
        "gate": StepCost("gate", 10, 10, (Traffic(20, 10),)),
        "sum": StepCost("sum", 10, 100, (Traffic(10, 1),)),
        "move": StepCost("move", 10, 0, (Traffic(10, 10),)),
    }
    kinds = tuple(kind_figures([cost], 1e-6, machine) for cost in costs.values())
    report = RooflineReport(
        name="net",
        backend="llvm",
        gates=1,
        machine=machine,
        kinds=kinds,
        seconds=3e-6,
        sample_bytes=1,
        samples_in=levels[0],
        checked=1,
        environment={"cpu": "one"},
    )
    figure = figures.Figure()
    _roofline(figure, report)
    (axes,) = figure.axes
    lines = {line.get_label().partition(":")[0]: line for line in axes.get_lines()}
    assert {"gate", "sum"} <= lines.keys()
    assert "move" not in lines, "it evaluates nothing"
    for name in ("gate", "sum"):
        (intensity,), (rate,) = lines[name].get_data()
        assert rate <= min(machine.logic, intensity * levels[0].peak)
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["L1, 96.0 GB/s", "memory, 24.0 GB/s", "logic, 2.00 G instructions/s"]


def test_a_backend_has_one_color_in_every_plot():
    assert color("llvm") == color("llvm") != color("pytorch")
    assert re.fullmatch("#[0-9a-f]{6}", color("a-plug-in"))
    assert color("a-plug-in") == color("a-plug-in")


def test_a_history_is_read_as_series_by_date(tmp_path, graph: Graph, sweep: SweepReport):
    path = tmp_path / "bench.jsonl"
    report = bench_graph(graph, ["reference"], samples=64, repeats=1, run_seconds=0.01)
    for kept in (report, sweep, report):
        append_history(path, kept.to_dict())
    history = read_history(path)
    (series,) = history.series
    assert (series.name, series.backend, series.threads) == (graph.name, "reference", 1)
    assert [p.samples_per_second for p in series.points] == [report.rows[0].samples_per_second] * 2
    assert history.title == "bench.jsonl: 2 figures, 1 sweeps and rooflines left out"
    assert "1.00x" in str(history)
    assert json.loads(json.dumps(history.to_dict()))["series"][0]["points"][1]["date"]
    path.write_text(path.read_text() + "{]\n")
    with pytest.raises(FormatError, match="line 4: not the figures of a bench"):
        read_history(path)
    with pytest.raises(FormatError, match="cannot read"):
        read_history(tmp_path / "missing.jsonl")


def test_reports_say_where_the_samples_of_a_call_lie(graph: Graph, monkeypatch):
    monkeypatch.setattr(
        "lgir.benchmarking.batch_memory.cache_sizes", lambda: {"L1": 1 << 15, "L2": 1 << 20}
    )
    report = bench_graph(graph, ["reference"], samples=64, repeats=1, run_seconds=0.01)
    assert report.sample_bytes == 784
    assert "reference: 64 samples of 784 B, 50.2 kB from L2" in str(report)
    text = explain_batch(784, 10_000)
    assert text.endswith("7.84 MB from memory; with --batch 1024 they stay in L2")
    swept = sweep_batches(graph, ["reference"], batches=[64], repeats=1, run_seconds=0.001)
    assert "50.2 kB, L2" in str(swept)
    assert "large ones are read from farther caches" in str(swept)


def test_onnxruntime_is_a_baseline_that_is_checked(graph: Graph):
    pytest.importorskip("onnxruntime")
    report = bench_graph(
        graph, ["reference"], baselines=["onnxruntime"], samples=64, repeats=1, run_seconds=0.01
    )
    row = report.rows[1]
    assert (row.backend, row.checked) == ("onnxruntime", 64)
    assert row.compile_seconds > 0
    with pytest.raises(UnknownNameError, match="unknown baseline 'onnx'"):
        bench_graph(graph, ["reference"], module=object(), baselines=["onnx"], samples=64)


def test_a_picture_of_another_kind_is_refused_in_time():
    pytest.importorskip("matplotlib")
    with pytest.raises(FormatError, match=r"bench.txt: its name must end in .png, .svg, .pdf"):
        check_plot("bench.txt")


def test_plots_say_what_they_need(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BackendError, match=r"plots need matplotlib: pip install 'lgir\[plot\]'"):
        check_plot("bench.png")


def test_a_history_grows_by_a_line_a_run(tmp_path, sweep: SweepReport):
    path = tmp_path / "bench.jsonl"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: append_history(path, sweep.to_dict() | {"run": i}), range(40)))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(line["run"] for line in lines) == list(range(40))
    assert datetime.fromisoformat(lines[0]["date"]).utcoffset() is not None
    assert "cpu" in lines[0]["environment"]


def test_a_torn_last_line_of_a_history_is_never_glued_to(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    torn = b'{"run": 1}\n{"run": 2, "kilo'
    path.write_bytes(torn)
    for use in (check_history, lambda path: append_history(path, {"run": 3})):
        with pytest.raises(FormatError, match="its last line is torn"):
            use(path)
    assert path.read_bytes() == torn
    path.write_bytes(b'{"run": 1}\n{"run": 2}')  # whole, as an editor may leave it
    check_history(path)
    append_history(path, {"run": 3})
    assert [json.loads(line)["run"] for line in path.read_bytes().splitlines()] == [1, 2, 3]


def test_a_history_is_a_regular_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, "a\0b", "/dev/null"):
        for use in (check_history, lambda path: append_history(path, {})):
            with pytest.raises(FormatError, match="cannot write"):
                use(path)


def test_a_history_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(FormatError, match=r"cannot write .*none.bench.jsonl: No such file"):
        append_history(tmp_path / "none" / "bench.jsonl", {})
