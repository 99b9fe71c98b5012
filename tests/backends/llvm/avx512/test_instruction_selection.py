"""Instructions selected for trees, interpreted one by one, against the definition of templates."""

from __future__ import annotations

import numpy as np
import pytest
from cone_exprs import evaluate, perfect, random_expr

from lgir.backends.llvm.avx512.instruction_selection import (
    ACCUMULATOR,
    Leaf,
    gate_tables,
    select_instructions,
    tree_shape,
)


def test_a_perfect_tree_takes_five_instructions() -> None:
    tables = np.full((1, 7), 0b1000)
    shape = tree_shape(perfect(3))
    assert [
        len(select_instructions(shape, tables, 1, pooled=pooled)) for pooled in (False, True)
    ] == [5, 5]


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("widest", [2, 3, 4, 6])
@pytest.mark.parametrize("leaves", [1, 2, 3, 4, 5, 7, 8, 16])
def test_instructions_compute_the_tree(leaves: int, widest: int, pooled: bool) -> None:
    rng = np.random.default_rng(leaves)
    for _ in range(4):
        expr = random_expr(rng, leaves, widest)
        masks = rng.random((3, expr.num_masks() + 1)) < 0.5
        values = rng.integers(0, 2, (leaves, 200)).astype(bool)
        previous = rng.integers(0, 2, 200).astype(bool)
        tables = gate_tables(expr, masks)
        instructions = select_instructions(tree_shape(expr), tables, 1, pooled=pooled)
        for tree in range(3):
            registers = dict(enumerate(rng.integers(0, 2, (40, 200)).astype(bool)))
            registers[ACCUMULATOR] = previous
            for instruction in instructions:
                first, second, third = (
                    values[operand.index] if isinstance(operand, Leaf) else registers[operand]
                    for operand in (instruction.target, instruction.second, instruction.third)
                )
                index = first.astype(int) << 2 | second.astype(int) << 1 | third
                table = 0xAA if instruction.table is None else instruction.table[tree]
                registers[instruction.target] = (table >> index & 1).astype(bool)
            words = np.where(values, np.uint64(0xFFFF_FFFF_FFFF_FFFF), np.uint64(0))
            expected = evaluate(expr, masks[tree], words).astype(bool)
            np.testing.assert_array_equal(
                registers[ACCUMULATOR], expected | previous if pooled else expected
            )
