"""A plan as a program for the GPU: launches of kernels over tables of rows.

The source writes this list of launches as C++, and a process that runs the kernels queues it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lgir.backends.cuda.builder import ProgramBuilder
from lgir.backends.cuda.dependences import IndependentSteps, independent_steps
from lgir.backends.cuda.gates import GateLowering
from lgir.backends.cuda.kernel import CudaKernel
from lgir.backends.cuda.launch import ConstantTable, Launch
from lgir.backends.cuda.packing import add_packing
from lgir.backends.cuda.scoring import add_export, add_scores
from lgir.backends.cuda.trees import TreeLowering, TreeShape
from lgir.backends.lowering.options import LoweringOptions
from lgir.backends.lowering.plan import make_plan
from lgir.backends.lowering.steps import ConeStep, ExportStep, GateStep, PackStep, Plan, SumStep
from lgir.errors import BackendError
from lgir.ir.graph import Graph


@dataclass(frozen=True, eq=False)
class LaunchProgram:
    """Kernels, tables and launches of a plan.

    Attributes:
        plane_dtype: the type of plane numbers.
        kernels: in order of first use, as are tables.
        trees: shapes of trees, by number.
        launches: in order. A launch that packs samples says what replaces it.
        packed_planes: planes of each graph input if the caller packs it.
    """

    plan: Plan
    plane_dtype: np.dtype[Any]
    kernels: tuple[CudaKernel, ...]
    tables: tuple[ConstantTable, ...]
    trees: tuple[TreeShape, ...]
    launches: tuple[Launch, ...]
    packed_planes: tuple[int, ...]


LOWERING_OPTIONS: Final = LoweringOptions()
"""No option: each saves traffic of a CPU's caches, at the price of steps that depend on others."""


def build_program(graph: Graph) -> LaunchProgram:
    """Lower a graph to launches.

    Raises:
        BackendError: the graph cannot be lowered, or needs too many planes.
    """
    plan = make_plan(graph, LOWERING_OPTIONS)
    builder = ProgramBuilder(plan.num_planes, len(plan.graph.inputs))
    gates = GateLowering(builder, [s for s in plan.steps if isinstance(s, GateStep)])
    trees = TreeLowering(builder, [s for s in plan.steps if isinstance(s, ConeStep)])
    for part in independent_steps(plan):
        if isinstance(part, IndependentSteps):
            gates.add(part.gates)
            trees.add(part.trees)
        elif isinstance(part, PackStep):
            add_packing(builder, part)
        elif isinstance(part, SumStep):
            add_scores(builder, part)
        elif isinstance(part, ExportStep):
            add_export(builder, part)
        else:
            raise BackendError(f"the cuda backend lowers no {type(part).__name__}")
    return LaunchProgram(
        plan,
        builder.plane_dtype,
        tuple(builder.kernels.values()),
        tuple(builder.tables),
        tuple(trees.shapes.values()),
        tuple(builder.launches),
        tuple(builder.packed_planes),
    )
