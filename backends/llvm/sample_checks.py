"""Checks of samples in kernels: bits are 0 or 1, and floats are not NaN."""

from __future__ import annotations

from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.llvm_text import FunctionWriter


def wrong_floats(f: FunctionWriter, x: str, lanes: int, *, bits: bool) -> str:
    """Write which floats of the vector `x` are wrong, as <lanes x i1>.

    With `bits`, a float is wrong if it is neither 0 nor 1; otherwise, if it is NaN.
    """
    floats = f"<{lanes} x float>"
    if not bits:
        return f.let(f"fcmp uno {floats} {x}, {x}")
    zero = f.let(f"fcmp une {floats} {x}, zeroinitializer")
    one = f.let(f"fcmp une {floats} {x}, splat (float 1.0)")
    return f.let(f"and <{lanes} x i1> {zero}, {one}")


def set_error(f: FunctionWriter, wrong: str, width: int) -> None:
    """Write that the error flag is set if `wrong`, an integer of `width` bits, is not 0."""
    if width < 64:
        wrong = f.let(f"zext i{width} {wrong} to i64")
    flag = f.gep("%context", str(8 * ContextWord.ERROR))
    f.store("i64", f.let(f"or i64 {f.load('i64', flag, 8)}, {wrong}"), flag, 8)
