"""The run loop: the one function that calls the kernels of a program, block after block."""

from __future__ import annotations

import ctypes
from typing import Final

from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.llvm_text import BLOCK, ONES, PLANE, PLANE_BYTES, FunctionWriter
from lgir.backends.llvm.records import RECORD_WORDS

RUN_PARAMS: Final = "ptr %steps, i64 %count, ptr %context, ptr %planes, i64 %start, i64 %stop"

RunLoop: Final = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_int64,
)
"""The type of a run loop in this process: step records, their number, the context, the planes, the
first sample and the one past the last.
"""


def run_loop_kernel() -> str:
    """Write `lgir_run`, which runs every step in order for each block of [start, stop)."""
    f = FunctionWriter("lgir_run", RUN_PARAMS, ternary=False)
    f.store(PLANE, "zeroinitializer", "%planes", PLANE_BYTES)
    f.store(PLANE, ONES, f.gep("%planes", str(PLANE_BYTES)), PLANE_BYTES)
    run_steps(f, BLOCK)
    return f.text()


def run_steps(f: FunctionWriter, samples: int) -> None:
    """Write the rest of a function with RUN_PARAMS: every step in order, `samples` at a time."""
    with f.loop("%stop", step=samples, start="%start") as turn:
        f.store("i64", turn.index, f.gep("%context", str(8 * ContextWord.START)), 8)
        with f.loop("%count") as i:
            step = f.gep("%steps", f.let(f"mul i64 {i.index}, {8 * RECORD_WORDS}"))
            kernel = f.load("ptr", step, 8)
            f.emit(f"call void {kernel}(ptr %planes, ptr {step}, ptr %context)")
    f.emit("ret void")
