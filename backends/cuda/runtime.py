"""A program on a device: tables and workspace in its memory, launches queued on streams.

The same launches as in the source's host part, which `grid_of` mirrors.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lgir.backends.cuda.driver import Argument, Device, Dim
from lgir.backends.cuda.kernels import POSITIONS, THREADS
from lgir.backends.cuda.launch import (
    WORD_BITS,
    Arg,
    Count,
    Launch,
    Packed,
    Pitch,
    Results,
    Samples,
    View,
)
from lgir.backends.cuda.program import Program
from lgir.backends.lowering.steps import ONE_PLANE

_ALIGNMENT = 256
_SIZES = {"uint8_t": 1, "float": 4}


def grid_of(launch: Launch, words: int) -> tuple[Dim, Dim]:
    """Grid and block of a launch on `words` words of the batch."""
    if launch.shape == "tiles":
        return (_ceil(launch.size, 32), 1, _ceil(words, 8)), (32, 8, 1)
    if launch.shape == "groups":
        return (launch.size, 1, _ceil(words, 32)), (32, 8, 1)
    lanes = 32
    while lanes > 4 and lanes // 2 >= words:
        lanes //= 2
    y, columns = THREADS // lanes, _ceil(words, lanes)
    if launch.shape == "rows":
        return (_ceil(launch.size, y), 1, columns), (lanes, y, 1)
    while y > 1 and y // 2 >= launch.positions:
        y //= 2
    return (launch.size, _ceil(launch.positions, POSITIONS * y), columns), (lanes, y, 1)


def _ceil(n: int, by: int) -> int:
    return -(-n // by)


@dataclass(frozen=True)
class _Chunk:
    """A stretch of a call's batch that the workspace holds at once."""

    inputs: Sequence[int]
    outputs: Sequence[int]
    first: int
    samples: int
    pitch: int


class Network:
    """A program whose tables are on a device.

    Args:
        code: a cubin with the program's kernels.
        words: words of a plane in the workspace; a batch of more than 32 times as many samples is
            split.
    """

    def __init__(self, program: Program, code: bytes, device: Device, words: int) -> None:
        self.program = program
        self.device = device
        self.words = words
        self._kernels = device.load(code, list(program.kernels))
        self._lock = threading.Lock()
        self._memory: list[int] = []
        # Not at exit: the driver may be gone by then, and the memory with it.
        weakref.finalize(self, _free, device, self._memory).atexit = False
        sizes = [_ceil(t.data.nbytes, _ALIGNMENT) * _ALIGNMENT for t in program.tables]
        start = self._allocate(sum(sizes))
        self._tables: dict[str, int] = {}
        for table, size in zip(program.tables, sizes, strict=True):
            self._tables[table.name] = start
            device.upload(start, table.data, 0)
            start += size
        device.synchronize(0)
        self._workspaces: dict[int, int] = {}

    def _allocate(self, size: int) -> int:
        pointer = self.device.allocate(size)
        self._memory.append(pointer)
        return pointer

    def _workspace(self, stream: int) -> int:
        """Planes for the work on one stream, whose order keeps calls apart."""
        if stream not in self._workspaces:
            plane = 4 * self.words
            size = self.program.plan.num_planes * plane
            planes = self._allocate(size)
            self.device.fill(planes, 0, size, stream)
            self.device.fill(planes + ONE_PLANE * plane, 0xFF, plane, stream)
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
        """Queue the network on `stream`: device pointers to samples, or to packed planes, in the
        graph's order, and to room for the outputs. Returns before the work is done.
        """
        most = self.words * WORD_BITS
        pitch = _ceil(samples, WORD_BITS)
        with self._lock:
            self.device.enter()
            planes = self._workspace(stream)
            for first in range(0, samples, most):
                n = min(most, samples - first)
                chunk = _Chunk(inputs, outputs, first, n, pitch)
                self._queue(chunk, planes, stream, packed)

    def _queue(self, chunk: _Chunk, planes: int, stream: int, packed: bool) -> None:
        words = _ceil(chunk.samples, WORD_BITS)
        head: list[Argument] = [(planes, ctypes.c_void_p)]
        head += [(self.words, ctypes.c_uint32), (words, ctypes.c_uint32)]
        for step in self.program.launches:
            launch = step.packed if packed and step.packed else step
            args = [self._argument(a, chunk) for a in launch.args]
            grid, block = grid_of(launch, words)
            kernel = self._kernels[launch.kernel]
            self.device.launch(kernel, grid, block, [*head, *args], stream)

    def _argument(self, arg: Arg, c: _Chunk) -> Argument:
        if isinstance(arg, View):
            return self._tables[arg.table.name], ctypes.c_void_p
        if isinstance(arg, Samples):
            offset = c.first * arg.width * _SIZES[arg.kind]
            return c.inputs[arg.input] + offset, ctypes.c_void_p
        if isinstance(arg, Packed):
            offset = 4 * (arg.first * c.pitch + c.first // WORD_BITS)
            return c.inputs[arg.input] + offset, ctypes.c_void_p
        if isinstance(arg, Pitch):
            return c.pitch, ctypes.c_size_t
        if isinstance(arg, Results):
            offset = c.first * arg.width * _SIZES[arg.kind]
            return c.outputs[arg.output] + offset, ctypes.c_void_p
        if isinstance(arg, Count):
            return c.samples, ctypes.c_uint32
        return arg, ctypes.c_float if isinstance(arg, float) else ctypes.c_uint32

    def run_on_host(
        self, samples: Sequence[np.ndarray[Any, Any]], results: Sequence[np.ndarray[Any, Any]]
    ) -> None:
        """The same for contiguous arrays in host memory, copied both ways; returns when done."""
        device, stream = self.device, 0
        device.enter()
        arrays = [*samples, *results]
        pointers: list[int] = []
        try:
            pointers += [device.allocate(a.nbytes) for a in arrays]
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


def _free(device: Device, memory: list[int]) -> None:
    device.enter()
    for pointer in memory:
        device.free(pointer)
