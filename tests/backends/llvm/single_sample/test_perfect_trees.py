"""Perfect trees cut from bodies, and the merging of shifted nets, against the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from single_sample_interpreter import tree_values

import lgir
from lgir.backends.llvm.single_sample.perfect_trees import (
    MAX_HEIGHT,
    PerfectTreeTemplate,
    cell_range,
    cut_perfect_trees,
)
from lgir.backends.llvm.single_sample.shifted_nets import convolution_nets, dense_nets
from lgir.ir.body import Body
from lgir.ir.types import FIRST_TAP
from random_graphs import random_body

AND, OR = 0b1000, 0b1110


def legal(body: Body) -> Body:
    """The body without gates that ignore an input, as the planner sees it."""
    b = lgir.GraphBuilder("one")
    x = b.input("x", "bit", (int(body.taps[:, 1].max(initial=0)) + 1,))
    graph, _ = lgir.optimize(b.build(b.logic([x], body)), passes="fold", verify=None)
    return graph.nodes[0].op.body  # type: ignore[union-attr]


@pytest.mark.parametrize("duplicate_gates", [False, True])
@pytest.mark.parametrize("k", [2, 3, 4, 6])
@pytest.mark.parametrize("depth_bias", [0.0, 0.7, 1.0])
def test_trees_compute_the_body(k: int, depth_bias: float, duplicate_gates: bool) -> None:
    rng = np.random.default_rng(k)
    for _ in range(5):
        body = legal(random_body([9], 0, rng, gates=40, k=k, outputs=6, depth_bias=depth_bias))
        nets = dense_nets(body)
        groups = cut_perfect_trees(nets, duplicate_gates=duplicate_gates)
        values = np.zeros((nets.num_nets, 64), bool)
        values[1] = True
        values[FIRST_TAP : nets.first_gate] = rng.random((nets.first_gate - FIRST_TAP, 64)) < 0.5
        expected = values.copy()
        for gate in range(body.num_gates):
            index = np.zeros(64, np.uint64)
            for operand in body.fanin[gate]:
                index = index << np.uint64(1) | expected[operand]
            expected[body.first_gate + gate] = np.uint64(body.table[gate]) >> index & np.uint64(1)
        for trees in groups:
            assert trees.template.height <= MAX_HEIGHT
            assert trees.leaves.shape[1] == trees.template.num_leaves
            assert trees.masks.shape[1] == trees.template.num_masks
            leaves = values[trees.leaves].transpose(1, 0, 2)
            masks = np.repeat(trees.masks.T[..., None], 64, axis=2)
            values[trees.roots] = tree_values(trees.template, leaves, masks)
        np.testing.assert_array_equal(values[nets.outputs], expected[body.outputs])


def test_templates_have_names_of_their_own() -> None:
    templates = [PerfectTreeTemplate(height) for height in (1, 2, 3)]
    templates += [PerfectTreeTemplate(0, arity) for arity in (3, 4, 5, 6)]
    assert len({template.name for template in templates}) == len(templates)
    assert [template.num_masks for template in templates] == [4, 10, 22, 8, 16, 32, 64]


def test_a_shared_gate_is_a_root_or_part_of_both_readers() -> None:
    taps = [(0, channel) for channel in range(4)]
    shared = FIRST_TAP + 4
    body = Body.build(
        taps, [(2, 3), (shared, 4), (shared, 5)], [AND, AND, OR], [shared + 1, shared + 2], rank=0
    )
    roots = {
        duplicate: sum(
            len(trees.roots)
            for trees in cut_perfect_trees(dense_nets(body), duplicate_gates=duplicate)
        )
        for duplicate in (False, True)
    }
    assert roots == {False: 3, True: 2}


@pytest.mark.parametrize(("order", "shifts"), [((0, 1, 2), (0, 1)), ((2, 1, 0), (-1, 0))])
def test_shifted_copies_are_one_net_and_a_pool_is_shifts_of_it(
    order: tuple[int, ...], shifts: tuple[int, int]
) -> None:
    """The copy with the lowest id is the one that is evaluated, wherever the others lie."""
    taps = [(0, 0, 0, x) for x in order]
    a, b = FIRST_TAP + 3, FIRST_TAP + 4
    body = Body.build(taps, [(2, 3), (3, 4), (a, b)], [AND, AND, OR], [b + 1], rank=2)
    nets = convolution_nets(body, np.array([10, 1]))
    assert nets.outputs.tolist() == [a]
    assert nets.output_shifts.tolist() == [list(shifts)]
    groups = cut_perfect_trees(nets, duplicate_gates=True)
    assert [len(trees.roots) for trees in groups] == [1]
    assert cell_range(nets, groups, last=7) == (shifts[0], 7 + shifts[1])
