"""A stand-in for `CudaDevice` of the Python runtime that runs kernels on this computer."""

from __future__ import annotations

import ctypes
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cuda_host.host import FOLDER, GXX
from lgir.backends.cuda.device import Dimensions, KernelArgument

_LAUNCHER = """
extern "C" int launch_{0}(const unsigned *dims, void **args)
{{
  return host_launch_pointers({0}, dims, args);
}}
"""


def host_code(source: str) -> bytes:
    """Return what stands for a cubin: a shared library of the kernels and a launcher for each."""
    kernels = re.findall(r"LGIR_KERNEL __launch_bounds__\(.*\)\nvoid (\w+)\(", source)
    with tempfile.TemporaryDirectory() as folder:
        path, library = Path(folder) / "kernels.cu", Path(folder) / "kernels.so"
        path.write_text(source + "".join(map(_LAUNCHER.format, kernels)))
        command = [*GXX, "-DLGIR_KERNELS_ONLY", "-I", str(FOLDER), str(path), "-o", str(library)]
        subprocess.run(command, check=True)
        return library.read_bytes()


class HostDevice:
    """Do the work of a device at once, and record allocations, streams and launches."""

    arch = "sm_90"

    def __init__(self) -> None:
        self.memory: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.streams: set[int] = set()
        self.launches = 0

    def enter(self) -> None: ...

    def load(self, code: bytes, names: Sequence[str]) -> dict[str, Any]:
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            file.write(code)
            file.flush()
            library = ctypes.CDLL(file.name)
        return {name: getattr(library, f"launch_{name}") for name in names}

    def allocate(self, size: int) -> int:
        block = ctypes.create_string_buffer(b"\xa5" * max(size, 1), max(size, 1) + 256)
        pointer = -(-ctypes.addressof(block) // 256) * 256
        self.memory[pointer] = block
        return pointer

    def free(self, pointer: int) -> None:
        del self.memory[pointer]

    def fill(self, pointer: int, byte: int, size: int, stream: int) -> None:
        ctypes.memset(pointer, byte, size)

    def upload(self, pointer: int, array: np.ndarray, stream: int) -> None:
        assert array.flags.c_contiguous
        ctypes.memmove(pointer, array.ctypes.data, array.nbytes)

    def download(self, array: np.ndarray, pointer: int, stream: int) -> None:
        assert array.flags.c_contiguous
        ctypes.memmove(array.ctypes.data, pointer, array.nbytes)

    def launch(
        self,
        kernel: Any,
        grid: Dimensions,
        block: Dimensions,
        args: Sequence[KernelArgument],
        stream: int,
    ) -> None:
        values = [kind(value) for value, kind in args]
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        assert kernel((ctypes.c_uint32 * 6)(*grid, *block), pointers) == 0
        self.streams.add(stream)
        self.launches += 1

    def synchronize(self, stream: int) -> None: ...
