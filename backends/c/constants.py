"""The constants of a C file: tables of numbers and structures, equal ones written once."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.backends.c.text import float_literal
from lgir.ir.thresholds import byte_levels

_NUMBERS_PER_LINE: Final = 16


class ConstantPool:
    """Constants in the order in which they were added.

    Args:
        plane_bytes: size of C type `plane`, in bytes.

    Attributes:
        table_bytes: size of all tables, in bytes.
    """

    def __init__(self, plane_bytes: int) -> None:
        self.table_bytes = 0
        self._element_bytes = {
            "uint8_t": 1,
            "int16_t": 2,
            "float": 4,
            "uint64_t": 8,
            "plane": plane_bytes,
        }
        self._names: dict[str, str] = {}  # by definition, in which $ stands for the name

    def add(self, name: str, definition: str) -> str:
        """Return the name of a constant, `name` with a number; `$` is the name in `definition`."""
        return self._names.setdefault(definition, f"{name}_{len(self._names)}")

    def add_table(self, name: str, c_type: str, values: npt.NDArray[Any]) -> str:
        """Return the name of an array of `values`, row-major, with elements of `c_type`."""
        literal = {"float": float_literal, "uint64_t": "{:#x}u".format}.get(c_type, str)
        numbers = list(map(literal, values.ravel().tolist()))
        lines = [
            ", ".join(numbers[i : i + _NUMBERS_PER_LINE])
            for i in range(0, len(numbers), _NUMBERS_PER_LINE)
        ]
        body = ",\n    ".join(lines)
        count = len(self._names)
        unique = self.add(name, f"static const {c_type} $[] = {{\n    {body}\n}};")
        if len(self._names) > count:
            self.table_bytes += values.size * self._element_bytes[c_type]
        return unique

    def add_levels(self, dtype: str, levels: npt.NDArray[np.float32]) -> tuple[str, bool]:
        """Return the name of a table of thresholds, and whether elements differ in theirs.

        Args:
            dtype: "u8" or "f32", that of the samples.
            levels: thresholds, float32 (levels, elements).
        """
        values: npt.NDArray[Any] = levels
        c_type = "float"
        if dtype == "u8":
            values, c_type = byte_levels(levels), "int16_t"
        differ = bool((values != values[:, :1]).any())
        return self.add_table("levels", c_type, values if differ else values[:, 0]), differ

    def definitions(self) -> list[str]:
        """Return the text of every constant."""
        return [text.replace("$", name, 1) for text, name in self._names.items()]
