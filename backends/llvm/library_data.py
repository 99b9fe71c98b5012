"""Constant data of a library's LLVM module: tables, machine code, and the records that use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.llvm_text import PLANE_BYTES
from lgir.backends.llvm.records import KERNEL_WORD, RECORD_WORDS, StepRecord

_CODE_NAME: Final = "@code"
_HEX: Final = np.array([f"\\{byte:02X}".encode() for byte in range(256)])


class ConstantTables:
    """The tables of all levels of a library; equal tables share one constant."""

    def __init__(self) -> None:
        self._names: dict[bytes, str] = {}

    def add(self, array: npt.NDArray[np.generic]) -> tuple[str, bytes]:
        """Return the name and the bytes of a table."""
        data = np.ascontiguousarray(array).tobytes()
        return self._names.setdefault(data, f"@table.{len(self._names)}"), data

    @property
    def size(self) -> int:
        """The bytes of all tables so far."""
        return sum(map(len, self._names))

    def size_of_new(self, sequences: Sequence[Sequence[StepRecord]]) -> int:
        """Return the bytes that the tables of some sequences of records would add."""
        tables = {t.tobytes() for steps in sequences for s in steps for t in s.tables.values()}
        return sum(map(len, tables - self._names.keys()))

    def text(self) -> str:
        """Return the definitions of all tables, with external linkage."""
        return "\n".join(
            byte_constant(name, table, linkage="") for table, name in self._names.items()
        )


class ConstantData:
    """Tables and machine code that the records of one level use.

    Args:
        tables: receives the tables.
        code: machine code that records call, position-independent.
    """

    def __init__(self, tables: ConstantTables, code: npt.NDArray[np.uint8]) -> None:
        self._tables = tables
        self._code = code.tobytes()
        self._used: dict[str, bytes] = {}

    @property
    def contents(self) -> list[bytes]:
        """The bytes of all tables so far, and of the code."""
        return [*self._used.values(), self._code]

    def declarations(self) -> list[str]:
        """Return declarations of the tables so far, and the definition of the code if any."""
        declarations = [f"{name} = external constant i8" for name in self._used]
        if self._code:
            # Linkers gather sections by name, and what is in this one is executed.
            declarations.append(byte_constant(_CODE_NAME, self._code, section=".text"))
        return declarations

    def records(self, name: str, steps: Sequence[StepRecord]) -> str:
        """Return the definition of linked records, and hold the tables that they point to."""
        records = [self._record(step) for step in steps]
        kind = f"<{{ {', '.join(kind for kind, _ in records)} }}>"
        value = f"<{{ {', '.join(f'{kind} {value}' for kind, value in records)} }}>"
        return f"{name} = internal constant {kind} {value}, align 8"

    def _record(self, step: StepRecord) -> tuple[str, str]:
        """Return the LLVM type and value of one record."""
        pointers = {word: self._table(table) for word, table in step.tables.items()}
        pointers[KERNEL_WORD] = f"@{step.kernel}"
        for word, offset in step.code.items():
            pointers[word] = f"getelementptr (i8, ptr {_CODE_NAME}, i64 {offset})"
        kinds = ["ptr" if i in pointers else "i64" for i in range(RECORD_WORDS)]
        values = [pointers.get(i, str(number)) for i, number in enumerate(step.fields.tolist())]
        fields = [f"{kind} {value}" for kind, value in zip(kinds, values, strict=True)]
        return f"<{{ {', '.join(kinds)} }}>", f"<{{ {', '.join(fields)} }}>"

    def _table(self, array: npt.NDArray[np.generic]) -> str:
        """Return the name of a constant with the bytes of a table."""
        name, data = self._tables.add(array)
        self._used[name] = data
        return name


def byte_constant(
    name: str, data: bytes, *, section: str | None = None, linkage: str = "internal "
) -> str:
    """Return the definition of constant bytes that begin a cache line."""
    text = _HEX[np.frombuffer(data, np.uint8)].tobytes().decode()
    kind = f"[{len(data)} x i8]"
    place = "" if section is None else f', section "{section}"'
    return f'{name} = {linkage}constant {kind} c"{text}"{place}, align {PLANE_BYTES}'
