"""Measured roofs of one thread: bandwidth of each cache and of memory, and logic in registers.

As in STREAM (McCalpin, 1995), loops run over arrays that fit a level. They are written with the
instructions that kernels use: loads and stores of whole planes, and three-input functions.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from lgir.backends.llvm.jit import CompiledFunctions
from lgir.backends.llvm.llvm_text import AND_XOR, PLANE, PLANE_BYTES, FunctionWriter, module_text
from lgir.backends.llvm.steps.cost import CostTarget
from lgir.backends.llvm.target import Target
from lgir.roofline import Level, Machine, cache_sizes

_PARAMS: Final = "ptr noalias %data, i64 %bytes, i64 %rounds"
_Kernel = Callable[[int, int, int], None]
_CALL: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_PLANES_PER_ROUND: Final = 8
"""Planes per round of a stream's loop."""
_TWO_ROUNDS_BYTES: Final = 2 * _PLANES_PER_ROUND * PLANE_BYTES
"""Bytes of a round of a copy, which reads one half of an array and writes the other."""
_CHAINS: Final = {True: 8, False: 2}
"""Independent planes in registers, with AVX-512 and without.

They are enough to hide the latency of an instruction, and few enough not to be spilled, at two or
four registers per plane.
"""
_FUNCTIONS_PER_ROUND: Final = 8
"""Functions per chain and round of the loop."""
_REPEATS: Final = 9
_SECONDS: Final = 0.004
_LARGEST: Final = 256 << 20


def measure_machine(target: Target) -> Machine:
    """Return the roofs as medians of a few milliseconds each, of this thread's CPU time."""
    kernels = {
        "read": _read_kernel(ternary=target.ternary),
        "write": _write_kernel(ternary=target.ternary),
        "copy": _copy_kernel(ternary=target.ternary),
        "logic": _logic_kernel(ternary=target.ternary),
    }
    modules = {name: module_text([text], ternary=target.ternary) for name, text in kernels.items()}
    functions = CompiledFunctions(modules, target)
    call = {name: _CALL(functions.address(name)) for name in kernels}
    sizes = cache_sizes()
    # Each footprint is well inside its level and well outside the level before.
    footprints: dict[str, tuple[int | None, int]] = {
        name: (size, size // 2) for name, size in sizes.items()
    }
    footprints["memory"] = (None, min(4 * max(sizes.values()), _LARGEST))
    memory = np.ones(max(size for _, size in footprints.values()) + PLANE_BYTES, np.uint8)
    data = -(-memory.ctypes.data // PLANE_BYTES) * PLANE_BYTES
    levels = []
    for name, (size, footprint) in footprints.items():
        whole = footprint // _TWO_ROUNDS_BYTES * _TWO_ROUNDS_BYTES
        read = whole / _seconds(call["read"], data, whole)
        write = whole / _seconds(call["write"], data, whole)
        copy = whole / 2 / _seconds(call["copy"], data, whole // 2)
        levels.append(Level(name, size, read, write, copy))
    instructions = (
        CostTarget(target.ternary).three_inputs * _CHAINS[target.ternary] * _FUNCTIONS_PER_ROUND
    )
    logic = instructions / _seconds(call["logic"], data, 0)
    return Machine(tuple(levels), logic)


def _seconds(call: _Kernel, data: int, size: int) -> float:
    """Return the seconds of one round over `size` bytes."""
    rounds = 1
    while (elapsed := _elapsed(call, data, size, rounds)) < _SECONDS:
        rounds *= 2
    return statistics.median(
        [elapsed, *(_elapsed(call, data, size, rounds) for _ in range(_REPEATS - 1))]
    ) / rounds  # fmt: skip


def _elapsed(call: _Kernel, data: int, size: int, rounds: int) -> float:
    """Return the CPU seconds of some rounds over `size` bytes."""
    start = time.thread_time()
    call(data, size, rounds)
    return time.thread_time() - start


def _read_kernel(*, ternary: bool) -> str:
    """Write a kernel that folds every plane into one, so that every load is used."""
    f = FunctionWriter("read", _PARAMS, ternary=ternary)
    zeros = [(PLANE, "zeroinitializer")] * _CHAINS[ternary]
    with f.loop("%rounds", *zeros) as outer:
        state = [(PLANE, name) for name in outer.carried]
        with f.loop("%bytes", *state, step=_PLANES_PER_ROUND * PLANE_BYTES) as loop:
            line = f.gep("%data", loop.index)
            sums = list(loop.carried)
            for i in range(_PLANES_PER_ROUND):
                plane = f.load_plane(line, str(i * PLANE_BYTES))
                sums[i % len(sums)] = f.op("xor", sums[i % len(sums)], plane)
            loop.next = sums
        outer.next = loop.result
    _keep(f, outer.result)
    return f.text()


def _write_kernel(*, ternary: bool) -> str:
    """Write a kernel that stores one plane everywhere."""
    f = FunctionWriter("write", _PARAMS, ternary=ternary)
    value = f.load_plane("%data", "0")
    with f.loop("%rounds"), f.loop("%bytes", step=_PLANES_PER_ROUND * PLANE_BYTES) as loop:
        line = f.gep("%data", loop.index)
        for i in range(_PLANES_PER_ROUND):
            f.store_plane(value, line, str(i * PLANE_BYTES))
    f.emit("ret void")
    return f.text()


def _copy_kernel(*, ternary: bool) -> str:
    """Write a kernel that copies the first %bytes to the second."""
    f = FunctionWriter("copy", _PARAMS, ternary=ternary)
    second = f.gep("%data", "%bytes")
    with f.loop("%rounds"), f.loop("%bytes", step=_PLANES_PER_ROUND * PLANE_BYTES) as loop:
        source, target = f.gep("%data", loop.index), f.gep(second, loop.index)
        for i in range(_PLANES_PER_ROUND):
            f.store_plane(f.load_plane(source, str(i * PLANE_BYTES)), target, str(i * PLANE_BYTES))
    f.emit("ret void")
    return f.text()


def _logic_kernel(*, ternary: bool) -> str:
    """Write a kernel of three-input functions on planes in registers."""
    f = FunctionWriter("logic", _PARAMS, ternary=ternary)
    a, b = (f.load_plane("%data", str(i * PLANE_BYTES)) for i in range(2))
    offsets = [str(i * PLANE_BYTES) for i in range(_CHAINS[ternary])]
    start = [(PLANE, f.load_plane("%data", offset)) for offset in offsets]
    with f.loop("%rounds", *start) as loop:
        values = loop.carried
        for _ in range(_FUNCTIONS_PER_ROUND):
            values = [f.ternary(a, b, x, AND_XOR) for x in values]
            a, b = b, a
        loop.next = values
    _keep(f, loop.result)
    return f.text()


def _keep(f: FunctionWriter, planes: list[str]) -> None:
    """Write a store of the planes' sum, since LLVM may leave out what nobody reads."""
    total = planes[0]
    for plane in planes[1:]:
        total = f.op("xor", total, plane)
    f.store_plane(total, "%data", "0")
    f.emit("ret void")
