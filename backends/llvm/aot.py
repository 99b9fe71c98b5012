"""Ahead-of-time compilation: a graph as an object file, static archive or shared library.

The modules are the just-in-time ones made one and self-contained: kernels are internal, row tables
are constant data, step records are constant structures that point to both, and a few C functions
(`lgir.backends.c_interface`) call a run loop, of blocks or, for few samples, of samples. Nothing in
it is written to, so it is thread-safe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import llvmlite.binding as llvm
import numpy as np
import numpy.typing as npt

from lgir.backends.c_compiler import link_shared
from lgir.backends.c_interface import ABI_VERSION, BAD_ARGUMENT, Entry, Interface
from lgir.backends.llvm.archive import static_archive
from lgir.backends.llvm.ir import PLANE_BYTES
from lgir.backends.llvm.jit import TARGETS, Target, check_features, resolve_target
from lgir.backends.llvm.latency import crossover
from lgir.backends.llvm.latency.plan import RUN, LatencyPlan
from lgir.backends.llvm.latency.records import declarations
from lgir.backends.llvm.program import Program
from lgir.backends.llvm.records import Context, Field, StepRecord
from lgir.backends.llvm.workspace import MARK_BYTES, Area, Workspace
from lgir.backends.plan import make_plan
from lgir.errors import BackendError, unknown_name
from lgir.exporter import Export
from lgir.graph import Graph, Value
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

_MAX_TABLES: Final = 1 << 30
"""Bytes of tables: code reaches them by 32-bit offsets."""
_ELEMENT_BYTES: Final = {"u8": 1, "f32": 4, "bits": 8}


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
    from lgir import __version__

    interface = Interface(graph, prefix)
    triple, cpu = _resolve(target, features)
    plan = make_plan(graph, chains=True)
    own_code = cpu.ternary and triple.startswith("x86_64") and "linux" in triple
    program = Program(plan, ternary=cpu.ternary, byte_output=True, own_code=own_code)
    module = _Module(interface, program, _latency_plan(graph, cpu) if latency else None)
    header = interface.header(
        f"{graph.name}: a logic gate network, compiled by lgir {__version__} for {triple}, CPU "
        f"{cpu.cpu}.",
        module.workspace.size,
        allocates=True,
    )
    symbols = tuple(module.symbols)
    data = _emit(module.text, symbols, triple, cpu)
    return ObjectCode(data, symbols, header, module.text, triple, module.crossover)


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


def _latency_plan(graph: Graph, target: Target) -> LatencyPlan | None:
    """None where the network is too large for it, or a block is faster than one sample."""
    try:
        plan = LatencyPlan(graph, target)
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


@dataclass(frozen=True)
class _Way:
    """How samples are evaluated: the steps for some kinds of them, and what these work in."""

    area: Area
    sequence: Callable[[Sequence[str]], list[StepRecord]]


class _Module:
    """The text of the LLVM module behind `interface`: of `program` and, for as few samples as it is
    faster for, of `latency`.

    Attributes:
        crossover: samples of a call, at most, that `latency` evaluates.
        workspace: of a call.
        symbols: the names of C functions.
    """

    def __init__(self, interface: Interface, program: Program, latency: LatencyPlan | None) -> None:
        self.interface = interface
        self.program = program
        self._tables: dict[bytes, str] = {}
        self.symbols: list[str] = []
        blocks = _Way(Area("blocks", "lgir_run", program.workspace_bytes), program.sequence)
        size = len(program.code) + self._table_bytes(blocks)
        if size > _MAX_TABLES:
            raise BackendError(
                f"the network's tables have {size:,} bytes, more than the {_MAX_TABLES:,} that a "
                "library can address; compile it in the process that runs it"
            )
        self._ways = [blocks]
        self.crossover = 0
        kernels = [program.text]  # all, now that the sequences have been asked for
        if latency is not None:
            samples = _Way(Area("samples", RUN, latency.workspace, latency.ones), latency.sequence)
            if size + self._table_bytes(samples) <= _MAX_TABLES:
                self._ways = [samples, blocks]
                self.crossover = crossover(interface.graph, latency)
                kernels += [declarations(ternary=program.ternary), *latency.kernels.values()]
        self.workspace = Workspace([way.area for way in self._ways])
        functions = [self._describing(), *map(self._entry, interface.entries)]
        data = [self._data(table, name) for table, name in self._tables.items()]
        if len(program.code):
            # Linkers gather sections by name, and what is in this one is executed.
            data.append(self._data(program.code.tobytes(), _CODE, ', section ".text"'))
        calls = self.workspace.text(self._mark([*kernels, *functions]))
        self.text = "\n".join([*kernels, *data, calls, *functions])

    def _mark(self, texts: Sequence[str]) -> bytes:
        """Of a workspace that is prepared for this model."""
        mark = hashlib.sha256("\n".join(texts).encode())
        for table in [*self._tables, self.program.code.tobytes()]:
            mark.update(table)
        return mark.digest()[:MARK_BYTES]

    # -- data ------------------------------------------------------------------------------------

    def _table(self, array: npt.NDArray[np.generic]) -> str:
        data = np.ascontiguousarray(array).tobytes()
        return self._tables.setdefault(data, f"@table.{len(self._tables)}")

    @staticmethod
    def _data(data: bytes, name: str, section: str = "") -> str:
        kind = f"[{len(data)} x i8]"
        return f"{name} = internal constant {kind} {_bytes(data)}{section}, align {PLANE_BYTES}"

    def _table_bytes(self, way: _Way) -> int:
        """Of the distinct tables."""
        entries = [way.sequence(entry.kinds) for entry in self.interface.entries]
        return sum(
            map(len, {t.tobytes() for steps in entries for s in steps for t in s.tables.values()})
        )

    def _steps(self, way: _Way, kinds: tuple[str, ...]) -> tuple[str, str, int]:
        """(definition, name, length) of the records for samples of `kinds`."""
        steps = way.sequence(kinds)
        name = f"@{way.area.name}.{'.'.join(kinds)}"
        records = [self._record(step) for step in steps]
        kind = f"<{{ {', '.join(kind for kind, _ in records)} }}>"
        value = f"<{{ {', '.join(f'{kind} {value}' for kind, value in records)} }}>"
        return f"{name} = internal constant {kind} {value}, align 8", name, len(steps)

    def _record(self, step: StepRecord) -> tuple[str, str]:
        """(type, value) of one record."""
        pointers = {at: self._table(table) for at, table in step.tables.items()}
        pointers[Field.KERNEL] = f"@{step.kernel}"
        if step.code is not None:
            pointers[Field.ROWS] = f"getelementptr (i8, ptr {_CODE}, i64 {step.code})"
        kinds = ["ptr" if i in pointers else "i64" for i in range(Field.SIZE)]
        values = [pointers.get(i, str(number)) for i, number in enumerate(step.fields.tolist())]
        fields = [f"{kind} {value}" for kind, value in zip(kinds, values, strict=True)]
        return f"<{{ {', '.join(kinds)} }}>", f"<{{ {', '.join(fields)} }}>"

    # -- functions -------------------------------------------------------------------------------

    def _name(self, name: str) -> str:
        self.symbols.append(name)
        return f"@{name}"

    def _describing(self) -> str:
        """Version, sizes and shapes."""
        prefix, graph = self.interface.prefix, self.interface.graph
        outputs = [graph.values[name] for name in graph.outputs]
        return "\n".join(
            [
                f"define i32 {self._name(f'{prefix}_abi_version')}() #0 {{",
                f"  ret i32 {ABI_VERSION}\n}}",
                f"define i64 {self._name(f'{prefix}_workspace_bytes')}() #0 {{",
                f"  ret i64 {self.workspace.size}\n}}",
                self._values("input", graph.inputs),
                self._values("output", outputs),
            ]
        )

    def _values(self, role: str, values: Sequence[Value]) -> str:
        lines, structs = [], []
        for i, value in enumerate(values):
            name, dtype = value.name.encode() + b"\0", value.dtype.encode() + b"\0"
            shape = np.array(value.shape, np.int64).tobytes()
            parts = [f"@{role}.{i}.{part}" for part in ("name", "type", "shape")]
            lines += [self._data(*x) for x in zip((name, dtype, shape), parts, strict=True)]
            structs.append(
                f"{_VALUE} {{ ptr {parts[0]}, ptr {parts[1]}, i64 {value.size}, "
                f"i64 {len(value.shape)}, ptr {parts[2]} }}"
            )
        kind = f"[{len(values)} x {_VALUE}]"
        function = self._name(f"{self.interface.prefix}_{role}")
        return "\n".join(
            [
                *lines,
                f"@{role}s = internal constant {kind} [ {', '.join(structs)} ], align 8",
                f"define ptr {function}(i64 %index) #0 {{",
                f"  %known = icmp ult i64 %index, {len(values)}",
                f"  %value = getelementptr {kind}, ptr @{role}s, i64 0, i64 %index",
                "  %found = select i1 %known, ptr %value, ptr null",
                "  ret ptr %found\n}",
            ]
        )

    def _entry(self, entry: Entry) -> str:
        """Checks arguments, fills a context on the stack and calls a run loop."""
        program = self.program
        words: dict[int, str] = {Context.SAMPLES: "%n", Context.START: "0", Context.ERROR: "0"}
        pointers: dict[int, str] = {}
        for i, array in enumerate(entry.inputs):
            pointers[program.input_slot(i)] = f"%x{i}"
            words[program.input_slot(i) + 1] = str(array.width * _ELEMENT_BYTES[array.kind])
        for i in range(len(entry.outputs)):
            pointers[program.output_slot(i)] = f"%y{i}"
        inputs = [f"ptr %x{i}" for i in range(len(entry.inputs))]
        outputs = [f"ptr %y{i}" for i in range(len(entry.outputs))]
        lines = [
            f"define i32 {self._name(entry.name)}"
            f"({', '.join([*inputs, 'i64 %n', *outputs, 'ptr %workspace'])}) #0 {{",
            "  %wrong.0 = icmp slt i64 %n, 0",
            "  %some = icmp ne i64 %n, 0",
        ]
        for i, pointer in enumerate(pointers.values()):
            lines += [
                f"  %null.{i} = icmp eq ptr {pointer}, null",
                f"  %missing.{i} = and i1 %some, %null.{i}",
                f"  %wrong.{i + 1} = or i1 %wrong.{i}, %missing.{i}",
            ]
        lines += [
            f"  br i1 %wrong.{len(pointers)}, label %wrong, label %right",
            "wrong:",
            f"  ret i32 {BAD_ARGUMENT}",
            "right:",
            f"  %context = alloca [{program.context_words} x i64], align 8",
        ]
        for at, value in [*words.items(), *pointers.items()]:
            kind = "ptr" if at in pointers else "i64"
            lines += [
                f"  %at.{at} = getelementptr i64, ptr %context, i64 {at}",
                f"  store {kind} {value}, ptr %at.{at}, align 8",
            ]
        first, last = self._ways[0].area.name, self._ways[-1].area.name
        lines += [
            f"  %few = icmp sle i64 %n, {self.crossover}",
            f"  br i1 %few, label %{first}, label %{last}",
        ]
        for way in self._ways:
            definition, steps, count = self._steps(way, entry.kinds)
            arguments = f"ptr {steps}, i64 {count}, ptr %context, i64 %n, ptr %workspace"
            name, code = way.area.name, f"%code.{way.area.name}"
            lines.insert(0, definition)
            lines += [
                f"{name}:",
                f"  {code} = call i32 @{way.area.function}({arguments})",
                f"  ret i32 {code}",
            ]
        return "\n".join([*lines, "}"])


_CODE: Final = "@code"
_VALUE: Final = "{ ptr, ptr, i64, i64, ptr }"

_HEX: Final = np.array([f"\\{byte:02X}".encode() for byte in range(256)])


def _bytes(data: bytes) -> str:
    """LLVM's text of a byte string."""
    return f'c"{_HEX[np.frombuffer(data, np.uint8)].tobytes().decode()}"'


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
    return Export(code.data, code.header)


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
    return Export(code.archive(), code.header)


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
    return Export(code.shared_library(cc), code.header)
