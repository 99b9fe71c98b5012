"""The builder of a program: collects kernels, tables and launches while steps are lowered."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.backends.cuda.kernel import CudaKernel
from lgir.backends.cuda.launch import (
    WARP_LANES,
    ConstantTable,
    Launch,
    LaunchArgument,
    LaunchShape,
    TableArgument,
)
from lgir.errors import BackendError

_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "uint32_t": np.dtype(np.uint32),
    "uint64_t": np.dtype(np.uint64),
    "uint8_t": np.dtype(np.uint8),
    "int16_t": np.dtype(np.int16),
    "float": np.dtype(np.float32),
}


class ProgramBuilder:
    """Kernels, tables and launches in order of first use.

    Args:
        num_planes: planes of the plan, which decide the type of plane numbers.
        num_inputs: inputs of the graph.

    Attributes:
        plane_dtype: the type of plane numbers.
        kernels: by name.
        packed_planes: planes of each graph input if the caller packs it.

    Raises:
        BackendError: there are more planes than 32-bit indices of words can address.
    """

    def __init__(self, num_planes: int, num_inputs: int) -> None:
        if num_planes * WARP_LANES >= 1 << 32:
            raise BackendError(
                f"the network needs {num_planes:,} planes at once; at most "
                f"{(1 << 32) // WARP_LANES - 1:,} can be addressed"
            )
        self.plane_dtype: np.dtype[Any] = np.dtype(
            np.uint16 if num_planes <= 1 << 16 else np.uint32
        )
        self.kernels: dict[str, CudaKernel] = {}
        self.tables: list[ConstantTable] = []
        self.launches: list[Launch] = []
        self.packed_planes = [0] * num_inputs
        self._by_content: dict[bytes, ConstantTable] = {}

    def table(
        self, name: str, c_type: str, data: npt.NDArray[np.generic], seen_as: str | None = None
    ) -> TableArgument:
        """Return an argument for a table of `data` (rows, ...); tables of equal content are one.

        Args:
            name: what the table holds, part of its name.
            c_type: type of the elements.
            seen_as: the type that the kernel reads, such as a structure. None is `c_type`.
        """
        dtype = self.plane_dtype if c_type == "plane_t" else _DTYPES[c_type]
        array = np.ascontiguousarray(data.reshape(len(data), -1), dtype=dtype)
        key = f"{c_type}{array.shape}".encode() + array.tobytes()
        if key not in self._by_content:
            table = ConstantTable(f"t{len(self.tables)}_{name}", c_type, array)
            self._by_content[key] = table
            self.tables.append(table)
        return TableArgument(self._by_content[key], seen_as or c_type)

    def launch(
        self,
        kernel: CudaKernel,
        shape: LaunchShape,
        size: int,
        args: tuple[LaunchArgument, ...],
        note: str,
        *,
        positions: int = 1,
        packed: Launch | None = None,
    ) -> None:
        """Append a launch of `kernel`; see `Launch`."""
        name = self.use(kernel)
        self.launches.append(Launch(name, shape, size, args, note, positions, packed))

    def use(self, kernel: CudaKernel) -> str:
        """Return the name of `kernel`, which the source then holds."""
        return self.kernels.setdefault(kernel.name, kernel).name
