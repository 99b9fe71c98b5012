"""Backends: each turns a Graph into an Executable. Importing this package registers them."""

from lgir.backends import c_native, cuda, llvm, reference
from lgir.backends.llvm import aot

__all__ = ["aot", "c_native", "cuda", "llvm", "reference"]
