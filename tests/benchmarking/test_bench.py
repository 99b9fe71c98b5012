"""lgir.benchmarking.throughput: what a report holds, and that wrong outputs never get a figure."""

import json
from typing import ClassVar

import numpy as np
import pytest

import lgir
from lgir.benchmarking.checks import random_samples
from lgir.benchmarking.rendering import si
from lgir.benchmarking.throughput import bench_graph
from lgir.benchmarking.throughput_report import BenchReport
from lgir.errors import BackendError, InputError, UnknownNameError
from lgir.executable import Executable
from lgir.ir.builder import GraphBuilder, dense_body
from lgir.ir.graph import Graph
from lgir.registry import BACKENDS
from lgir.zoo import build_net

QUICK = {"samples": 200, "repeats": 2, "run_seconds": 0.05}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return build_net("dense-2x400")


@pytest.fixture(scope="module")
def report(graph: Graph) -> BenchReport:
    return bench_graph(graph, ["reference"], preparation={"lift": 1.5}, **QUICK)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch):
    """Registers an executable class as backend `test-double` for one test."""

    def register(cls: type[Executable]) -> str:
        BACKENDS.names()
        monkeypatch.setitem(BACKENDS._items, "test-double", cls)
        return "test-double"

    return register


class Honest(Executable):
    backend = "test-double"
    change = 0.0

    def _run(self, samples, n, threads):
        scores = lgir.compile(self.graph, "reference")(*samples).copy()
        scores[-1:, 0] += self.change
        return [scores]


class Wrong(Honest):
    change = 1.0


class WithCache(Honest):
    used: ClassVar[list[bool]] = []

    def __init__(self, graph: Graph, *, cache: bool = True) -> None:
        super().__init__(graph)
        self.used.append(cache)


class WithGateTimes(Honest):
    def time_gates(self, samples: int, repeats: int) -> float:
        return 1e-3


def test_a_report_counts_gates_times_positions():
    graph = build_net("logictreenet-8")
    report = bench_graph(graph, ["reference"], **(QUICK | {"samples": 8}))
    unrolled = sum(op.body.num_gates * op.positions for _, op in graph.of_type(lgir.Logic))
    assert report.gates == unrolled > report.distinct_gates


def test_figures_follow_from_samples_and_seconds(report: BenchReport):
    (row,) = report.rows
    assert row.samples_per_second == pytest.approx(row.samples / row.seconds)
    assert row.gate_evals_per_second == pytest.approx(800 * row.samples_per_second)
    assert row.gate_evals_per_second_in_gates is None
    assert report.speed_up(row) is None


def test_the_dict_is_json_and_states_the_environment(report: BenchReport):
    data = json.loads(json.dumps(report.to_dict()))
    assert data["gates"] == 800
    assert data["preparation_seconds"] == {"lift": 1.5}
    assert data["rows"][0]["outputs_equal"] is True
    assert "cores" in data["environment"]["cpu"]
    assert f"lgir {lgir.__version__}" in data["environment"]["software"]


def test_printing_shows_the_table_and_the_seconds_until_ready(report: BenchReport):
    text = str(report)
    for part in ("dense-2x400: 800 gates per sample", "reference", "equal", "lift 1.50 s"):
        assert part in text


def test_an_executable_may_time_its_gates_alone(graph: Graph, backend):
    (row,) = bench_graph(graph, [backend(WithGateTimes)], **QUICK).rows
    assert row.gate_evals_per_second_in_gates == pytest.approx(800 / 1e-3)


def test_wrong_outputs_raise_instead_of_giving_a_figure(graph: Graph, backend):
    with pytest.raises(BackendError, match=r"test-double differ from reference in 1 of .* sample "):
        bench_graph(graph, [backend(Wrong)], **QUICK)


def test_batches_cover_every_sample(graph: Graph, backend):
    seen = []

    class Counting(Honest):
        def _run(self, samples, n, threads):
            seen.append(n)
            return super()._run(samples, n, threads)

    (row,) = bench_graph(graph, [backend(Counting)], batch=60, **(QUICK | {"run_seconds": 9})).rows
    assert row.samples == 200
    assert seen[-4:] == [60, 60, 60, 20]


def test_given_samples_are_used_as_they_are():
    b = GraphBuilder("one")
    x = b.input("x", "bit", (2,))
    graph = b.build(b.group_sum(b.logic([x], dense_body(2, [[0, 1]], [8])), 1))
    report = bench_graph(graph, ["reference"], samples=[np.ones((3, 2), bool)], repeats=1)
    assert report.rows[0].samples == report.rows[0].checked == 3


def test_a_module_gets_a_row_and_the_others_a_speed_up(graph: Graph):
    torch = pytest.importorskip("torch")

    class Module(torch.nn.Module):
        def forward(self, x):
            assert not self.training
            return torch.from_numpy(lgir.compile(graph, "reference")(x.numpy()))

    before = torch.get_num_threads()
    module = Module()
    report = bench_graph(graph, ["reference"], module=module, **QUICK)
    assert [row.backend for row in report.rows] == ["reference", "pytorch"]
    assert report.speed_up(report.rows[1]) == 1.0
    assert report.speed_up(report.rows[0]) > 0
    assert "speed-up" in str(report)
    assert module.training, "the module's mode is put back"
    assert torch.get_num_threads() == before


def test_random_samples_have_the_types_of_the_inputs():
    b = GraphBuilder("mixed")
    x = b.input("x", "f32", (3,))
    y = b.input("y", "u8", (2,))
    z = b.input("z", "bit", (4,))
    bits = b.logic([b.threshold(x, [10.0, 20.0])], dense_body(6, [[0, 5]], [8]))
    more = b.logic([b.threshold(y, [100.0])], dense_body(2, [[0, 1]], [8]))
    last = b.logic([z], dense_body(4, [[0, 3]], [8]))
    graph = b.build(bits, more, last)
    arrays = random_samples(graph, 500)
    assert [a.dtype.name for a in arrays] == ["float32", "uint8", "bool"]
    assert [a.shape for a in arrays] == [(500, 3), (500, 2), (500, 4)]
    assert (arrays[0] > 20).any()
    assert (arrays[0] < 10).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"threads": 0}, "at least 1"), ({"batch": 0}, "at least 1"), ({"samples": 0}, "one sample")],
)
def test_senseless_options_are_refused(graph: Graph, options, message):
    with pytest.raises(InputError, match=message):
        bench_graph(graph, ["reference"], **options)


def test_a_misspelled_backend_is_told_first(graph: Graph):
    with pytest.raises(UnknownNameError, match="did you mean 'reference'"):
        bench_graph(graph, ["reference", "refrence"], samples=10)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.5, "0.500"), (999, "999"), (2e6, "2.00 M"), (3.1e11, "310 G"), (2.5e15, "2,500 T")],
)
def test_figures_carry_metric_prefixes(number, text):
    assert si(number) == text


def test_the_function_stays_callable_after_its_module_was_imported(graph: Graph):
    for _ in range(2):
        assert lgir.bench(graph, ["reference"], **QUICK).rows


def test_compile_times_are_cold_unless_asked_otherwise(graph: Graph, backend):
    name = backend(WithCache)
    bench_graph(graph, [name], **QUICK)
    bench_graph(graph, [name], options={name: {"cache": True}}, **QUICK)
    assert WithCache.used == [False, True]
