"""The roofline: bounds follow from counted traffic and measured roofs; every step is counted."""

import json

import numpy as np
import pytest

import lgir
from lgir.backends.llvm.costs import step_costs
from lgir.backends.llvm.options import LOWERING_OPTIONS
from lgir.backends.llvm.target import resolve_target
from lgir.backends.lowering.plan import make_plan
from lgir.backends.lowering.steps import Plan, SumStep
from lgir.benchmarking.checks import random_samples
from lgir.benchmarking.roofline_report import kind_figures, measure_roofline
from lgir.errors import BackendError
from lgir.ir.builder import GraphBuilder, dense_body
from lgir.roofline import Level, Machine, StepCost, Traffic, cache_sizes
from lgir.zoo import build_net

MACHINE = Machine(
    (Level("L1", 4096, 64e9, 32e9, 32e9), Level("memory", None, 16e9, 16e9, 8e9)), logic=2e9
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe of a few microseconds on small arrays."""
    monkeypatch.setattr("lgir.backends.llvm.probe._SECONDS", 1e-5)
    monkeypatch.setattr("lgir.backends.llvm.probe._LARGEST", 1 << 20)
    monkeypatch.setattr("lgir.backends.llvm.probe.cache_sizes", lambda: {"L1": 32768})
    monkeypatch.setattr("lgir.benchmarking.roofline_report._SAMPLES", 1024)


def test_lines_take_the_longest_of_loading_storing_and_copying():
    near, far = MACHINE.levels
    assert near.seconds(4, 1) == pytest.approx(4e-9)
    assert near.seconds(1, 4) == pytest.approx(8e-9)
    assert far.seconds(1, 1) == pytest.approx(8e-9)


def test_the_footprint_chooses_the_level():
    assert [MACHINE.level_of(n).name for n in (0, 4096, 4097)] == ["L1", "L1", "memory"]


@pytest.mark.parametrize(
    ("cost", "bound", "by"),
    [
        (StepCost("gate", 1, 20, (Traffic(2, 1),)), 10e-9, "logic"),
        (StepCost("gate", 1, 1, (Traffic(2, 1), Traffic(2, 1, 99_999))), 8e-9, "memory"),
        (StepCost("gate", 1, 1, (Traffic(9, 1), Traffic(1, 0, 99_999))), 9e-9, "L1"),
    ],
)
def test_the_slowest_resource_bounds_a_step(cost, bound, by):
    seconds, name = cost.bound(MACHINE)
    assert (seconds, name) == (pytest.approx(bound), by)


def test_a_kind_adds_its_steps_and_names_what_bounds_most():
    costs = [StepCost("gate", 3, 4, (Traffic(6, 3),)), StepCost("gate", 1, 60, (Traffic(2, 1),))]
    figures = kind_figures(costs, 72e-9, MACHINE)
    assert (figures.rows, figures.loads, figures.stores, figures.logic) == (4, 8, 4, 64)
    assert figures.bound == pytest.approx(6e-9 + 30e-9)
    assert figures.bound_by == "logic"
    assert figures.share == pytest.approx(0.5)


def test_single_gates_load_their_operands_and_store_once():
    b = GraphBuilder("gates")
    x = b.input("x", "bit", (70,))
    graph = b.build(b.logic([x], dense_body(70, [[0, 1, 2], [3, 4, 5]], [0x1B, 0x1B])))
    pack, gate, export = step_costs(
        make_plan(graph, LOWERING_OPTIONS), [np.zeros((512, 70), bool)], ternary=True
    )
    assert (gate.kind, gate.rows, gate.logic) == ("gate", 2, 2)
    assert gate.traffic == (Traffic(6, 2), Traffic(6, 2, 8 * 64))
    assert (pack.kind, pack.rows) == ("pack", 70)
    assert pack.traffic[1] == Traffic(2 * 512, 0, 512 * 70)
    assert export.traffic[1] == Traffic(2, 0, 2 * 64)


def test_cones_count_a_cell_once_a_channel_and_every_access_near():
    graph = build_net("logictreenet-8")
    plan = make_plan(graph, LOWERING_OPTIONS)
    costs = step_costs(plan, random_samples(graph, 512), ternary=True)
    cones = [c for c in costs if c.kind == "cone" and c.traffic[0].loads > c.traffic[1].loads]
    assert cones, "pooled trees read cells again"
    for cost in costs:
        assert cost.rows > 0
        assert all(t.loads >= 0 and t.stores >= 0 for t in cost.traffic)


def test_a_sum_of_what_was_counted_before_has_rows():
    start = np.arange(20).reshape(2, 10)
    step = SumStep(0, np.zeros((2, 0), np.int64), tau=1.0, beta=0.0, initial=start)
    plan = Plan(build_net("dense-2x400"), (step,), 20, 0)
    (cost,) = step_costs(plan, [np.zeros((512, 784), bool)], ternary=True)
    assert cost.rows == 20


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("net", ["dense-2x400", "logictreenet-8"])
def test_a_network_gets_a_table_of_its_steps(net):
    graph, _ = lgir.optimize(build_net(net))
    report = measure_roofline(graph)
    data = json.loads(json.dumps(report.to_dict()))
    assert {row["kind"] for row in data["steps"]} >= {"pack", "sum"}
    assert all(row["seconds_per_512"] > 0 and row["bound_seconds"] > 0 for row in data["steps"])
    assert data["outputs_equal"] is True
    assert data["bytes_per_gate"] > 0
    assert data["logic_per_gate"] > 0
    assert data["bound_seconds"] == pytest.approx(sum(r["bound_seconds"] for r in data["steps"]))
    assert [level["name"] for level in data["machine"]["levels"]] == ["L1", "memory"]
    assert all(level[x] > 0 for level in data["machine"]["levels"] for x in ("read", "copy"))
    for part in ("of bound", "together", "per gate", "measured bandwidth", "bytes/s of samples"):
        assert part in str(report)


@pytest.mark.usefixtures("quick")
def test_the_probe_runs_without_avx512():
    try:
        resolve_target("avx2")
    except BackendError as error:
        pytest.skip(str(error))
    report = measure_roofline(build_net("dense-2x400"), options={"target": "avx2"})
    assert report.machine.logic > 0


def test_a_backend_without_costs_is_told():
    with pytest.raises(
        BackendError, match="'reference' does not state costs of steps; use -b llvm"
    ):
        measure_roofline(build_net("dense-2x400"), "reference")


def test_cache_sizes_grow_with_the_level():
    sizes = list(cache_sizes().values())
    assert sizes == sorted(sizes)
    assert sizes[0] >= 8 << 10
