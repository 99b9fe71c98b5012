"""A program on a device: tables and workspaces in its memory, launches queued on streams.

It queues the launches that the host part of the source makes, and `launch_dimensions` mirrors that
part's functions.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lgir.backends.cuda.device import CudaDevice, Dimensions, KernelArgument
from lgir.backends.cuda.kernel import POSITIONS_PER_THREAD, THREADS
from lgir.backends.cuda.launch import (
    WORD_BITS,
    ChunkSize,
    Launch,
    LaunchArgument,
    LaunchShape,
    PackedSamplesArgument,
    ResultsArgument,
    SamplesArgument,
    TableArgument,
)
from lgir.backends.cuda.program import LaunchProgram
from lgir.backends.lowering.steps import ONE_PLANE

_ALIGNMENT: Final = 256
_ELEMENT_BYTES: Final = {"uint8_t": 1, "float": 4}


def launch_dimensions(launch: Launch, words: int) -> tuple[Dimensions, Dimensions]:
    """Return the grid and the block of a launch on `words` words of the batch."""
    if launch.shape is LaunchShape.TILES:
        return (_ceil_div(launch.size, 32), 1, _ceil_div(words, 8)), (32, 8, 1)
    if launch.shape is LaunchShape.GROUPS:
        return (launch.size, 1, _ceil_div(words, 32)), (32, 8, 1)
    lanes = 32
    while lanes > 4 and lanes // 2 >= words:
        lanes //= 2
    y, columns = THREADS // lanes, _ceil_div(words, lanes)
    if launch.shape is LaunchShape.ROWS:
        return (_ceil_div(launch.size, y), 1, columns), (lanes, y, 1)
    while y > 1 and y // 2 >= launch.positions:
        y //= 2
    tiles = _ceil_div(launch.positions, POSITIONS_PER_THREAD * y)
    return (launch.size, tiles, columns), (lanes, y, 1)


def _ceil_div(n: int, divisor: int) -> int:
    return -(-n // divisor)


@dataclass(frozen=True)
class _Chunk:
    """The part of a call's batch that the workspace holds at once."""

    inputs: Sequence[int]
    outputs: Sequence[int]
    first: int
    samples: int
    packed_words: int


class LoadedProgram:
    """A program whose kernels and tables are on a device. Calls may come from many threads.

    Args:
        cubin: the program's kernels, compiled for the device.
        words: words per plane in a workspace. A batch of more than 32 times as many samples is
            split.
    """

    def __init__(
        self, program: LaunchProgram, cubin: bytes, device: CudaDevice, words: int
    ) -> None:
        self.program = program
        self.device = device
        self.words = words
        self._kernels = device.load(cubin, [kernel.name for kernel in program.kernels])
        self._lock = threading.Lock()
        self._memory: list[int] = []
        # Not at exit: the driver may be gone by then, and the memory with it.
        weakref.finalize(self, _free, device, self._memory).atexit = False
        self._tables = self._upload_tables()
        self._workspaces: dict[int, int] = {}  # by stream

    def _allocate(self, size: int) -> int:
        pointer = self.device.allocate(size)
        self._memory.append(pointer)
        return pointer

    def _upload_tables(self) -> dict[str, int]:
        """Copy the tables into one allocation; return their pointers by name."""
        tables = self.program.tables
        sizes = [_ceil_div(t.data.nbytes, _ALIGNMENT) * _ALIGNMENT for t in tables]
        pointer = self._allocate(sum(sizes))
        pointers = {}
        for table, size in zip(tables, sizes, strict=True):
            pointers[table.name] = pointer
            self.device.upload(pointer, table.data, 0)
            pointer += size
        self.device.synchronize(0)
        return pointers

    def _workspace(self, stream: int) -> int:
        """Return the planes for the work on one stream, whose order keeps calls apart."""
        if stream not in self._workspaces:
            plane_bytes = 4 * self.words
            size = self.program.plan.num_planes * plane_bytes
            planes = self._allocate(size)
            self.device.fill(planes, 0, size, stream)
            self.device.fill(planes + ONE_PLANE * plane_bytes, 0xFF, plane_bytes, stream)
            self._workspaces[stream] = planes
        return self._workspaces[stream]

    def run(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        samples: int,
        stream: int,
        *,
        packed: bool = False,
    ) -> None:
        """Queue the network on a stream and return before the work is done.

        Args:
            inputs: device pointers to the samples of each graph input, or to its packed planes.
            outputs: device pointers to the memory for each graph output.
            samples: how many samples there are.
            stream: the handle of the stream.
            packed: whether the inputs are packed planes.
        """
        most = self.words * WORD_BITS
        packed_words = _ceil_div(samples, WORD_BITS)
        with self._lock:
            self.device.enter()
            planes = self._workspace(stream)
            for first in range(0, samples, most):
                n = min(most, samples - first)
                chunk = _Chunk(inputs, outputs, first, n, packed_words)
                self._queue(chunk, planes, stream, packed)

    def _queue(self, chunk: _Chunk, planes: int, stream: int, packed: bool) -> None:
        words = _ceil_div(chunk.samples, WORD_BITS)
        common: list[KernelArgument] = [
            (planes, ctypes.c_void_p),
            (self.words, ctypes.c_uint32),
            (words, ctypes.c_uint32),
        ]
        for step in self.program.launches:
            launch = step.packed if packed and step.packed else step
            args = [*common, *(self._argument(a, chunk) for a in launch.args)]
            grid, block = launch_dimensions(launch, words)
            self.device.launch(self._kernels[launch.kernel], grid, block, args, stream)

    def _argument(self, arg: LaunchArgument, chunk: _Chunk) -> KernelArgument:
        if isinstance(arg, TableArgument):
            return self._tables[arg.table.name], ctypes.c_void_p
        if isinstance(arg, SamplesArgument):
            offset = chunk.first * arg.width * _ELEMENT_BYTES[arg.c_type]
            return chunk.inputs[arg.input] + offset, ctypes.c_void_p
        if isinstance(arg, PackedSamplesArgument):
            offset = 4 * (arg.first * chunk.packed_words + chunk.first // WORD_BITS)
            return chunk.inputs[arg.input] + offset, ctypes.c_void_p
        if isinstance(arg, ResultsArgument):
            offset = chunk.first * arg.width * _ELEMENT_BYTES[arg.c_type]
            return chunk.outputs[arg.output] + offset, ctypes.c_void_p
        if arg is ChunkSize.SAMPLES:
            return chunk.samples, ctypes.c_uint32
        if arg is ChunkSize.PACKED_WORDS:
            return chunk.packed_words, ctypes.c_size_t
        return arg, ctypes.c_float if isinstance(arg, float) else ctypes.c_uint32

    def run_on_host(
        self, samples: Sequence[np.ndarray[Any, Any]], results: Sequence[np.ndarray[Any, Any]]
    ) -> None:
        """Run the network on contiguous arrays in host memory, and return when it is done.

        Args:
            samples: an array per graph input.
            results: an array per graph output, which receives the results.
        """
        device, stream = self.device, 0
        device.enter()
        pointers: list[int] = []
        try:
            pointers += [device.allocate(a.nbytes) for a in (*samples, *results)]
            inputs, outputs = pointers[: len(samples)], pointers[len(samples) :]
            for pointer, array in zip(inputs, samples, strict=True):
                device.upload(pointer, array, stream)
            self.run(inputs, outputs, len(samples[0]), stream)
            for pointer, array in zip(outputs, results, strict=True):
                device.download(array, pointer, stream)
            device.synchronize(stream)
        finally:
            for pointer in pointers:
                device.free(pointer)


def _free(device: CudaDevice, memory: list[int]) -> None:
    device.enter()
    for pointer in memory:
        device.free(pointer)
