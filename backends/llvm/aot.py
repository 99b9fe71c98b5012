"""Ahead-of-time compilation: a graph as an object file, static archive or shared library.

The modules of `lgir.backends.llvm.library`, one per level of CPUs, and the one of
`lgir.backends.llvm.dispatch`, which chooses between them, are linked by LLVM and compiled for any
machine that it knows. All functions but the C functions are internal. The CPU of a level is an
attribute of its functions, so that one object file holds all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import llvmlite.binding as llvm

from lgir.backends.c.compiler import link_shared
from lgir.backends.c.interface import Interface
from lgir.backends.llvm.block_program import BlockProgram
from lgir.backends.llvm.cpu_features import BASELINE, needed_features
from lgir.backends.llvm.dispatch import CpuLevel, DispatchModule
from lgir.backends.llvm.library import LevelModule
from lgir.backends.llvm.library_data import ConstantTables
from lgir.backends.llvm.options import LOWERING_OPTIONS, AotOptions
from lgir.backends.llvm.single_sample.crossover import crossover
from lgir.backends.llvm.single_sample.program import SingleSampleProgram
from lgir.backends.llvm.static_archive import static_archive
from lgir.backends.llvm.target import PORTABLE, AotTarget, Target, resolve_aot_target
from lgir.backends.lowering.plan import make_plan
from lgir.errors import BackendError
from lgir.formats.exporter import Export
from lgir.ir.graph import Graph
from lgir.registry import register_exporter
from lgir.version import __version__

_LINKERS: Final = {
    "linux": ("{}-linux-gnu-gcc", "-shared", "so"),
    "macos": ("zig cc -target {}-macos", "-dynamiclib", "dylib"),
    "windows": ("{}-w64-mingw32-gcc", "-shared", "dll"),
}
"""A linker elsewhere, Clang's option and the ending of shared libraries, by operating system."""


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
    system: str
    crossover: int = 0

    def archive(self) -> bytes:
        """Return a static library that holds the object.

        Raises:
            BackendError: the system is macOS or Windows, whose archives have another index.
        """
        if self.system != "linux":
            raise BackendError(
                f"an archive for {self.triple} has another form than those that are written here; "
                "write an object (-o model.o), which linkers take as well"
            )
        return static_archive("model.o", self.data, self.symbols)

    def shared_library(self, cc: str = "cc") -> bytes:
        """Return the object linked by the C compiler `cc`, a command that may have arguments.

        Raises:
            BackendError: there is no such compiler, it fails, or it is for another machine.
        """
        host = resolve_aot_target("native")
        machine = self.triple.split("-")[0]
        if cc == "cc" and self.system != host.system:
            linker, option, ending = _LINKERS[self.system]
            raise BackendError(
                f"a shared library for {self.triple} needs a linker for it: give one, as "
                f"cc='{linker.format(machine)}', or write an object (-o model.o) and link it "
                f"there: clang {option} -o model.{ending} model.o"
            )
        if cc == "cc" and machine != host.triple.split("-")[0]:
            raise BackendError(
                f"a shared library for {machine} needs a linker for it: give a cross compiler, "
                f"for example cc='{machine}-linux-gnu-gcc', or write an object (.o) or archive (.a)"
            )
        instead = "write an object (.o) or archive (.a), which need none"
        return link_shared("model.o", self.data, cc=cc, instead=instead)


def compile_object(
    graph: Graph,
    *,
    target: str = PORTABLE,
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
    target = resolve_aot_target(options.target, options.features)
    plan = make_plan(graph, LOWERING_OPTIONS)
    tables = ConstantTables()
    levels: list[CpuLevel] = []
    modules: list[LevelModule] = []
    for cpu in target.levels:
        tree_code = cpu.ternary and target.is_x86 and target.system == "linux"
        program = BlockProgram(plan, ternary=cpu.ternary, byte_outputs=True, tree_code=tree_code)
        single_samples = _single_samples(graph, cpu) if options.latency else None
        level = CpuLevel(cpu.cpu, needed_features(cpu.cpu, cpu.features))
        attributes = f'"target-cpu"="{cpu.cpu}" "target-features"="{cpu.features}"'
        levels.append(level)
        modules.append(LevelModule(interface, level, tables, program, single_samples, attributes))
    workspace_bytes = max(module.workspace.size for module in modules)
    dispatch = DispatchModule(
        interface,
        levels,
        workspace_bytes,
        checked=target.is_x86,
        section="__TEXT,__text" if target.system == "macos" else ".text",
        attributes="dllexport" if target.system == "windows" else "",
    )
    names = [level.name for level in levels]
    header = interface.header(
        f"{graph.name}: a logic gate network, compiled by lgir {__version__} for {target.triple}, "
        f"CPU {', '.join(names)}.",
        workspace_bytes,
        allocates=True,
        levels=names,
    )
    others = [tables.text(), *(module.text for module in modules)]
    data = _emit_object(dispatch, others, target)
    return ObjectCode(
        data,
        tuple(dispatch.symbols),
        header,
        "\n".join([dispatch.text, *others]),
        target.triple,
        target.system,
        max(module.crossover for module in modules),
    )


def _single_samples(graph: Graph, target: Target) -> SingleSampleProgram | None:
    """Return the program for small batches.

    It is None if the network is too large or blocks are faster.
    """
    try:
        program = SingleSampleProgram(graph, target)
    except BackendError:
        return None
    return program if crossover(graph, program) else None


def _emit_object(dispatch: DispatchModule, others: Sequence[str], target: AotTarget) -> bytes:
    """Return the object file of linked modules, in which all but the C functions is internal.

    Args:
        others: the text of modules, of which `dispatch` calls some functions.
    """
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=BASELINE if target.is_x86 else "generic", opt=2, reloc="pic", codemodel="default"
        )
        module = llvm.parse_assembly(dispatch.text)
        module.triple = machine.triple
        module.data_layout = str(machine.target_data)
        for other in map(llvm.parse_assembly, others):
            other.triple, other.data_layout = module.triple, module.data_layout
            _make_internal(other.functions, dispatch.called)  # levels have kernels of equal names
            module.link_in(other)
        _make_internal([*module.functions, *module.global_variables], dispatch.symbols)
        module.verify()
    except RuntimeError as error:
        raise BackendError(f"LLVM cannot compile for {target.triple}: {error}") from error
    return bytes(machine.emit_object(module))


def _make_internal(values: Iterable[llvm.ValueRef], but: Collection[str]) -> None:
    """Give the functions and constants that are defined internal linkage, except those names."""
    kept = frozenset(but)
    for value in values:
        if not value.is_declaration and value.name not in kept:
            value.linkage = "internal"


@register_exporter("o")
def export_object(
    graph: Graph,
    *,
    target: str = PORTABLE,
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
    target: str = PORTABLE,
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
    target: str = PORTABLE,
    features: str = "",
    prefix: str | None = None,
    latency: bool = True,
    cc: str = "cc",
) -> Export:
    """Shared library, linked by the system's C compiler."""
    code = _compile(graph, AotOptions(target, features, prefix, latency))
    return Export(code.shared_library(cc), code.header, text=False)


@register_exporter("dylib")
def export_macos_library(
    graph: Graph,
    *,
    target: str = "aarch64-macos",
    features: str = "",
    prefix: str | None = None,
    latency: bool = True,
    cc: str = "cc",
) -> Export:
    """Shared library of macOS, linked by a C compiler for it."""
    code = _compile(graph, AotOptions(target, features, prefix, latency))
    return Export(code.shared_library(cc), code.header, text=False)


@register_exporter("dll")
def export_windows_library(
    graph: Graph,
    *,
    target: str = "x86-64-windows",
    features: str = "",
    prefix: str | None = None,
    latency: bool = True,
    cc: str = "cc",
) -> Export:
    """Shared library of Windows, linked by a C compiler for it."""
    code = _compile(graph, AotOptions(target, features, prefix, latency))
    return Export(code.shared_library(cc), code.header, text=False)
