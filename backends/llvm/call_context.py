"""The context of a call: an array of 8-byte words that tells kernels about the batch.

It begins with the words of `ContextWord`. After them come a pointer and a stride per input, a
pointer per output, and a pointer and a stride per input for samples that were widened to a whole
tile of features.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ContextWord(IntEnum):
    """Words at the beginning of the context."""

    SAMPLES = 0
    START = 1
    ERROR = 2
    FIRST_SLOT = 3


@dataclass(frozen=True)
class ContextLayout:
    """Where the context holds the arrays of a call, for numbers of inputs and of outputs.

    A slot is the index of a word.
    """

    inputs: int
    outputs: int

    def input_slot(self, index: int) -> int:
        """Return the slot of an input's pointer.

        The word after it holds the bytes from one sample to the next.
        """
        return ContextWord.FIRST_SLOT + 2 * index

    def output_slot(self, index: int) -> int:
        """Return the slot of an output's pointer."""
        return self.input_slot(self.inputs) + index

    def widened_slot(self, index: int) -> int:
        """Return the slot of an input's widened samples, of a pointer and a stride."""
        return self.output_slot(self.outputs) + 2 * index

    @property
    def words(self) -> int:
        """The length of a context that has slots for widened samples."""
        return self.widened_slot(self.inputs)
