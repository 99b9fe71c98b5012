"""Write nodes and constants of ONNX's standard operators.

Channels are axis 1 of each tensor, behind the batch axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class OperatorWriter:
    """Collects nodes and initializers. Equal constants are kept once.

    Attributes:
        nodes: the NodeProtos, in topological order.
        initializers: the TensorProtos of constants.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def add(self, op_type: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Append a node with one output, and return the output's name."""
        from onnx import helper

        output = output or f"_{op_type.lower()}{len(self.nodes) + 1}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], **attributes))
        return output

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        """Return the name of an initializer that holds `array`."""
        from onnx import numpy_helper

        values = np.ascontiguousarray(np.asarray(array, dtype))
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._constants:
            name = f"_constant{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(values, name))
            self._constants[key] = name
        return self._constants[key]

    def reshape(self, x: str, shape: Sequence[int], output: str = "") -> str:
        """Return `x` in another shape per sample."""
        return self.add("Reshape", [x, self.constant([0, *shape])], output)

    def gather(self, x: str, channels: Ints) -> str:
        """Return the given channels of `x`, in the given order."""
        return self.add("Gather", [x, self.constant(channels, np.int32)], axis=1)

    def concat(self, parts: Sequence[str]) -> str:
        """Return the channels of all parts, one part after the other."""
        return parts[0] if len(parts) == 1 else self.add("Concat", parts, axis=1)

    def complement(self, x: str, mask: npt.NDArray[np.bool_], rank: int) -> str:
        """Return `x`, of `rank` axes behind the channels, with the channels of `mask` inverted."""
        if not mask.any():
            return x
        if mask.all():
            return self.add("Not", [x])
        return self.add("Xor", [x, self.constant(mask.reshape(-1, *(1,) * rank), np.bool_)])
