"""What the kernels of single-sample steps share: their records' first fields, and small idioms.

Kernels and records have the same form as those of the block program. A bit of the sample is one
byte, 0 or -1, at an offset of the workspace `%planes`; kernels read it unaligned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.call_context import ContextLayout
from lgir.backends.llvm.llvm_text import FunctionWriter, module_text
from lgir.backends.llvm.records import INTEGER, KERNEL_PARAMS, POINTER, FieldType, RecordLayout
from lgir.backends.llvm.run_loop import RUN_PARAMS, run_steps
from lgir.backends.llvm.single_sample.shifted_nets import Ints
from lgir.backends.llvm.single_sample.steps import LANES

RUN_SAMPLES: Final = "lgir_run_samples"
"""The name of the loop over samples."""
BYTES: Final = f"<{LANES} x i8>"
"""The type of a vector of one byte per lane."""
PERMUTES: Final = {
    8: "@llvm.x86.avx512.vpermi2var.qi.512",
    16: "@llvm.x86.avx512.vpermi2var.hi.512",
}
"""Permutations of the lanes of two 512-bit registers, by the bits of a lane."""

_DECLARATIONS: Final = "declare i64 @llvm.ctpop.i64(i64)\ndeclare i64 @llvm.smax.i64(i64, i64)\n"
_PERMUTE_DECLARATIONS: Final = "".join(
    f"declare {kind} {PERMUTES[bits]}({kind}, {kind}, {kind})\n"
    for bits, kind in ((8, "<64 x i8>"), (16, "<32 x i16>"))
)


class SampleKernels:
    """The kernels that a program uses so far.

    Attributes:
        texts: the LLVM text of functions, by name.
        context: the slots of samples and results, which the records of steps name.
        ternary: whether the target has AVX-512.
    """

    def __init__(self, context: ContextLayout, *, ternary: bool) -> None:
        self.context = context
        self.ternary = ternary
        self.texts: dict[str, str] = {RUN_SAMPLES: _run_samples(ternary=ternary)}

    def use(self, name: str, write: Callable[..., None], *args: Any) -> str:
        """Return the name of a kernel, whose body `write(f, *args)` writes if it is a new one."""
        name = f"sample_{name}"
        if name not in self.texts:
            f = FunctionWriter(name, KERNEL_PARAMS, ternary=self.ternary)
            write(f, *args)
            f.emit("ret void")
            self.texts[name] = f.text()
        return name


def sample_layout(**fields: FieldType | tuple[FieldType, int]) -> RecordLayout:
    """Return the layout of a record with these fields behind the fields of all kinds of steps.

    Those are the table `rows`, the number `count` of what the kernel's outer loop runs over, the
    offset `out` of the result, and the `slot` of a graph input or output in the context.
    """
    return RecordLayout(rows=POINTER, count=INTEGER, out=INTEGER, slot=INTEGER, **fields)


def sample_declarations(*, ternary: bool) -> str:
    """Return the declarations of kernels beyond those of the block program."""
    return _DECLARATIONS + (_PERMUTE_DECLARATIONS if ternary else "")


def kernel_module(kernel: str, *, ternary: bool) -> str:
    """Return the LLVM text of a module that holds one kernel."""
    return module_text([sample_declarations(ternary=ternary) + kernel], ternary=ternary)


def _run_samples(*, ternary: bool) -> str:
    """Return the function that runs every step in order for each sample of [start, stop)."""
    f = FunctionWriter(RUN_SAMPLES, RUN_PARAMS, ternary=ternary)
    run_steps(f, 1)
    return f.text()


def write_sign_bits(f: FunctionWriter, values: str) -> str:
    """Write the signs of 64 bytes as an i64."""
    negative = f.let(f"icmp slt {BYTES} {values}, zeroinitializer")
    return f.let(f"bitcast <{LANES} x i1> {negative} to i64")


def write_index(f: FunctionWriter, outer: str, size: str, inner: str) -> str:
    """Write `outer * size + inner`."""
    return f.let(f"add i64 {f.let(f'mul i64 {outer}, {size}')}, {inner}")


def offset_table(offsets: Ints) -> npt.NDArray[np.uint32]:
    """Return offsets of the workspace as the 32-bit words that kernels read."""
    return np.ascontiguousarray(offsets, dtype=np.uint32)


def row_mask(width: int, step: int) -> npt.NDArray[np.int8]:
    """Return -1 per cell of a row and 0 per cell behind it, up to a multiple of `step` cells."""
    mask = np.zeros(-(-width // step) * step, np.int8)
    mask[:width] = -1
    return mask
