"""Truth tables as C expressions over words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache


def gate_expression(table: int, inputs: Sequence[str]) -> str:
    """Return a C expression for a truth table by Shannon's expansion.

    Args:
        table: bit i is the value for input index i, whose highest bit is the first input.
        inputs: C expressions of the inputs that need no brackets.
    """
    ones = (1 << (1 << len(inputs))) - 1
    if table in (0, ones):
        return "~(word)0" if table else "(word)0"
    x, rest, half = inputs[0], inputs[1:], 1 << (len(inputs) - 1)
    low, high = table & ((1 << half) - 1), table >> half
    full = (1 << half) - 1
    if low == high:
        return gate_expression(low, rest)
    if (low, high) == (0, full):
        return x
    if (low, high) == (full, 0):
        return f"~{x}"
    if low == high ^ full:
        return f"{x} ^ {_operand(low, rest)}"
    if low == 0:
        return f"{x} & {_operand(high, rest)}"
    if high == 0:
        return f"~{x} & {_operand(low, rest)}"
    if high == full:
        return f"{x} | {_operand(low, rest)}"
    if low == full:
        return f"~{x} | {_operand(high, rest)}"
    return f"({x} & {_operand(high, rest)}) | (~{x} & {_operand(low, rest)})"


def _operand(table: int, inputs: Sequence[str]) -> str:
    text = gate_expression(table, inputs)
    return f"({text})" if " " in text else text


@cache
def expression_inputs(table: int, fanin: int) -> tuple[int, ...]:
    """Return the indices of the inputs that `gate_expression` names."""
    names = [f"x{i}" for i in range(fanin)]
    occurring = re.findall(r"x\d", gate_expression(table, names))
    return tuple(i for i, name in enumerate(names) if name in occurring)
