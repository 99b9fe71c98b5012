"""What each kind of step must tell: its records, its memory, and its cost.

A module of this package holds one kind: the text of its kernels, the layout of its records, how a
planned step becomes records with tables, and what it costs. `registry` finds the kind of a step.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.block_kernels import BlockKernels
from lgir.backends.llvm.call_context import ContextLayout
from lgir.backends.llvm.records import StepRecord
from lgir.backends.llvm.steps.cost import CostTarget
from lgir.roofline import StepCost
from lgir.samples import Array

S = TypeVar("S")


class CallForm(NamedTuple):
    """What the first and the last steps of a call depend on.

    Attributes:
        sample_kinds: one per input: "u8" or "f32" for arrays of bytes or floats (either for a bit
            input), "bits" for samples packed to rows of 64-bit words, see `lgir.packed`.
        result: "scores" for all outputs, "labels" or "counts" for the first output alone.
    """

    sample_kinds: tuple[str, ...]
    result: str = "scores"


@dataclass(frozen=True)
class ProgramContext:
    """What the steps of one program share while their records are made.

    Attributes:
        kernels: the kernels needed so far.
        slots: where a call's context holds arrays.
        scratch: the offset in bytes of the memory behind the planes.
        unread_plane: a plane that nothing reads.
        byte_outputs: bit outputs are bytes (samples, elements) and not planes.
        read_by_trees: (planes,) which planes trees of a forest have read so far.
    """

    kernels: BlockKernels
    slots: ContextLayout
    scratch: int
    unread_plane: int
    byte_outputs: bool
    read_by_trees: npt.NDArray[np.bool_]


class StepKind(abc.ABC, Generic[S]):
    """One kind of step; it has no state.

    Attributes:
        name: the kind's name in reports.
        evaluates_gates: whether its time is part of the time of gates.
        depends_on_call: whether its records differ between forms of a call.
    """

    name: ClassVar[str]
    evaluates_gates: ClassVar[bool] = False
    depends_on_call: ClassVar[bool] = False

    def form(self, step: S, call: CallForm) -> str | None:
        """Return what `records` needs to know of a call; None if it does not need the step."""
        return ""

    @abc.abstractmethod
    def records(self, step: S, form: str, program: ProgramContext) -> list[StepRecord]:
        """Return the records of a step, in order, and name the kernels that they need."""

    def scratch_bytes(self, step: S) -> int:
        """Return the bytes behind the planes that the step needs in any form."""
        return 0

    @abc.abstractmethod
    def cost(self, step: S, samples: list[Array], target: CostTarget) -> StepCost:
        """Return what the step does for a block of `samples`, one array (N, *shape) per input."""
