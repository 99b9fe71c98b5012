"""Levels of thresholds per element and as integers, against the comparison that they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from lgir.ir.nodes import Threshold
from lgir.ir.thresholds import (
    always_exceeded,
    byte_levels,
    distinct_levels,
    element_levels,
    never_exceeded,
)

LEVELS = np.array(
    [-np.inf, -300.5, -1, -0.5, -0.0, 0, 0.5, 63.2, 254.9, 255, 255.5, 1e9, np.inf], np.float32
)


@pytest.mark.parametrize("lead", [(), (3,), (3, 4)])
def test_levels_of_a_prefix_of_the_shape_reach_every_element(lead: tuple[int, ...]) -> None:
    levels = np.arange(np.prod((*lead, 2)), dtype=np.float32).reshape(*lead, 2)
    result = element_levels(Threshold(levels), (3, 4))
    assert result.shape == (3, 4, 2)
    for c in range(3):
        for y in range(4):
            assert (result[c, y] == levels[(c, y)[: len(lead)]]).all()


def test_bytes_exceed_the_integer_levels_exactly_if_they_exceed_the_given_ones() -> None:
    x = np.arange(256)[:, None]
    integers = byte_levels(LEVELS)
    assert integers.dtype == np.int16
    assert ((x > integers) == (x.astype(np.float32) > LEVELS)).all()


def test_levels_that_bytes_cannot_tell_apart_become_equal() -> None:
    distinct = distinct_levels(LEVELS, "u8")
    passed = np.arange(256, dtype=np.float32)[:, None] > LEVELS
    same = (passed[:, :, None] == passed[:, None, :]).all(axis=0)
    assert (same == (distinct[:, None] == distinct)).all()
    assert (always_exceeded(distinct, "u8") == passed.all(axis=0)).all()
    assert (never_exceeded(distinct, "u8") == ~passed.any(axis=0)).all()


def test_zeros_of_both_signs_become_equal_bits() -> None:
    distinct = distinct_levels(LEVELS, "f32")
    assert distinct.dtype == np.float32
    assert not np.signbit(distinct[distinct == 0]).any()
    assert (distinct == LEVELS).all()


def test_only_infinity_is_never_exceeded_by_floats_and_no_level_always_is() -> None:
    distinct = distinct_levels(LEVELS, "f32")
    assert LEVELS[never_exceeded(distinct, "f32")].tolist() == [np.inf]
    assert not always_exceeded(distinct, "f32").any()
