"""Netlist: the nets that tracing makes, a layer at a time.

Net 0 is False. A layer gives one net to each element of a tensor, in row-major order, whatever the
element computes: also where a gate degenerates at an edge. So a layer's regularity survives, and
`lgir.frontend.trace.rolling` can read it off afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.frontend.trace.rows import Ints

Words = npt.NDArray[np.uint64]

MAX_INPUTS: Final = 6
FALSE: Final = 0


@dataclass(frozen=True)
class Origin:
    """Where in the module something was computed: for names and messages.

    Attributes:
        path: of the submodule, such as "features.3.conv"; "" for the module itself.
        operator: the ATen operator's name.
        line: the module's source line, "file.py:12: a & b", or "".
    """

    path: str = ""
    operator: str = ""
    line: str = ""

    def __str__(self) -> str:
        where = f"module {self.path!r}" if self.path else "the module"
        return f"{where}, {self.operator}" + (f" ({self.line})" if self.line else "")


@dataclass(eq=False)
class Layer:
    """One net per element of a tensor.

    Attributes:
        base: the first net.
        shape: of the tensor, without a batch axis.
        kind: "input", "threshold" or "gates".
        origin: of the operation that computed it.
        nets: (n, k) what each element reads, descending, 0 where unused; k is 0 for inputs.
        tables: (n,) uint64, bit i the value if i is the sum of bit j of the inputs, shifted by j.
        input: number of the graph input that an input or threshold layer belongs to.
        element, level: for thresholds, the element of that input and what it must exceed.
        views: other shapes in which the module reads the same elements in order.
        lanes: how many of the last axes are the partial results of one element.
    """

    base: int
    shape: tuple[int, ...]
    kind: str
    origin: Origin
    nets: Ints
    tables: Words
    input: int = 0
    element: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    level: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    views: list[tuple[int, ...]] = field(default_factory=list)
    lanes: int = 0

    @property
    def size(self) -> int:
        return len(self.tables)

    @property
    def all_nets(self) -> Ints:
        return np.arange(self.base, self.base + self.size)


class Netlist:
    """Layers in topological order."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.size = 1  # net 0 is False

    def add_input(self, number: int, shape: tuple[int, ...], origin: Origin) -> Layer:
        size = int(np.prod(shape, dtype=np.int64))
        return self._add(
            shape, "input", origin, np.zeros((size, 0), np.int64), np.zeros(size, np.uint64), number
        )

    def add_thresholds(
        self, number: int, element: Ints, level: npt.NDArray[np.float32], origin: Origin
    ) -> Layer:
        size = len(element)
        layer = self._add(
            (size,), "threshold", origin, np.zeros((size, 0), np.int64), np.zeros(size, np.uint64),
            number,
        )  # fmt: skip
        layer.element, layer.level = element, level
        return layer

    def add_gates(self, shape: tuple[int, ...], nets: Ints, tables: Words, origin: Origin) -> Layer:
        return self._add(shape, "gates", origin, nets, tables)

    def _add(
        self,
        shape: tuple[int, ...],
        kind: str,
        origin: Origin,
        nets: Ints,
        tables: Words,
        number: int = 0,
    ) -> Layer:
        layer = Layer(self.size, shape, kind, origin, nets, tables, number)
        self.layers.append(layer)
        self.size += layer.size
        return layer

    def layer_of(self, net: int) -> Layer:
        bases = [layer.base for layer in self.layers]
        return self.layers[int(np.searchsorted(bases, net, side="right")) - 1]

    def layer_numbers(self, nets: Ints) -> Ints:
        """For each net the number of its layer; -1 for net 0."""
        bases = np.array([layer.base for layer in self.layers], np.int64)
        return np.searchsorted(bases, nets, side="right") - 1


def table_words(bits: npt.NDArray[np.bool_]) -> Words:
    """(n, 2**k) values of functions -> (n,) uint64 tables, column i being bit i."""
    words = np.zeros(len(bits), np.uint64)
    for column in range(bits.shape[1]):
        words |= bits[:, column].astype(np.uint64) << np.uint64(column)
    return words


def table_bits(words: Words, k: int) -> npt.NDArray[np.bool_]:
    """Inverse of `table_words`: (n,) tables of k inputs -> (n, 2**k) bool."""
    places = np.arange(1 << k, dtype=np.uint64)
    return (words[:, None] >> places & np.uint64(1)).astype(bool)
