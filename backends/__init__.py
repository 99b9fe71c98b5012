"""Backends: each turns a Graph into an Executable, and exporters one into files. Importing this
package says where they are; each is imported when first asked for.
"""

from lgir.registry import BACKENDS, EXPORTERS

BACKENDS.expect("lgir.backends.llvm.executable", "llvm")
BACKENDS.expect("lgir.backends.cuda", "cuda")
BACKENDS.expect("lgir.backends.c.executable", "c", "c-O1", "c-O3")
BACKENDS.expect("lgir.backends.reference", "reference")
EXPORTERS.expect("lgir.backends.llvm.aot", "so", "a", "o", "dylib", "dll")
EXPORTERS.expect("lgir.backends.cuda", "cuda", "cu")
EXPORTERS.expect("lgir.backends.c.source", "c")
