"""Pools and translation classes: shifted copies of one cone."""

from __future__ import annotations

import numpy as np
import pytest

from lgir.backends.lowering.pools import (
    MAX_LEAVES,
    MAX_POOL,
    Pools,
    find_pools,
    translation_classes,
    tree_leaves,
)
from lgir.ir.body import Body
from lgir.ir.truth_tables import AND, OR, XOR


def pool_of(offsets: list[int], *, combine: int = OR) -> Body:
    """ANDs of two neighboring cells at these offsets, combined one after another."""
    taps = [[0, 0, position] for offset in offsets for position in (offset, offset + 1)]
    first_gate = 2 + len(taps)
    fanin = [[2 + 2 * i, 3 + 2 * i] for i in range(len(offsets))]
    table = [AND] * len(offsets)
    last = first_gate
    for i in range(1, len(offsets)):
        fanin.append([last, first_gate + i])
        table.append(combine)
        last = first_gate + len(fanin) - 1
    return Body.build(taps, fanin, table, [last])


def pools_of(body: Body) -> Pools:
    levels = body.gates_by_level()
    return find_pools(body, levels, tree_leaves(body, levels), body.outputs.astype(np.int64))


@pytest.mark.parametrize("offsets", [[0, 1], [0, 1, 2], [3, 0, -2, 7], list(range(MAX_POOL))])
def test_an_or_of_shifted_copies_is_a_pool(offsets: list[int]) -> None:
    pools = pools_of(pool_of(offsets))
    ((shifts, indices),) = pools.by_shift()
    assert indices.tolist() == [0]
    assert shifts[:, 0].tolist() == [offset - offsets[0] for offset in offsets]


def test_other_gates_and_too_many_copies_make_no_pool() -> None:
    assert len(pools_of(pool_of([0, 1, 2], combine=XOR)).roots) == 0
    assert len(pools_of(pool_of([0])).roots) == 0
    assert len(pools_of(pool_of(list(range(MAX_POOL + 1)))).roots) == 0


def test_copies_of_different_gates_make_no_pool() -> None:
    taps = [[0, 0, position] for position in range(3)]
    body = Body.build(taps, [[2, 3], [3, 4], [5, 6]], [AND, XOR, OR], [7])
    assert len(pools_of(body).roots) == 0


def test_pools_of_equal_shifts_are_grouped() -> None:
    taps = [[0, channel, position] for channel in (0, 1) for position in (0, 1, 5)]
    fanin = [[2, 3], [5, 6], [2, 4]]
    body = Body.build(taps, fanin, [OR, OR, OR], [8, 9, 10])
    groups = {tuple(s[:, 0].tolist()): i.tolist() for s, i in pools_of(body).by_shift()}
    assert groups == {(0, 1): [0, 1], (0, 5): [2]}


def test_classes_tell_what_is_a_shifted_copy() -> None:
    body = pool_of([0, 4])
    classes, anchor = translation_classes(body, body.gates_by_level())
    first, second = body.first_gate, body.first_gate + 1
    assert classes[first] == classes[second]
    assert (anchor[second] - anchor[first]).tolist() == [4]
    assert len({int(classes[net]) for net in (0, 1, 2, first, int(body.outputs[0]))}) == 5


def test_distances_between_operands_are_part_of_the_class() -> None:
    taps = [[0, 0, position] for position in (0, 1, 2, 4)]
    body = Body.build(taps, [[2, 3], [3, 4], [4, 5]], [AND, AND, AND], [6, 7, 8])
    classes, _ = translation_classes(body, body.gates_by_level())
    assert classes[6] == classes[7] != classes[8]


def test_leaves_are_counted_with_shared_gates_expanded() -> None:
    body = Body.build(
        [[0, 0], [0, 1]], [[2, 3], [4, 4], [5, 5], [6, 0]], [AND, XOR, OR, 0b1100], [7]
    )
    leaves = tree_leaves(body, body.gates_by_level())
    assert leaves[2:7].tolist() == [1, 1, 2, 4, 8]
    assert leaves[7] == 9  # A gate of one input counts as a leaf.


def test_pools_of_large_cones_are_left_to_plain_cones() -> None:
    width = MAX_LEAVES + 1
    taps = [[0, channel, position] for position in (0, 1) for channel in range(width)]
    first_gate, fanin = 2 + len(taps), []
    for copy in (0, 1):
        last = 2 + copy * width
        for i in range(1, width):
            fanin.append([last, 2 + copy * width + i])
            last = first_gate + len(fanin) - 1
    fanin.append([first_gate + width - 2, last])
    body = Body.build(taps, fanin, [XOR] * (2 * width - 2) + [OR], [first_gate + len(fanin) - 1])
    assert len(pools_of(body).roots) == 0
