"""The LLVM backend: bit-packed inference on the CPU, 512 samples per block.

The way of a graph: `lgir.backends.lowering` plans steps over planes. `steps` has the kernels and
records of each kind of step, and `block_program` gathers them. `jit` compiles, `linked_program`
gives records their addresses, and `executable` runs batches. `aot` makes a library of the same
program. See docs/design/llvm.md.
"""

from lgir.backends.llvm.executable import LlvmExecutable, compile_llvm

__all__ = ["LlvmExecutable", "compile_llvm"]
