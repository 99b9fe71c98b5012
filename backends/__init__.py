"""Backends: each turns a Graph into an Executable. Importing this package registers them."""

from lgir.backends import llvm, reference

__all__ = ["llvm", "reference"]
