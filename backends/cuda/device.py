"""The device: what the runtime asks of the CUDA driver, through the package cuda-bindings.

One small class checks the error of every call, and tests can put another one in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import BackendError

Dimensions = tuple[int, int, int]
KernelArgument = tuple[int | float, Any]
"""The value and the ctypes type of an argument."""

_SOURCE_HINT: Final = (
    "; the source needs neither: lgir export --format cuda, or lgir.backends.cuda.emit_cuda"
)


class CudaDevice:
    """The current CUDA device, or device 0, and its primary context.

    Pointers are addresses of device memory, and streams are handles of the driver; 0 is the default
    stream. Every method but `enter` needs the context to be current on its thread.

    Raises:
        BackendError: the package, the driver or a device is missing, or a call fails.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import driver
        except ImportError:
            raise BackendError(
                "backend 'cuda' runs through the package cuda-bindings, which is not installed: "
                f"pip install 'lgir[cuda]'{_SOURCE_HINT}"
            ) from None
        self._driver: Any = driver
        try:
            self._call("cuInit", 0)
            count = self._call("cuDeviceGetCount")
        except (RuntimeError, OSError) as error:  # the driver's library, or a device behind it
            reason = str(error).rstrip(".")
            raise BackendError(
                f"backend 'cuda' needs an NVIDIA driver and a GPU: {reason}{_SOURCE_HINT}"
            ) from None
        if not count:
            raise BackendError(f"backend 'cuda' needs a GPU; none is visible{_SOURCE_HINT}")
        current = self._call("cuCtxGetCurrent")
        if int(current):
            self._device = self._call("cuCtxGetDevice")
        else:
            self._device = self._call("cuDeviceGet", 0)
        self._context = self._call("cuDevicePrimaryCtxRetain", self._device)
        self.enter()

    def _call(self, name: str, *args: Any) -> Any:
        error, *results = getattr(self._driver, name)(*args)
        if error != self._driver.CUresult.CUDA_SUCCESS:
            _, text = self._driver.cuGetErrorString(error)
            reason = text.decode() if text else str(error)
            raise BackendError(f"{name}: {reason}")
        return results[0] if results else None

    def enter(self) -> None:
        """Make the context current on the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    @property
    def arch(self) -> str:
        """Return the architecture to compile for, such as "sm_90"."""
        attribute = self._driver.CUdevice_attribute
        major, minor = (
            self._call("cuDeviceGetAttribute", a, self._device)
            for a in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        return f"sm_{major}{minor}"

    def load(self, code: bytes, names: Sequence[str]) -> dict[str, Any]:
        """Return kernels of a cubin by name. The module stays loaded until the process ends."""
        module = self._call("cuModuleLoadData", code)
        return {n: self._call("cuModuleGetFunction", module, n.encode()) for n in names}

    def allocate(self, size: int) -> int:
        """Return a pointer to `size` bytes."""
        return int(self._call("cuMemAlloc", max(size, 1)))

    def free(self, pointer: int) -> None:
        """Release what `allocate` returned."""
        self._call("cuMemFree", pointer)

    def fill(self, pointer: int, byte: int, size: int, stream: int) -> None:
        """Queue setting `size` bytes to `byte`."""
        self._call("cuMemsetD8Async", pointer, byte, size, stream)

    def upload(self, pointer: int, array: npt.NDArray[np.generic], stream: int) -> None:
        """Queue copying a contiguous array to the device."""
        if array.nbytes:
            self._call("cuMemcpyHtoDAsync", pointer, array.ctypes.data, array.nbytes, stream)

    def download(self, array: npt.NDArray[np.generic], pointer: int, stream: int) -> None:
        """Queue copying from the device to a contiguous array."""
        if array.nbytes:
            self._call("cuMemcpyDtoHAsync", array.ctypes.data, pointer, array.nbytes, stream)

    def launch(
        self,
        kernel: Any,
        grid: Dimensions,
        block: Dimensions,
        args: Sequence[KernelArgument],
        stream: int,
    ) -> None:
        """Queue a kernel on a grid of blocks of threads."""
        values = (tuple(a[0] for a in args), tuple(a[1] for a in args))
        self._call("cuLaunchKernel", kernel, *grid, *block, 0, stream, values, 0)

    def synchronize(self, stream: int) -> None:
        """Wait until the stream's work is done."""
        self._call("cuStreamSynchronize", stream)
