"""Steps that call machine code: runs of convolution trees that have AVX-512 code of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.avx512.tree_functions import tree_geometry, write_tree_functions
from lgir.backends.llvm.block_kernels import BlockKernels
from lgir.backends.llvm.llvm_text import FunctionWriter
from lgir.backends.llvm.records import KERNEL_PARAMS, POINTER, RecordLayout, StepRecord
from lgir.backends.lowering.steps import ConeStep, Step

RECORD: Final = RecordLayout(function=POINTER)


@dataclass(frozen=True)
class TreeCode:
    """Machine code of the runs of trees among the steps of a plan.

    Attributes:
        code: position-independent, of all runs.
        records: the record of each run, by the index of its first step.
        covered: the indices of all steps that runs stand for.
    """

    code: npt.NDArray[np.uint8]
    records: dict[int, StepRecord]
    covered: frozenset[int]


NO_TREE_CODE: Final = TreeCode(np.zeros(0, np.uint8), {}, frozenset())


def compile_trees(steps: Sequence[Step], kernels: BlockKernels) -> TreeCode:
    """Return machine code for all steps whose trees can have it."""
    runs = _tree_runs(steps)
    if not runs:
        return NO_TREE_CODE
    functions = write_tree_functions(list(runs.values()))
    starts = np.cumsum([0, *map(len, functions)]).tolist()
    kernel = kernels.use("call_code", call_kernel)
    records = {
        first: RECORD.record(kernel, code={"function": start})
        for first, start in zip(runs, starts, strict=False)
    }
    covered = frozenset(first + i for first, run in runs.items() for i in range(len(run)))
    return TreeCode(np.concatenate([np.zeros(0, np.uint8), *functions]), records, covered)


def _tree_runs(steps: Sequence[Step]) -> dict[int, list[ConeStep]]:
    """Return runs of steps whose trees can have code of their own, by the index of the first.

    The steps of a run follow one another and are independent.
    """
    runs: dict[int, list[ConeStep]] = {}
    stage = None
    for i, step in enumerate(steps):
        if not isinstance(step, ConeStep) or tree_geometry(step) is None:
            stage = None
            continue
        if step.stage != stage:
            run = runs[i] = []
        run.append(step)
        stage = step.stage
    return runs


def call_kernel(name: str, *, ternary: bool) -> str:
    """Write the kernel that calls machine code `void (planes)` in the System V convention."""
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    f.emit(f"call x86_64_sysvcc void {RECORD.load(f, 'function')}(ptr %planes)")
    f.emit("ret void")
    return f.text()
