"""Estimate the batch size up to which the single-sample program is faster than a block.

The block program takes the same time for one sample as for 512, so the comparison needs only the
estimated cycles of one block and of one sample. The constants are rough measurements; see
docs/design/single-sample.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lgir.backends.llvm.single_sample.costs import ZEN4, CycleCosts
from lgir.backends.llvm.target import Target
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Reshape

if TYPE_CHECKING:
    from lgir.backends.llvm.single_sample.program import SingleSampleProgram

MAX_SAMPLES: Final = 16
"""The largest batch that is ever evaluated sample by sample."""


def crossover(
    graph: Graph,
    program: SingleSampleProgram,
    *,
    python: bool = False,
    costs: CycleCosts = ZEN4,
) -> int:
    """Return the largest batch that `program` evaluates faster than a block, 0 to MAX_SAMPLES.

    `python` says that calls come from Python, whose block calls cost more than those from C.
    """
    call = costs.block_call + (costs.block_python_call if python else 0)
    block = call + block_cycles(graph, program.target, costs)
    return min(MAX_SAMPLES, int(block / program.cycles))


def block_cycles(graph: Graph, target: Target, costs: CycleCosts = ZEN4) -> float:
    """Return the estimated cycles that the block program takes for one block on `target`."""
    cycles = 0.0
    gate_at_position = (
        costs.block_machine_code_gate if target.ternary else costs.block_position_gate
    )
    for node in graph.nodes:
        if isinstance(node.op, Logic):
            arity = node.op.body.arity().astype(np.int64)
            two_input_gates = (1 << arity).sum() / 4
            positions = node.op.positions
            cost = gate_at_position * positions if positions > 1 else costs.block_dense_gate
            cycles += two_input_gates * cost
        elif not isinstance(node.op, Reshape):
            cycles += costs.block_number * graph.values[node.inputs[0]].size
    outputs = (graph.values[name] for name in graph.outputs)
    cycles += costs.block_output_bit * sum(v.size for v in outputs if v.dtype == "bit")
    return costs.block_slowdown[target.vector_bits] * cycles
