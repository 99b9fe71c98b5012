"""Which gate and tree steps are independent, and so can share launches.

Kernels read planes through a path that is not coherent with writes, so that no step of a launch may
write a plane that another one of it reads or writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering.steps import ConeStep, GateStep, Plan, Step
from lgir.ir.sets import distinct

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class IndependentSteps:
    """Consecutive steps over the same positions that do not touch each other's planes."""

    steps: tuple[GateStep | ConeStep, ...]

    @property
    def gates(self) -> list[GateStep]:
        """Return the gate steps in order."""
        return [step for step in self.steps if isinstance(step, GateStep)]

    @property
    def trees(self) -> list[ConeStep]:
        """Return the tree steps in order."""
        return [step for step in self.steps if isinstance(step, ConeStep)]


def independent_steps(plan: Plan) -> Iterator[IndependentSteps | Step]:
    """Yield the steps of `plan` in order, gate and tree steps in groups as large as possible."""
    writer = np.zeros(plan.num_planes, np.int32)  # the group that last wrote each plane
    reader = np.zeros(plan.num_planes, np.int32)
    group: list[GateStep | ConeStep] = []
    number = 1
    for step in plan.steps:
        if not isinstance(step, (GateStep, ConeStep)):
            if group:
                yield IndependentSteps(tuple(group))
            group, number = [], number + 1
            yield step
            continue
        reads, writes = planes_touched(step)
        conflict = (
            (writer[reads] == number).any()
            or (writer[writes] == number).any()
            or (reader[writes] == number).any()
        )
        if group and (conflict or _positions_key(group[0]) != _positions_key(step)):
            yield IndependentSteps(tuple(group))
            group, number = [], number + 1
        group.append(step)
        reader[reads], writer[writes] = number, number
    if group:
        yield IndependentSteps(tuple(group))


def planes_touched(step: GateStep | ConeStep) -> tuple[Ints, Ints]:
    """Return the planes that a step reads and those that it writes, int64 of any shape."""
    if isinstance(step, GateStep):
        return step.rows[:, :-1], step.rows[:, -1]
    read_offsets, write_offsets = position_offsets(step).T
    is_tap = np.array([kind == "tap" for kind in step.expr.leaves()])
    taps = distinct(step.leaves[:, is_tap])
    window = distinct(read_offsets[:, None] + step.shifts)
    cuts = distinct(step.leaves[:, ~is_tap])
    reads = np.concatenate(
        [(taps[:, None] + window).ravel(), (cuts[:, None] + write_offsets).ravel()]
    )
    return reads, (step.out[:, None] + write_offsets).ravel()


def position_offsets(step: ConeStep) -> Ints:
    """Return (positions, 2) int64: planes to advance from position 0, for reads and for writes."""
    grid = np.indices(step.space).reshape(3, -1).T
    return np.stack([grid @ np.array(step.in_step), grid @ np.array(step.out_step)], axis=1)


def _positions_key(step: GateStep | ConeStep) -> tuple[object, ...]:
    """Return a key that is equal for steps over the same positions."""
    if isinstance(step, GateStep):
        return ()
    return step.space, step.in_step, step.out_step
