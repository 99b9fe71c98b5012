"""Ahead-of-time compilation: a graph as an object file, static archive or shared library.

The module of `lgir.backends.llvm.library` is compiled for any target that LLVM knows. All of its
functions but the C functions are internal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import llvmlite.binding as llvm

from lgir.backends.c.compiler import link_shared
from lgir.backends.c.interface import Interface
from lgir.backends.llvm.block_program import BlockProgram
from lgir.backends.llvm.library import LibraryModule
from lgir.backends.llvm.options import LOWERING_OPTIONS, AotOptions
from lgir.backends.llvm.single_sample.crossover import crossover
from lgir.backends.llvm.single_sample.program import SingleSampleProgram
from lgir.backends.llvm.static_archive import static_archive
from lgir.backends.llvm.target import Target, resolve_aot_target
from lgir.backends.lowering.plan import make_plan
from lgir.errors import BackendError
from lgir.formats.exporter import Export
from lgir.ir.graph import Graph
from lgir.registry import register_exporter
from lgir.version import __version__


@dataclass(frozen=True)
class ObjectCode:
    """A compiled object file, position independent.

    Attributes:
        data: the file.
        symbols: the names of its functions.
        header: the C header: prototypes, sizes, how to call.
        llvm: the text that was compiled.
        triple: the machine it is for, as LLVM and C compilers name it.
        crossover: the largest batch that is evaluated sample by sample.
    """

    data: bytes
    symbols: tuple[str, ...]
    header: str
    llvm: str
    triple: str
    crossover: int = 0

    def archive(self) -> bytes:
        """Return a static library that holds the object."""
        return static_archive("model.o", self.data, self.symbols)

    def shared_library(self, cc: str = "cc") -> bytes:
        """Return the object linked by the C compiler `cc`, a command that may have arguments.

        Raises:
            BackendError: there is no such compiler, it fails, or it is for another machine.
        """
        machine, host = self.triple.split("-")[0], llvm.get_process_triple().split("-")[0]
        if machine != host and cc == "cc":
            raise BackendError(
                f"a shared library for {machine} needs a linker for it: give a cross compiler, "
                f"for example cc='{machine}-linux-gnu-gcc', or write an object (.o) or archive (.a)"
            )
        instead = "write an object (.o) or archive (.a), which need none"
        return link_shared("model.o", self.data, cc=cc, instead=instead)


def compile_object(
    graph: Graph,
    *,
    target: str = "native",
    features: str = "",
    prefix: str | None = None,
    latency: bool = True,
) -> ObjectCode:
    """Compile `graph` for another process or another machine; see `AotOptions`.

    Raises:
        UnknownNameError: there is no such target.
        BackendError: the graph, a feature or the prefix cannot be compiled.
    """
    return _compile(graph, AotOptions(target, features, prefix, latency))


def _compile(graph: Graph, options: AotOptions) -> ObjectCode:
    interface = Interface(graph, options.prefix)
    triple, target = resolve_aot_target(options.target, options.features)
    plan = make_plan(graph, LOWERING_OPTIONS)
    tree_code = target.ternary and triple.startswith("x86_64") and "linux" in triple
    program = BlockProgram(plan, ternary=target.ternary, byte_outputs=True, tree_code=tree_code)
    single_samples = _single_samples(graph, target) if options.latency else None
    module = LibraryModule(interface, program, single_samples)
    header = interface.header(
        f"{graph.name}: a logic gate network, compiled by lgir {__version__} for {triple}, CPU "
        f"{target.cpu}.",
        module.workspace.size,
        allocates=True,
    )
    symbols = tuple(module.symbols)
    data = _emit_object(module.text, symbols, triple, target)
    return ObjectCode(data, symbols, header, module.text, triple, module.crossover)


def _single_samples(graph: Graph, target: Target) -> SingleSampleProgram | None:
    """Return the program for small batches.

    It is None if the network is too large or blocks are faster.
    """
    try:
        program = SingleSampleProgram(graph, target)
    except BackendError:
        return None
    return program if crossover(graph, program) else None


def _emit_object(text: str, symbols: Sequence[str], triple: str, target: Target) -> bytes:
    """Return the object file of a module whose functions are internal, but for `symbols`."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        machine = llvm.Target.from_triple(triple).create_target_machine(
            cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="default"
        )
        module = llvm.parse_assembly(text)
        module.triple = machine.triple
        module.data_layout = str(machine.target_data)
        for function in module.functions:
            if not function.is_declaration and function.name not in symbols:
                function.linkage = "internal"
        module.verify()
    except RuntimeError as error:
        raise BackendError(f"LLVM cannot compile for {triple}: {error}") from error
    return bytes(machine.emit_object(module))


@register_exporter("o")
def export_object(
    graph: Graph,
    *,
    target: str = "native",
    features: str = "",
    prefix: str | None = None,
    latency: bool = True,
) -> Export:
    """Object file to link into a program: machine code, no dependency but libc."""
    code = _compile(graph, AotOptions(target, features, prefix, latency))
    return Export(code.data, code.header, text=False)


@register_exporter("a")
def export_archive(
    graph: Graph,
    *,
    target: str = "native",
    features: str = "",
    prefix: str | None = None,
    latency: bool = True,
) -> Export:
    """Static library: the object file in an archive."""
    code = _compile(graph, AotOptions(target, features, prefix, latency))
    return Export(code.archive(), code.header, text=False)


@register_exporter("so")
def export_library(
    graph: Graph,
    *,
    target: str = "native",
    features: str = "",
    prefix: str | None = None,
    latency: bool = True,
    cc: str = "cc",
) -> Export:
    """Shared library, linked by the system's C compiler."""
    code = _compile(graph, AotOptions(target, features, prefix, latency))
    return Export(code.shared_library(cc), code.header, text=False)
