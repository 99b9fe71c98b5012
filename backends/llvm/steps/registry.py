"""The kind of each step of a plan, by the step's class. A new kind is added here."""

from __future__ import annotations

from typing import Any, Final

from lgir.backends.llvm.steps.chain import ChainKind
from lgir.backends.llvm.steps.cone import ConeKind
from lgir.backends.llvm.steps.count import CountKind
from lgir.backends.llvm.steps.export import ExportKind
from lgir.backends.llvm.steps.fused import FusedKind
from lgir.backends.llvm.steps.gate import GateKind
from lgir.backends.llvm.steps.pack import PackKind
from lgir.backends.llvm.steps.step_kind import StepKind
from lgir.backends.llvm.steps.sum import SumKind
from lgir.backends.lowering.steps import (
    ChainStep,
    ConeStep,
    CountStep,
    ExportStep,
    FusedStep,
    GateStep,
    PackStep,
    Step,
    SumStep,
)

_KINDS: Final[dict[type[Step], StepKind[Any]]] = {
    PackStep: PackKind(),
    GateStep: GateKind(),
    ChainStep: ChainKind(),
    FusedStep: FusedKind(),
    ConeStep: ConeKind(),
    CountStep: CountKind(),
    SumStep: SumKind(),
    ExportStep: ExportKind(),
}


def kind_of(step: Step) -> StepKind[Any]:
    """Return the kind of a step."""
    return _KINDS[type(step)]
