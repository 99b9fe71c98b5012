"""Lower a single-sample plan for a target: kernels as LLVM text, and the records of its steps.

There is one kernel per kind of step and template. Shapes, wiring and operations are data of the
records, so a dozen kernels serve every network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lgir.backends.llvm.call_context import ContextLayout
from lgir.backends.llvm.records import StepRecord
from lgir.backends.llvm.single_sample.costs import ZEN4
from lgir.backends.llvm.single_sample.gather_kernels import lower_gather
from lgir.backends.llvm.single_sample.input_kernels import INPUT_KINDS, lower_compare, lower_load
from lgir.backends.llvm.single_sample.move_kernels import lower_move
from lgir.backends.llvm.single_sample.output_kernels import lower_count, lower_export
from lgir.backends.llvm.single_sample.plan import SingleSampleOptions, plan_single_sample
from lgir.backends.llvm.single_sample.sample_kernels import SampleKernels, kernel_module
from lgir.backends.llvm.single_sample.steps import (
    CompareLevels,
    CountRanges,
    DenseTrees,
    ExportBits,
    GatherBytes,
    LoadSample,
    MapTrees,
    MoveMaps,
    SampleStep,
)
from lgir.backends.llvm.single_sample.tree_kernels import lower_dense_trees, lower_map_trees
from lgir.backends.llvm.target import Target
from lgir.ir.graph import Graph


@dataclass(frozen=True)
class _InputRecords:
    """The records of a step that depends on the kind of samples of graph input `index`."""

    index: int
    by_kind: dict[str, StepRecord]


class SingleSampleProgram:
    """The kernels and records that evaluate `graph` for one sample at a time on `target`.

    Attributes:
        plan: the steps that the records hold.
        graph: the legalized graph.
        context: the slots of a call's context.
        context_words: the words of a call's context.
        kernels: the LLVM text of functions by name. No name is one of the block program's.
        workspace: the bytes of the workspace; those of the range `ones` are 0xFF before the first
            sample, and all others 0.
        cycles: the estimated cycles per sample.

    Raises BackendError if the workspace exceeds the 4 GiB that 32-bit offsets address.
    """

    def __init__(self, graph: Graph, target: Target) -> None:
        self.plan = plan_single_sample(graph, SingleSampleOptions(target.permutes))
        self.graph = self.plan.graph
        self.target = target
        self.workspace, self.ones = self.plan.workspace, self.plan.ones
        self.context = ContextLayout(len(self.graph.inputs), len(self.graph.outputs))
        self.context_words = self.context.output_slot(len(self.graph.outputs))
        kernels = SampleKernels(self.context, ternary=target.ternary)
        self._records = [_lower(step, kernels) for step in self.plan.steps]
        self.kernels = kernels.texts
        work = (step.cycles(ZEN4, ternary=target.ternary) for step in self.plan.steps)
        self.cycles = sum((ZEN4.step + cycles for cycles in work), 0.0)

    @property
    def modules(self) -> dict[str, str]:
        """The text of each kernel's own module, by the kernel's name."""
        ternary = self.target.ternary
        return {name: kernel_module(text, ternary=ternary) for name, text in self.kernels.items()}

    def sequence(self, kinds: Sequence[str]) -> list[StepRecord]:
        """Return the records of a call, in order, for inputs of these kinds of samples.

        A kind is "u8" or "f32", or "bits" for rows of 64-bit words.
        """
        return [
            record if isinstance(record, StepRecord) else record.by_kind[kinds[record.index]]
            for record in self._records
        ]


def _lower(step: SampleStep, kernels: SampleKernels) -> StepRecord | _InputRecords:
    match step:
        case LoadSample():
            return _lower_by_kind(step, lower_load, kernels)
        case CompareLevels():
            return _lower_by_kind(step, lower_compare, kernels)
        case GatherBytes():
            return lower_gather(step, kernels)
        case DenseTrees():
            return lower_dense_trees(step, kernels)
        case MapTrees():
            return lower_map_trees(step, kernels)
        case MoveMaps():
            return lower_move(step, kernels)
        case CountRanges():
            return lower_count(step, kernels)
        case ExportBits():
            return lower_export(step, kernels)


_InputStep = TypeVar("_InputStep", LoadSample, CompareLevels)


def _lower_by_kind(
    step: _InputStep,
    lower: Callable[[_InputStep, str, SampleKernels], StepRecord],
    kernels: SampleKernels,
) -> _InputRecords:
    """Return the records of a step for every kind of samples of its graph input."""
    kinds = INPUT_KINDS[step.dtype]
    return _InputRecords(step.index, {kind: lower(step, kind, kernels) for kind in kinds})
