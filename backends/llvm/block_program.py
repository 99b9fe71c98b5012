"""A plan as a program: kernels for the templates it needs, and step records with row tables.

The program is data that the fixed loop `lgir_run` interprets, so that compiling a network costs
what its distinct templates cost.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lgir.backends.llvm.avx512.register_allocation import MAX_PLANES
from lgir.backends.llvm.block_kernels import BlockKernels
from lgir.backends.llvm.call_context import ContextLayout
from lgir.backends.llvm.llvm_text import PLANE_BYTES
from lgir.backends.llvm.records import StepRecord
from lgir.backends.llvm.run_loop import run_loop_kernel
from lgir.backends.llvm.steps.registry import kind_of
from lgir.backends.llvm.steps.step_kind import CallForm, ProgramContext
from lgir.backends.llvm.tree_code import NO_TREE_CODE, compile_trees
from lgir.backends.lowering.steps import Plan
from lgir.errors import BackendError

_ADDRESSABLE_PLANES: Final = (1 << 32) // PLANE_BYTES


class BlockProgram:
    """Kernels and records of a plan, without an address in them.

    `link_records` or an object file gives the addresses. Kernels for inputs and outputs are added
    when a sequence first needs them.

    Args:
        byte_outputs: bit outputs are bytes (samples, elements) and not planes.
        tree_code: give trees of convolutions code of their own, for AVX-512, if they are few enough
            to address; see `lgir.backends.llvm.avx512.tree_functions`.

    Attributes:
        kernels: the kernels needed so far.
        code: machine code that records call, position-independent.
        tree_code: whether trees have code of their own if they can.
        gate_records: the steps that evaluate gates.
        slots: where a call's context holds arrays.
        workspace_bytes: planes, and scratch memory behind them.

    Raises:
        BackendError: the plan needs more planes than 32-bit offsets can address.
    """

    def __init__(
        self, plan: Plan, *, ternary: bool, byte_outputs: bool = False, tree_code: bool = False
    ) -> None:
        if plan.num_planes >= _ADDRESSABLE_PLANES:
            raise BackendError(
                f"the network needs {plan.num_planes:,} planes of {PLANE_BYTES} bytes at once; "
                f"at most {_ADDRESSABLE_PLANES:,} can be addressed"
            )
        self.plan = plan
        self.ternary = ternary
        self.kernels = BlockKernels(ternary=ternary)
        self.kernels.add("lgir_run", run_loop_kernel())
        self.slots = ContextLayout(len(plan.graph.inputs), len(plan.graph.outputs))
        # Behind the planes there is one that nothing reads, and then scratch memory.
        scratch = (plan.num_planes + 1) * PLANE_BYTES
        self._context = ProgramContext(
            kernels=self.kernels,
            slots=self.slots,
            scratch=scratch,
            unread_plane=plan.num_planes,
            byte_outputs=byte_outputs,
            read_by_trees=np.zeros(plan.num_planes, bool),
        )
        self.tree_code = tree_code and plan.num_planes <= MAX_PLANES
        trees = compile_trees(plan.steps, self.kernels) if self.tree_code else NO_TREE_CODE
        self.code = trees.code
        self._records: dict[tuple[int, str], list[StepRecord]] = {}
        self.gate_records: list[StepRecord] = []
        for index, step in enumerate(plan.steps):
            kind = kind_of(step)
            if kind.depends_on_call:
                continue
            if index in trees.covered:
                records = [trees.records[index]] if index in trees.records else []
            else:
                records = kind.records(step, "", self._context)
            self._records[index, ""] = records
            if kind.evaluates_gates:
                self.gate_records += records
        needs = (kind_of(step).scratch_bytes(step) for step in plan.steps)
        self.workspace_bytes = scratch + max(needs, default=0)

    def sequence(self, call: CallForm, kind: str | None = None) -> list[StepRecord]:
        """Return the records of a call, in order, or those of steps of one kind alone."""
        records: list[StepRecord] = []
        for index, step in enumerate(self.plan.steps):
            step_kind = kind_of(step)
            form = step_kind.form(step, call)
            if form is None or kind not in (None, step_kind.name):
                continue
            if (index, form) not in self._records:
                built = step_kind.records(step, form, self._context)
                # Threads may do this side by side: all take the records and tables of one thread.
                self._records.setdefault((index, form), built)
            records += self._records[index, form]
        return records
