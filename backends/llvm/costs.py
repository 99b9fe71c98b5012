"""The costs of a plan's steps; `steps` has those of each kind."""

from __future__ import annotations

from dataclasses import replace

from lgir.backends.llvm.steps.cost import CostTarget
from lgir.backends.llvm.steps.registry import kind_of
from lgir.backends.lowering.steps import Plan
from lgir.roofline import StepCost
from lgir.samples import Array


def step_costs(
    plan: Plan, samples: list[Array], *, ternary: bool, tree_code: bool = False
) -> list[StepCost]:
    """Return the cost of each step for a block of 512 samples.

    Args:
        samples: one array (N, *shape) per input, whose blocks are read in turn.
        ternary: whether the target has an instruction for any function of three planes.
        tree_code: whether trees of convolutions have machine code of their own if they can.
    """
    target = CostTarget(ternary, tree_code)
    costs = []
    for step in plan.steps:
        kind = kind_of(step)
        cost = kind.cost(step, samples, target)
        costs.append(replace(cost, evaluates_gates=kind.evaluates_gates))
    return costs
