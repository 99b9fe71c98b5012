"""The types of the IR: named values, their dtypes and shapes, and the numbering of nets.

A net is one bit inside a body of gates. Net ids are integers: 0 is the constant False, 1 is the
constant True, and the taps of a body follow from `FIRST_TAP` on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

Shape = tuple[int, ...]

DTYPES: Final = ("bit", "u8", "f32", "i32")

FALSE: Final = 0
TRUE: Final = 1
FIRST_TAP: Final = 2


@dataclass(frozen=True)
class Value:
    """A named tensor: `shape` is without the batch axis, `dtype` is one of `DTYPES`."""

    name: str
    dtype: str
    shape: Shape

    @property
    def size(self) -> int:
        """Return the number of elements per sample."""
        return math.prod(self.shape)

    @property
    def type(self) -> str:
        """Return the type as the text form writes it, for example `bit[16,14,14]`."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    def __str__(self) -> str:
        return f"%{self.name} : {self.type}"
