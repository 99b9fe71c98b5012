"""Kinds of steps: each step of a plan has one, and tables mean what their step says."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from lgir.backends.llvm.carry_save import ROUND_PLANES, adders_per_round, pad_to_rounds
from lgir.backends.llvm.steps.chain import chain_rows
from lgir.backends.llvm.steps.registry import _KINDS
from lgir.backends.llvm.steps.step_kind import CallForm
from lgir.backends.llvm.steps.tables import aligned_masks, plane_offsets
from lgir.backends.lowering.steps import ZERO_PLANE, ExportStep, PackStep, Step, SumStep


def test_every_step_has_a_kind_of_its_own() -> None:
    assert set(_KINDS) == set(get_args(Step))
    names = [kind.name for kind in _KINDS.values()]
    assert len(set(names)) == len(names)


def test_only_kinds_of_inputs_and_outputs_depend_on_the_call() -> None:
    assert {step for step, kind in _KINDS.items() if kind.depends_on_call} == {
        PackStep,
        SumStep,
        ExportStep,
    }


@pytest.mark.parametrize(("result", "form"), [("scores", "scores"), ("labels", None)])
def test_labels_need_the_sum_of_the_first_output_alone(result: str, form: str | None) -> None:
    kind, call = _KINDS[SumStep], CallForm(("u8",), result)
    planes = np.zeros((2, 3), np.int64)
    assert kind.form(SumStep(0, planes, 1.0, 0.0), call) == result
    assert kind.form(SumStep(1, planes, 1.0, 0.0), call) == form


@pytest.mark.parametrize("constant", [False, True])
def test_masks_of_a_chain_are_those_of_its_operations(constant: bool) -> None:
    tables = np.arange(16) if constant else np.arange(0, 16, 2)
    planes = np.stack([np.arange(len(tables)), 100 + np.arange(len(tables))], axis=1)
    rows, masks, has_constant = chain_rows(plane_offsets(planes), tables)
    assert has_constant == constant
    np.testing.assert_array_equal(rows & ~np.uint32(63), plane_offsets(planes))
    entries = (rows[:, 0] & 63) >> (2 if constant else 3)
    for table, entry in zip(tables.tolist(), entries.tolist(), strict=True):
        m1, m2, m3, m4 = (masks[entry, :4] != 0).tolist()
        for a in (False, True):
            for b in (False, True):
                value = (a & (b | m1)) ^ (b & m2) ^ (a & m3) ^ m4
                assert value == bool(table >> (2 * a + b) & 1), (table, a, b)


def test_mask_tables_begin_a_cache_line() -> None:
    masks = np.random.default_rng(0).random((5, 16)) < 0.5
    table = aligned_masks(masks)
    assert table.ctypes.data % 64 == 0
    np.testing.assert_array_equal(table, np.where(masks, 0xFFFF_FFFF, 0))


def test_counts_are_padded_with_false_planes_to_whole_rounds() -> None:
    planes = np.full((3, ROUND_PLANES + 1), 7)
    padded = pad_to_rounds(planes)
    assert padded.shape == (3, 2 * ROUND_PLANES)
    assert (padded[:, : ROUND_PLANES + 1] == 7).all()
    assert (padded[:, ROUND_PLANES + 1 :] == ZERO_PLANE).all()


@pytest.mark.parametrize(("width", "adders"), [(1, 8), (4, 8 + 4 + 2 + 1), (6, 8 + 4 + 2 + 1 + 2)])
def test_a_round_takes_an_adder_for_two_planes_and_one_for_each_carry(
    width: int, adders: int
) -> None:
    assert adders_per_round(width) == adders
