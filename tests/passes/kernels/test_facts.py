"""Facts: what is known of channels is true at every position, and taps reach what they say."""

from __future__ import annotations

import numpy as np
import pytest

from lgir.ir.body import Body
from lgir.ir.nodes import Logic, Threshold
from lgir.ir.truth_tables import XOR
from lgir.ir.types import Value
from lgir.passes.kernels.facts import (
    CONST_FALSE,
    CONST_TRUE,
    copied_channels,
    logic_facts,
    no_facts,
    reshape_facts,
    tap_reach,
    threshold_facts,
)


def literals(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def test_without_knowledge_every_channel_stands_for_itself():
    assert no_facts(Value("x", "bit", (3, 4))).tolist() == [0, 2, 4]


def test_equal_and_complementary_outputs_point_to_the_first():
    # outputs: net 5, its complement, True, net 7, net 5, False
    facts = logic_facts(literals(10, 11, 1, 14, 10, 0))
    assert facts.tolist() == [0, 1, CONST_TRUE, 6, 0, CONST_FALSE]


def test_levels_of_bytes_that_always_or_never_pass_are_constant_and_equal_ones_shared():
    op = Threshold(np.array([-1.0, 63.0, 63.5, 255.0], np.float32))
    facts = threshold_facts(op, Value("x", "u8", (2,)))
    expected = [CONST_TRUE, 2, 2, CONST_FALSE, CONST_TRUE, 10, 10, CONST_FALSE]
    assert facts.tolist() == expected


def test_levels_of_floats_are_constant_only_at_infinity():
    op = Threshold(np.array([-np.inf, 0.0, -0.0, np.inf], np.float32))
    facts = threshold_facts(op, Value("x", "f32", (1,)))
    assert facts.tolist() == [0, 2, 2, CONST_FALSE]


def test_facts_of_elements_follow_their_channels_through_a_reshape():
    # channels of two positions: itself, complement of channel 0, False
    facts = reshape_facts(literals(0, 1, CONST_FALSE), (3, 2), (6,))
    assert facts.tolist() == [0, 2, 1, 3, CONST_FALSE, CONST_FALSE]
    assert reshape_facts(facts, (6,), (3, 2)).tolist() == [0, 1, CONST_FALSE]


def test_a_channel_of_unlike_elements_stands_for_itself():
    facts = reshape_facts(literals(0, 2, 0, 7), (4,), (2, 2))
    assert facts.tolist() == [0, 2]


def body_of_taps(*taps: list[int]) -> Body:
    return Body.build(list(taps), [[2, 3]], [XOR], [2 + len(taps)])


def test_copies_are_taps_at_their_own_position_of_inputs_of_the_same_space():
    body = body_of_taps([0, 1, 0], [1, 0, 0], [0, 0, 1])
    outputs = literals(4, 7, 8, 10, 0)  # tap 0, complement of tap 1, tap 2, the gate, False
    copies = copied_channels(("a", "b"), Logic(body, (4,), (1,)), [(2, 4), (1, 5)], outputs)
    assert copies.inputs == ("a", "b")
    assert copies.source.tolist() == [0, -1, -1, -1, -1]  # b has another space, tap 2 moves
    assert copies.literal[0] == 2
    both = copied_channels(("a", "b"), Logic(body, (4,), (1,)), [(2, 4), (1, 4)], outputs)
    assert both.source.tolist() == [0, 1, -1, -1, -1]
    assert both.literal[:2].tolist() == [2, 1]
    strided = copied_channels(("a", "b"), Logic(body, (4,), (2,)), [(2, 4), (1, 4)], outputs)
    assert (strided.source == -1).all()


@pytest.mark.parametrize(("space", "stride"), [(1, 1), (4, 1), (3, 2), (2, 3)])
def test_reach_of_taps_agrees_with_reading_every_position(space, stride):
    size = 4
    offsets = range(-9, 10)
    body = body_of_taps(*([0, 0, offset] for offset in offsets))
    never, always = tap_reach(Logic(body, (space,), (stride,)), [(1, size)])
    for i, offset in enumerate(offsets):
        reads = np.arange(space) * stride + offset
        outside = (reads < 0) | (reads >= size)
        assert never[i] == (not outside.any()), offset
        assert always[i] == outside.all(), offset
