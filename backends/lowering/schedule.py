"""Schedule a body that is evaluated once: as a forest of trees, or stage by stage.

If most gates have one reader, as in the dense head of the paper's convolutional networks, the body
is a forest, and whole trees are evaluated at once (`forest`). All other bodies are evaluated level
by level (`level_schedule`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering.forest import find_forest, schedule_forest
from lgir.backends.lowering.layouts import PartialCount
from lgir.backends.lowering.level_schedule import schedule_levels
from lgir.backends.lowering.options import LoweringOptions
from lgir.backends.lowering.plane_allocator import PlanePool, PlaneRange, RangeAllocator
from lgir.backends.lowering.steps import ONE_PLANE, ZERO_PLANE, Planes, Step, copy_steps
from lgir.ir.body import Body
from lgir.ir.types import FIRST_TAP


@dataclass(frozen=True)
class ScheduledBody:
    """The steps of a body, and where its outputs are.

    Attributes:
        steps: the steps in order.
        outputs: (outputs,) the plane of each output; of no meaning for those in `partial_count`.
        ranges: the ranges of planes that the outputs hold.
        partial_count: the outputs that have been counted already, or None.
    """

    steps: list[Step]
    outputs: Planes
    ranges: list[PlaneRange]
    partial_count: PartialCount | None = None


def schedule_gates(
    body: Body,
    taps: Planes,
    planes: RangeAllocator,
    options: LoweringOptions,
    groups: npt.NDArray[np.int64] | None = None,
) -> ScheduledBody:
    """Return the steps that evaluate `body`, whose taps are in the planes `taps`, (taps,).

    Args:
        planes: where results take planes.
        options: which steps other than GateSteps are allowed.
        groups: (outputs,) the group in which each output is counted, if outputs have no other use.
    """
    pool = PlanePool(planes)
    plane = np.empty(body.num_nets, np.int64)
    plane[:FIRST_TAP] = ZERO_PLANE, ONE_PLANE
    plane[FIRST_TAP : body.first_gate] = taps
    groups = groups if options.chunked_popcount else None
    forest = find_forest(body) if options.forests else []
    if forest:
        steps, counted = schedule_forest(body, forest, plane, pool, groups)
    else:
        steps, counted = schedule_levels(body, plane, pool, options, groups)
    outputs = plane[body.outputs]
    # An output that is a tap would share a plane that dies with its source, so it gets a copy.
    taps_out = np.flatnonzero((body.outputs >= FIRST_TAP) & (body.outputs < body.first_gate))
    if len(taps_out):
        copies = pool.take(len(taps_out))
        steps = [*steps, *copy_steps(outputs[taps_out], copies)]
        outputs[taps_out] = copies
    return ScheduledBody(steps, outputs, pool.ranges, counted)
