"""Stages: every gate in one stage, after what it reads, and which results may be inverted."""

from __future__ import annotations

import numpy as np
import pytest

from lgir.backends.lowering.options import LoweringOptions
from lgir.backends.lowering.stages import StagedBody, find_stages
from lgir.backends.lowering.table_keys import table_keys
from lgir.ir.body import Body
from random_graphs import layered_graph

ALL_LEVELS = LoweringOptions(trails=True, fused_levels=True)


def staged(body: Body, options: LoweringOptions = ALL_LEVELS) -> StagedBody:
    return find_stages(body, table_keys(body), options)


def stage_numbers(body: Body, stages: StagedBody) -> np.ndarray:
    """The number of the stage in which each gate is evaluated; inner gates have their readers'."""
    numbers = np.full(body.num_gates, -1)
    for stage in stages.stages:
        for gates in (stage.gates, stage.inner):
            assert (numbers[gates] == -1).all()
            numbers[gates] = stage.number
    return numbers


@pytest.mark.parametrize("seed", range(20))
def test_every_gate_has_one_stage_after_those_of_its_operands(seed: int) -> None:
    body = layered_graph(seed).nodes[0].op.body
    stages = staged(body)
    numbers = stage_numbers(body, stages)
    assert (numbers >= 0).all()
    order = [stage.number for stage in stages.stages]
    assert order == sorted(set(order))
    inner = np.concatenate([stage.inner for stage in stages.stages])
    for gate in range(body.num_gates):
        for net in body.fanin[gate, : body.arity()[gate]]:
            if net >= body.first_gate:
                operand = net - body.first_gate
                before = numbers[operand] < numbers[gate]
                assert before or (operand in inner and numbers[operand] == numbers[gate])


@pytest.mark.parametrize("seed", range(20))
def test_the_last_use_is_the_stage_of_the_last_reader(seed: int) -> None:
    body = layered_graph(seed).nodes[0].op.body
    stages = staged(body)
    numbers = stage_numbers(body, stages)
    is_output = np.isin(np.arange(body.num_nets), body.outputs)
    assert (stages.last_use[is_output] > numbers.max()).all()
    for net in np.flatnonzero(~is_output)[2:]:
        readers = numbers[(body.fanin == net).any(axis=1)]
        if len(readers):
            assert stages.last_use[net] == readers.max()
        elif net >= body.first_gate:
            assert stages.last_use[net] == numbers[net - body.first_gate]


@pytest.mark.parametrize("seed", range(20))
def test_only_results_of_trails_that_trails_alone_read_may_be_inverted(seed: int) -> None:
    body = layered_graph(seed).nodes[0].op.body
    stages = staged(body)
    along = np.zeros(body.num_gates, bool)
    for stage in stages.stages:
        if stage.trails is not None:
            along[stage.trails.gates], along[stage.inner] = True, True
    inverted = np.flatnonzero(stages.may_invert)
    assert not np.isin(inverted, body.outputs).any()
    assert (inverted >= body.first_gate).all()
    assert along[inverted - body.first_gate].all()
    for net in inverted:
        assert along[(body.fanin == net).any(axis=1)].all()


def test_without_options_each_level_is_a_stage_of_gates_by_table() -> None:
    body = layered_graph(1).nodes[0].op.body
    stages = staged(body, LoweringOptions())
    assert len(stages.stages) == len(body.gates_by_level())
    assert all(stage.trails is None and not len(stage.inner) for stage in stages.stages)
    assert not stages.may_invert.any()
