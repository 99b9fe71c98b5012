"""The roofline of the CUDA backend: its counts per step, and what bounds known networks."""

from __future__ import annotations

import numpy as np
import pytest

import lgir
from lgir.backends.cuda.cost_model import (
    DATASHEETS,
    LAUNCH_SECONDS,
    GpuRates,
    StepDemand,
    predict_plain_rate,
    predict_rate,
    step_demand,
    tree_lop3,
)
from lgir.backends.cuda.program import build_program
from lgir.backends.lowering.cones import ConeExpr
from lgir.backends.lowering.steps import (
    ChainStep,
    ConeStep,
    ExportStep,
    GateStep,
    PackStep,
    Step,
    SumStep,
)
from lgir.errors import BackendError
from lgir.zoo import build_net, dense_net

H100 = DATASHEETS[0]


def planes(*shape: int) -> np.ndarray:
    return np.arange(3, 3 + int(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize(
    ("step", "packed", "demand"),
    [
        # 5 gates: two loads and a store of 4 bytes, and 3 plane numbers of 2 bytes per 32 words
        (GateStep(2, 0b1000, planes(5, 3)), True, StepDemand(5 * 3 * (4 + 2 / 32), 0, 15, 5)),
        # 2 gates of four inputs: 3 * 16 instructions select among the bits of their tables
        (
            GateStep(4, None, planes(2, 5), np.zeros(2, np.uint64)),
            True,
            StepDemand(2 * 5 * (4 + 2 / 32), 0, 10, 2 * 48),
        ),
        # 3 levels of 7 floats: 32 samples of 4 bytes, or packed planes of 4 bytes per word
        (
            PackStep(0, "f32", np.zeros((3, 7), np.float32), planes(3, 7)),
            False,
            StepDemand(32 * 7 * 4 + 4 * 21, 32 * 7 * 4, 21, 64 * 21),
        ),
        (
            PackStep(0, "f32", np.zeros((3, 7), np.float32), planes(3, 7)),
            True,
            StepDemand(4 * 21 + 4 * 21, 4 * 21, 21, 0),
        ),
        # 2 groups of 9 bits: the planes, 32 scores of 4 bytes per group, 3 instructions per bit
        (SumStep(0, planes(2, 9), 1.0, 0.0), True, StepDemand(4 * 18, 128 * 2, 18, 3 * 18)),
        (ExportStep(0, planes(6)), True, StepDemand(36 * 6, 32 * 6, 6, 0)),
    ],
)
def test_what_a_step_asks_for(step: Step, packed: bool, demand: StepDemand) -> None:
    assert step_demand(step, 2, packed=packed) == demand


def test_neighboring_windows_of_trees_are_loaded_once_per_tile() -> None:
    """Eight positions of two copies touch nine distinct planes per leaf, not sixteen."""
    expr = ConeExpr("and", (ConeExpr("tap"), ConeExpr("tap")))
    step = ConeStep(
        expr=expr,
        leaves=np.array([[10, 40]]),
        masks=np.zeros((1, expr.num_masks() + 1), bool),
        out=np.array([100]),
        space=(1, 1, 8),
        in_step=(0, 0, 1),
        out_step=(0, 0, 1),
        shifts=np.array([0, 1]),
    )
    assert step_demand(step, 2, packed=True) == StepDemand(
        4 * (2 * 9 + 8), planes=2 * 9 + 8, lop3=8 * 2 * (2 + 1)
    )


def test_steps_of_other_targets_have_no_cost() -> None:
    with pytest.raises(BackendError, match="lowers no ChainStep"):
        step_demand(ChainStep(planes(1, 2), np.zeros(1, np.int64)), 2, packed=True)


def test_instructions_of_a_tree() -> None:
    tap = ConeExpr("tap")
    tree = ConeExpr("xor", (ConeExpr("and", (tap, tap)), ConeExpr("lut", (tap, tap, tap))))
    assert tree_lop3(tree) == 1 + 2 + 7


def test_the_roofline_of_a_dense_layer() -> None:
    """Two loads and a store per gate, from L2, bound it; launches take the rest."""
    program = build_program(lgir.optimize(build_net("dense-6x8000"), verify=None)[0])
    rate = predict_rate(program, H100, packed=True)
    peak = H100.l2_rate / (12 / 32)
    assert 0.6 * peak < rate.gate_evals_per_second < peak
    assert rate.bound == "L2"


def test_launches_bound_a_device_that_computes_at_once() -> None:
    program = build_program(dense_net(2, 400))
    instant = GpuRates("instant", 1, 1e30, 1e30, 1 << 40)
    rate = predict_rate(program, instant, packed=True, workspace=0)
    assert rate.bound == "launches"
    assert rate.samples_per_second == pytest.approx(
        32 * 32 / (len(program.launches) * LAUNCH_SECONDS)
    )


def test_planes_beyond_the_cache_move_through_memory() -> None:
    program = build_program(dense_net(2, 400))
    small = GpuRates("small", H100.processors, H100.clock, H100.memory, 0)
    assert predict_rate(program, small, packed=True).bound == "HBM"


def test_the_plain_way_moves_three_planes_per_gate() -> None:
    graph = dense_net(2, 400)
    assert predict_plain_rate(graph, H100) == pytest.approx(H100.memory / (800 * 3 / 8))
