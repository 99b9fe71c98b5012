"""What a step is to the compiled code: a record of 8-byte words, and tables that it points to.

Every kernel has the form `void (planes, step, context)`. Rows are tables of 32-bit words: plane
offsets in bytes, and masks of 0 or -1. So code depends on shapes alone, and wiring is data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.llvm_text import FunctionWriter

KERNEL_PARAMS: Final = "ptr noalias %planes, ptr noalias readonly %step, ptr noalias %context"
RECORD_WORDS: Final = 32
"""Words of every record. The first is the kernel's address."""
KERNEL_WORD: Final = 0

RecordArray = npt.NDArray[np.int64]
Tables = dict[int, npt.NDArray[Any]]


class FieldType(Enum):
    """The type of a field of a record, by its name in LLVM."""

    INTEGER = "i64"
    FLOAT = "float"
    POINTER = "ptr"


INTEGER, FLOAT, POINTER = FieldType.INTEGER, FieldType.FLOAT, FieldType.POINTER


@dataclass(frozen=True)
class StepRecord:
    """One step as the run loop reads it, before it is linked.

    Attributes:
        kernel: the name of the kernel.
        fields: (RECORD_WORDS,) int64, the numbers among the fields.
        tables: the array that a field points to, by its word.
        code: the offset in the program's machine code that a field points to, by its word.
    """

    kernel: str
    fields: RecordArray
    tables: Tables = field(default_factory=dict)
    code: Mapping[int, int] = field(default_factory=dict)


class RecordLayout:
    """The fields of one kernel's record, from the word after the kernel's address on.

    A field is a type, or a type and a number of words for an array.

        layout = RecordLayout(rows=POINTER, count=INTEGER, space=(INTEGER, 3))
        layout.load(f, "count")                          # in the kernel: the text of a load
        layout.record("gate2_8", rows=table, count=5)    # in the program: the step's record
    """

    def __init__(self, **fields: FieldType | tuple[FieldType, int]) -> None:
        self._types: dict[str, FieldType] = {}
        self._words: dict[str, range] = {}
        start = KERNEL_WORD + 1
        for name, kind in fields.items():
            self._types[name], size = kind if isinstance(kind, tuple) else (kind, 1)
            self._words[name] = range(start, start + size)
            start += size
        if start > RECORD_WORDS:
            raise ValueError(f"a record has {RECORD_WORDS} words, these fields take {start}")

    def word(self, name: str, index: int = 0) -> int:
        """Return the word of a field, or of an element of an array."""
        return self._words[name][index]

    def load(self, f: FunctionWriter, name: str, index: int = 0) -> str:
        """Write the load of a field from `%step`, or of an element of an array."""
        return f.load_field("%step", self.word(name, index), self._types[name].value)

    def address(self, f: FunctionWriter, name: str) -> str:
        """Write the address of a field in `%step`."""
        return f.gep("%step", str(8 * self.word(name)))

    def record(
        self, kernel: str, /, *, code: Mapping[str, int] | None = None, **values: Any
    ) -> StepRecord:
        """Return the record of a step that `kernel` runs.

        Args:
            code: the offsets of machine code that pointers point to, by field.
            values: the table that a pointer points to, or the number or numbers of any other field.
                Words that get no value are 0.
        """
        fields = np.zeros(RECORD_WORDS, np.int64)
        tables: Tables = {}
        for name, value in values.items():
            words, kind = self._words[name], self._types[name]
            if kind is POINTER:
                tables[words.start] = value
            elif kind is FLOAT:
                fields[words.start] = int(np.float32(value).view(np.uint32))
            elif len(words) == 1:
                fields[words.start] = value
            else:
                fields[words.start : words.start + len(value)] = value
        offsets = {self.word(name): offset for name, offset in (code or {}).items()}
        return StepRecord(kernel, fields, tables, offsets)


def link_records(
    steps: Sequence[StepRecord], address: Mapping[str, int], code: int = 0
) -> RecordArray:
    """Return records (steps, RECORD_WORDS) for this process.

    The steps must outlive them, since records point to the steps' tables.

    Args:
        address: the addresses of kernels, by name.
        code: the address of the program's machine code.
    """
    records = np.zeros((len(steps), RECORD_WORDS), np.int64)
    for record, step in zip(records, steps, strict=True):
        record[:] = step.fields
        record[KERNEL_WORD] = address[step.kernel]
        for word, table in step.tables.items():
            record[word] = table.ctypes.data
        for word, offset in step.code.items():
            record[word] = code + offset
    return records
