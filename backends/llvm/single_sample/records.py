"""What a step of the latency path is to its kernels, and the loop that runs the steps.

Records, rows and the form of a kernel are those of the block path, with fields of their own. A bit
of one sample is a byte, 0 or -1, at an offset in the workspace.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from lgir.backends.llvm.llvm_text import FunctionWriter, module_text
from lgir.backends.llvm.run_loop import RUN_PARAMS, run_steps
from lgir.backends.llvm.single_sample.steps import LANES

BYTES: Final = f"<{LANES} x i8>"

_DECLARATIONS: Final = "declare i64 @llvm.ctpop.i64(i64)\ndeclare i64 @llvm.smax.i64(i64, i64)\n"
PERMUTES: Final = {
    8: "@llvm.x86.avx512.vpermi2var.qi.512",
    16: "@llvm.x86.avx512.vpermi2var.hi.512",
}
"""Permutations of two 512-bit registers by the bits of their lanes."""
_PERMUTE_DECLARATIONS: Final = "".join(
    f"declare {kind} {PERMUTES[bits]}({kind}, {kind}, {kind})\n"
    for bits, kind in ((8, "<64 x i8>"), (16, "<32 x i16>"))
)


class Item(IntEnum):
    """Fields of a record; kinds of steps share the numbers. Offsets and steps are in bytes."""

    KERNEL = 0
    ROWS = 1
    COUNT = 2
    OUT = 3
    SLOT = 4
    # trees over positions
    VECTORS = 5
    # trees over rows
    LEAVES = 5
    # gathers by permutation
    SOURCE = 5
    ROUNDS = 6
    BITS = 7
    # levels and maps: COUNT is the number of channels
    VALID = 5
    # levels
    LEVELS = 6
    LEVEL_TABLE = 7
    ROWS_EACH = 8
    WIDTH = 9
    NUMBERS = 10
    # maps
    SPACE = 6
    IN_STEP = 9
    OUT_STEP = 11
    # sums: COUNT is the number of groups
    RANGES = 5
    TAU = 6
    BETA = 7


def declarations(*, ternary: bool) -> str:
    """What kernels declare beyond those of the block path."""
    return _DECLARATIONS + (_PERMUTE_DECLARATIONS if ternary else "")


def module(kernel: str, *, ternary: bool) -> str:
    """A kernel with all that it may declare, as LLVM text."""
    return module_text([declarations(ternary=ternary) + kernel], ternary=ternary)


def run_kernel(name: str, *, ternary: bool) -> str:
    """For each sample in [start, stop), every step in order."""
    f = FunctionWriter(name, RUN_PARAMS, ternary=ternary)
    run_steps(f, 1)
    return f.text()


def sign_bits(f: FunctionWriter, values: str) -> str:
    """The sign of each of 64 bytes, as an i64."""
    negative = f.let(f"icmp slt {BYTES} {values}, zeroinitializer")
    return f.let(f"bitcast <{LANES} x i1> {negative} to i64")


def place(f: FunctionWriter, outer: str, size: str, inner: str) -> str:
    return f.let(f"add i64 {f.let(f'mul i64 {outer}, {size}')}, {inner}")
