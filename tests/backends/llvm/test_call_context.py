"""The context of a call: slots of inputs, outputs and widened samples do not overlap."""

from __future__ import annotations

from lgir.backends.llvm.call_context import ContextLayout, ContextWord


def test_slots_follow_one_another() -> None:
    slots = ContextLayout(inputs=2, outputs=3)
    first = int(ContextWord.FIRST_SLOT)
    assert [slots.input_slot(i) for i in range(2)] == [first, first + 2]
    assert [slots.output_slot(i) for i in range(3)] == [first + 4, first + 5, first + 6]
    assert [slots.widened_slot(i) for i in range(2)] == [first + 7, first + 9]
    assert slots.words == first + 11
