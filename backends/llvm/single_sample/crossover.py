"""Estimate the batch size up to which the single-sample program is faster than a block.

The block program takes the same time for one sample as for 512, so the comparison needs only the
estimated cycles of one block and of one sample. The constants are rough measurements; see
docs/design/single-sample.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np

from lgir.backends.llvm.single_sample.program import SingleSampleProgram
from lgir.backends.llvm.target import Target
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Reshape

MAX_SAMPLES: Final = 16
"""The largest batch that is ever evaluated sample by sample."""


@dataclass(frozen=True)
class BlockCosts:
    """Estimated cycles of the block program, independent of the number of samples.

    Every figure but `call` and `python_call` is for 512-bit registers.

    Attributes:
        call: cycles that a call takes beyond those of a single-sample call.
        python_call: further cycles of a call from Python, which allocates arrays for a block and
            for the words that it packs.
        convolution_gate: cycles per two-input gate and position.
        machine_code_gate: the same if trees have machine code of their own (AVX-512).
        dense_gate: cycles per two-input gate of a dense layer, which moves lines between caches.
        number: cycles per number that is packed or bit that is counted.
        exported_bit: cycles per bit of an output.
        slowdown: factor of all cycles per block, by the bits of the widest registers.
    """

    call: float = 20_000
    python_call: float = 60_000
    convolution_gate: float = 1.5
    machine_code_gate: float = 0.9
    dense_gate: float = 2.5
    number: float = 8
    exported_bit: float = 100
    slowdown: Mapping[int, float] = field(
        default_factory=lambda: MappingProxyType({512: 1.0, 256: 1.8, 128: 3.2})
    )


BLOCK_COSTS: Final = BlockCosts()
"""The costs as measured on Zen 4."""


def crossover(
    graph: Graph,
    program: SingleSampleProgram,
    *,
    python: bool = False,
    costs: BlockCosts = BLOCK_COSTS,
) -> int:
    """Return the largest batch that `program` evaluates faster than a block, 0 to MAX_SAMPLES.

    `python` says that calls come from Python, whose block calls cost more than those from C.
    """
    call = costs.call + (costs.python_call if python else 0)
    block = call + block_cycles(graph, program.target, costs)
    return min(MAX_SAMPLES, int(block / program.cycles))


def block_cycles(graph: Graph, target: Target, costs: BlockCosts = BLOCK_COSTS) -> float:
    """Return the estimated cycles that the block program takes for one block on `target`."""
    cycles = 0.0
    gate_at_position = costs.machine_code_gate if target.ternary else costs.convolution_gate
    for node in graph.nodes:
        if isinstance(node.op, Logic):
            arity = node.op.body.arity().astype(np.int64)
            two_input_gates = (1 << arity).sum() / 4
            positions = node.op.positions
            cost = gate_at_position * positions if positions > 1 else costs.dense_gate
            cycles += two_input_gates * cost
        elif not isinstance(node.op, Reshape):
            cycles += costs.number * graph.values[node.inputs[0]].size
    outputs = (graph.values[name] for name in graph.outputs)
    cycles += costs.exported_bit * sum(v.size for v in outputs if v.dtype == "bit")
    return costs.slowdown[target.vector_bits] * cycles
