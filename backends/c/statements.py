"""Style "statements": a C statement for each gate, as the exporters of training frameworks write.

Compilers take long for it and the code is large: the style is for small networks and comparison.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lgir.backends.c.expressions import expression_inputs, gate_expression
from lgir.backends.lowering.steps import ExportStep, GateStep, Step, SumStep
from lgir.errors import BackendError


def gate_statements(steps: Sequence[Step], later: Sequence[Step]) -> list[str]:
    """Return statements that evaluate those gates of `steps` that a result depends on.

    Args:
        steps: steps in order.
        later: the steps that follow. The planes that they read are written at the end.

    Raises:
        BackendError: a step belongs to a convolution.
    """
    gates: list[tuple[list[int], int]] = []
    for step in steps:
        if not isinstance(step, GateStep):
            raise BackendError(
                "C statements are for networks without convolutions; run pass 'unroll' last, "
                "or take tables: style 'tables', backend 'c'"
            )
        tables = np.full(len(step.rows), step.table) if step.tables is None else step.tables
        gates += zip(step.rows.tolist(), tables.tolist(), strict=True)
    read_later = {plane for step in later for plane in _planes_read(step)}
    values: dict[int, str] = {}
    lines = []
    for g, is_live in enumerate(_live_gates(gates, read_later)):
        if is_live:
            (*operands, result), table = gates[g]
            inputs = [values.get(plane, f"p[{plane}]") for plane in operands]
            lines.append(f"const word g{g} = {gate_expression(table, inputs)};")
            values[result] = f"g{g}"
    lines += [f"p[{plane}] = {values[plane]};" for plane in sorted(read_later & values.keys())]
    return lines or ["(void)p;"]


def _live_gates(gates: Sequence[tuple[list[int], int]], read_later: set[int]) -> list[bool]:
    """Return for each gate whether a plane of `read_later` depends on it.

    The walk goes backwards, because a plane may hold the results of several gates in turn.
    """
    used_later, live = set(read_later), [False] * len(gates)
    for g in range(len(gates) - 1, -1, -1):
        (*operands, result), table = gates[g]
        live[g] = result in used_later
        if live[g]:
            used_later.remove(result)
            used_later.update(operands[i] for i in expression_inputs(table, len(operands)))
    return live


def _planes_read(step: Step) -> set[int]:
    """Return the planes that a step of a network without convolutions reads."""
    if isinstance(step, GateStep):
        return set(step.rows[:, :-1].ravel().tolist())
    if isinstance(step, (SumStep, ExportStep)):
        return set(step.planes.ravel().tolist())
    return set()
