"""Stages: which gates of a dense body are evaluated together, and in which order.

A level has up to two stages: gates that are evaluated by themselves, and gates along whose trails
an earlier level's gates are evaluated (`fused_levels`). What is last read in which stage, and which
results may be kept inverted, follow from that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering.fused_levels import FusedLevel, find_fused_levels
from lgir.backends.lowering.options import LoweringOptions
from lgir.backends.lowering.table_keys import TableKeys
from lgir.backends.lowering.trails import Trails, find_trails
from lgir.ir.body import Body

MIN_TRAIL: Final = 3.0
"""The average length of trails below which gates by table are faster: a trail adds a row."""

_NONE: Final = np.zeros(0, np.int64)

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Stage:
    """Gates that are evaluated together.

    Attributes:
        number: stages are evaluated in the order of their numbers.
        gates: (n,) the gates, without `inner`.
        trails: the trails of the two-input gates, or None if all gates are evaluated by table.
        inner: the gates that are evaluated along the trails, their only readers.
    """

    number: int
    gates: Ints
    trails: Trails | None
    inner: Ints


@dataclass(frozen=True)
class StagedBody:
    """The stages of a body.

    Attributes:
        stages: all stages, in order.
        last_use: (num_nets,) the number of the last stage that reads each net, its own stage if
            none does, and a number past the last stage for outputs.
        may_invert: (num_nets,) whether the net may be kept inverted: it is computed along trails
            and read along trails only, whose operations are data and absorb the inversion.
    """

    stages: list[Stage]
    last_use: Ints
    may_invert: Bools


def find_stages(body: Body, keys: TableKeys, options: LoweringOptions) -> StagedBody:
    """Return the stages of `body`, with trails and fused levels as far as `options` allow."""
    levels = body.gates_by_level()
    fused = [FusedLevel(_NONE, _NONE)] * len(levels)
    if options.fused_levels:
        fused = find_fused_levels(body, levels, keys.pair_tables)
    stage = 2 * body.levels().astype(np.int64)
    is_fused = np.zeros(body.num_gates, bool)
    for number, level in enumerate(fused, start=1):
        for gates in (level.outer, level.inner):
            stage[body.first_gate + gates] = 2 * number + 1
            is_fused[gates] = True
    stages = []
    for number, (gates, level) in enumerate(zip(levels, fused, strict=True), start=1):
        plain = gates[~is_fused[gates]]
        if len(plain):
            trails = _long_trails(body, keys, plain) if options.trails else None
            stages.append(Stage(2 * number, plain, trails, _NONE))
        if len(level.inner):
            trails = _trails(body, keys, level.outer)
            stages.append(Stage(2 * number + 1, level.outer, trails, level.inner))
    return StagedBody(stages, _last_use(body, stage), _may_invert(body, stages))


def _long_trails(body: Body, keys: TableKeys, gates: Ints) -> Trails | None:
    """Return the trails of the two-input gates among `gates`, if they are long enough to pay."""
    trails = _trails(body, keys, gates)
    return trails if len(trails.gates) > MIN_TRAIL * trails.count else None


def _trails(body: Body, keys: TableKeys, gates: Ints) -> Trails:
    """Return the trails of the two-input gates among `gates`."""
    pairs = gates[keys.arity[gates] == 2]
    trails = find_trails(body.fanin[pairs, :2].astype(np.int64))
    return replace(trails, gates=pairs[trails.gates])


def _last_use(body: Body, stage: Ints) -> Ints:
    """Return `StagedBody.last_use` from the number of each net's stage, (num_nets,)."""
    last = stage.copy()
    gate_stage = stage[body.first_gate :]
    for column in range(body.k):
        np.maximum.at(last, body.fanin[:, column], gate_stage)
    last[body.outputs] = int(stage.max(initial=0)) + 1
    return last


def _may_invert(body: Body, stages: list[Stage]) -> Bools:
    """Return `StagedBody.may_invert`."""
    along_trails = np.zeros(body.num_gates, bool)
    for stage in stages:
        if stage.trails is not None:
            along_trails[stage.trails.gates] = True
            along_trails[stage.inner] = True
    free = np.concatenate([np.zeros(body.first_gate, bool), along_trails])
    free[body.outputs] = False
    free[body.fanin[~along_trails].ravel()] = False
    return free
