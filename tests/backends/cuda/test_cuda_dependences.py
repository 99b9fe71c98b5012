"""Which steps share a launch."""

from __future__ import annotations

import numpy as np
import pytest

from lgir.backends.cuda.dependences import (
    IndependentSteps,
    independent_steps,
    planes_touched,
    position_offsets,
)
from lgir.backends.lowering.cones import ConeExpr
from lgir.backends.lowering.steps import ConeStep, ExportStep, GateStep, Plan, Step
from lgir.zoo import dense_net


def gates(*rows: tuple[int, int, int]) -> GateStep:
    return GateStep(2, 0b1000, np.array(rows))


def trees(space: tuple[int, int, int], tap: int, cut: int, out: int) -> ConeStep:
    """Return a tree of a tap and a cut, whose reads advance by 2 planes and writes by 1."""
    expr = ConeExpr("and", (ConeExpr("tap"), ConeExpr("cut")))
    return ConeStep(
        expr=expr,
        leaves=np.array([[tap, cut]]),
        masks=np.zeros((1, expr.num_masks() + 1), bool),
        out=np.array([out]),
        space=space,
        in_step=(0, 0, 2),
        out_step=(0, 0, 1),
        shifts=np.array([0, 1]),
    )


def groups(*steps: Step) -> list[int]:
    """Return the sizes of the groups of a plan of `steps`; 0 is a step of another kind."""
    plan = Plan(dense_net(1, 400), steps, num_planes=100, gates=0)
    return [
        len(part.steps) if isinstance(part, IndependentSteps) else 0
        for part in independent_steps(plan)
    ]


def test_steps_that_touch_different_planes_share_a_launch() -> None:
    assert groups(gates((3, 4, 10)), gates((3, 4, 11)), gates((4, 5, 12))) == [3]


@pytest.mark.parametrize(
    "second",
    [
        gates((10, 4, 11)),  # reads what the first writes
        gates((5, 6, 10)),  # writes what the first writes
        gates((5, 6, 3)),  # writes what the first reads
    ],
)
def test_steps_that_depend_on_each_other_do_not_share_a_launch(second: GateStep) -> None:
    assert groups(gates((3, 4, 10)), second) == [1, 1]


def test_a_group_ends_at_other_steps_and_other_positions() -> None:
    export = ExportStep(0, np.array([10]))
    assert groups(gates((3, 4, 10)), export, gates((3, 4, 11))) == [1, 0, 1]
    narrow, wide = trees((1, 1, 2), 3, 20, 40), trees((1, 1, 3), 3, 30, 50)
    assert groups(narrow, wide) == [1, 1]
    assert groups(narrow, trees((1, 1, 2), 3, 30, 50)) == [2]


def test_planes_that_trees_touch() -> None:
    step = trees((1, 1, 3), tap=3, cut=20, out=40)
    np.testing.assert_array_equal(position_offsets(step), [[0, 0], [2, 1], [4, 2]])
    reads, writes = planes_touched(step)
    assert sorted(reads.tolist()) == [3, 4, 5, 6, 7, 8, 20, 21, 22]
    assert writes.tolist() == [40, 41, 42]
