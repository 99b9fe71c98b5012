"""Ahead-of-time compilation: a graph as an object file, static archive or shared library.

What `lgir.backends.llvm.library` writes is compiled for any target that LLVM knows, all but the C
functions internal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import llvmlite.binding as llvm

from lgir.backends.c.compiler import link_shared
from lgir.backends.c.interface import Interface
from lgir.backends.llvm.library import Library
from lgir.backends.llvm.program import LOWERING_OPTIONS, Program
from lgir.backends.llvm.single_sample.crossover import crossover
from lgir.backends.llvm.single_sample.program import SingleSampleProgram
from lgir.backends.llvm.static_archive import static_archive
from lgir.backends.llvm.target import TARGETS, Target, check_features, resolve_target
from lgir.backends.lowering.plan import make_plan
from lgir.errors import BackendError, unknown_name
from lgir.formats.exporter import Export
from lgir.ir.graph import Graph
from lgir.registry import register_exporter

_CPUS: Final = {
    "x86-64": ("x86_64", "x86-64"),
    "x86-64-v3": ("x86_64", "x86-64-v3"),
    "x86-64-v4": ("x86_64", "x86-64-v4"),
    "aarch64": ("aarch64", "generic"),
}
"""Architecture and LLVM's name of the CPU, by target."""
_ALIASES: Final = {"generic": "x86-64", "avx2": "x86-64-v3", "avx512": "x86-64-v4"}
AOT_TARGETS: Final = (*TARGETS, *_CPUS)


@dataclass(frozen=True)
class ObjectCode:
    """A compiled object file, position independent.

    Attributes:
        data: the file.
        symbols: the names of its functions.
        header: the C header: prototypes, sizes, how to call.
        llvm: the text that was compiled.
        triple: the machine it is for, as LLVM and C compilers name it.
        crossover: samples of a call, at most, that are evaluated one after another.
    """

    data: bytes
    symbols: tuple[str, ...]
    header: str
    llvm: str
    triple: str
    crossover: int = 0

    def archive(self) -> bytes:
        """The object in a static library."""
        return static_archive("model.o", self.data, self.symbols)

    def shared_library(self, cc: str = "cc") -> bytes:
        """The object linked by the C compiler `cc`, a command that may have arguments.

        Raises BackendError where that does not work.
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
    """Compile `graph` for another process or another machine.

    Args:
        target: "native" (this CPU), "x86-64" or "generic", "x86-64-v3" or "avx2", "x86-64-v4" or
            "avx512", "aarch64" (with NEON). The operating system is this one's.
        features: LLVM feature flags to add, such as "-avx512f".
        prefix: what the functions' names begin with; the graph's name where None.
        latency: with code and tables for few samples, which are evaluated one after another as far
            as that is faster than a block; a library without them is about half as large.

    Raises:
        UnknownNameError: another target. BackendError: the graph or prefix does not work in C.
    """
    from lgir.version import __version__

    interface = Interface(graph, prefix)
    triple, cpu = _resolve(target, features)
    plan = make_plan(graph, LOWERING_OPTIONS)
    own_code = cpu.ternary and triple.startswith("x86_64") and "linux" in triple
    program = Program(plan, ternary=cpu.ternary, byte_output=True, own_code=own_code)
    library = Library(interface, program, _latency_plan(graph, cpu) if latency else None)
    header = interface.header(
        f"{graph.name}: a logic gate network, compiled by lgir {__version__} for {triple}, CPU "
        f"{cpu.cpu}.",
        library.workspace.size,
        allocates=True,
    )
    symbols = tuple(library.symbols)
    data = _emit(library.text, symbols, triple, cpu)
    return ObjectCode(data, symbols, header, library.text, triple, library.crossover)


def _resolve(name: str, features: str) -> tuple[str, Target]:
    host = llvm.get_process_triple()
    name = _ALIASES.get(name, name)
    if name == "native":
        return host, resolve_target(name, features)
    if name not in _CPUS:
        raise unknown_name("target", name, AOT_TARGETS)
    check_features(features)
    arch, cpu = _CPUS[name]
    return "-".join([arch, *host.split("-")[1:]]), Target(cpu, features)


def _latency_plan(graph: Graph, target: Target) -> SingleSampleProgram | None:
    """None where the network is too large for it, or a block is faster than one sample."""
    try:
        plan = SingleSampleProgram(graph, target)
    except BackendError:
        return None
    return plan if crossover(graph, plan) else None


def _emit(text: str, symbols: Sequence[str], triple: str, target: Target) -> bytes:
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
    code = compile_object(graph, target=target, features=features, prefix=prefix, latency=latency)
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
    code = compile_object(graph, target=target, features=features, prefix=prefix, latency=latency)
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
    code = compile_object(graph, target=target, features=features, prefix=prefix, latency=latency)
    return Export(code.shared_library(cc), code.header, text=False)
