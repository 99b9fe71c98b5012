"""The LLVM module of a library: a program made self-contained, behind a C interface.

Row tables are constant data. Step records are constant structures that point to tables and kernels.
C functions fill a context on the stack and call a run loop: of blocks or, for small batches, of
single samples. Nothing in the module is written to, so it is thread-safe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.c.interface import ABI_VERSION, BAD_ARGUMENT, Entry, Interface
from lgir.backends.llvm.block_program import BlockProgram
from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.call_workspace import MARK_BYTES, CallWorkspace, WorkspaceArea
from lgir.backends.llvm.llvm_text import PLANE_BYTES
from lgir.backends.llvm.records import KERNEL_WORD, RECORD_WORDS, StepRecord
from lgir.backends.llvm.single_sample.crossover import crossover
from lgir.backends.llvm.single_sample.program import SingleSampleProgram
from lgir.backends.llvm.single_sample.sample_kernels import RUN_SAMPLES, sample_declarations
from lgir.backends.llvm.steps.step_kind import CallForm
from lgir.errors import BackendError
from lgir.ir.types import Value

_MAX_TABLES: Final = 1 << 30
"""Bytes of tables that code can reach by 32-bit offsets, with a margin."""
_CODE_NAME: Final = "@code"
_VALUE: Final = "{ ptr, ptr, i64, i64, ptr }"
_HEX: Final = np.array([f"\\{byte:02X}".encode() for byte in range(256)])


@dataclass(frozen=True)
class _Path:
    """One of the two ways to evaluate samples.

    Attributes:
        area: what its steps work in.
        sequence: the function from kinds of samples to step records.
    """

    area: WorkspaceArea
    sequence: Callable[[tuple[str, ...]], list[StepRecord]]


class LibraryModule:
    """The LLVM module behind a C interface.

    Args:
        program: evaluates blocks of 512 samples.
        single_samples: evaluates batches that are small enough for it to be faster, if given and
            its tables fit.

    Attributes:
        crossover: the largest batch that `single_samples` evaluates.
        workspace: the memory of a call.
        symbols: the names of C functions.
        text: the module's LLVM text.

    Raises:
        BackendError: the tables are larger than code can address.
    """

    def __init__(
        self,
        interface: Interface,
        program: BlockProgram,
        single_samples: SingleSampleProgram | None,
    ) -> None:
        self.interface = interface
        self.program = program
        self._tables: dict[bytes, str] = {}
        self.symbols: list[str] = []
        blocks = _Path(
            WorkspaceArea("blocks", "lgir_run", program.workspace_bytes),
            lambda kinds: program.sequence(CallForm(kinds)),
        )
        size = len(program.code) + self._table_bytes(blocks)
        if size > _MAX_TABLES:
            raise BackendError(
                f"the network's tables have {size:,} bytes, more than the {_MAX_TABLES:,} that a "
                "library can address; compile it in the process that runs it"
            )
        self._paths = [blocks]
        self.crossover = 0
        kernels = [program.kernels.text]  # all, now that the sequences have been asked for
        if single_samples is not None:
            workspace, ones = single_samples.workspace, single_samples.ones
            samples = _Path(
                WorkspaceArea("samples", RUN_SAMPLES, workspace, ones), single_samples.sequence
            )
            if size + self._table_bytes(samples) <= _MAX_TABLES:
                self._paths = [samples, blocks]
                self.crossover = crossover(interface.graph, single_samples)
                kernels += [
                    sample_declarations(ternary=program.ternary),
                    *single_samples.kernels.values(),
                ]
        self.workspace = CallWorkspace([path.area for path in self._paths])
        functions = [self._descriptions(), *map(self._entry, interface.entries)]
        data = [_constant(table, name) for table, name in self._tables.items()]
        if len(program.code):
            # Linkers gather sections by name, and what is in this one is executed.
            data.append(_constant(program.code.tobytes(), _CODE_NAME, ', section ".text"'))
        calls = self.workspace.text(self._mark([*kernels, *functions]))
        self.text = "\n".join([*kernels, *data, calls, *functions])

    def _mark(self, texts: Sequence[str]) -> bytes:
        """Return the mark of a workspace that is prepared for this model."""
        mark = hashlib.sha256("\n".join(texts).encode())
        for table in [*self._tables, self.program.code.tobytes()]:
            mark.update(table)
        return mark.digest()[:MARK_BYTES]

    # -- data ------------------------------------------------------------------------------------

    def _table(self, array: npt.NDArray[np.generic]) -> str:
        """Return the name of a constant with the bytes of a table; equal tables share one."""
        data = np.ascontiguousarray(array).tobytes()
        return self._tables.setdefault(data, f"@table.{len(self._tables)}")

    def _table_bytes(self, path: _Path) -> int:
        """Return the bytes of the distinct tables of a path."""
        entries = [path.sequence(entry.kinds) for entry in self.interface.entries]
        return sum(
            map(len, {t.tobytes() for steps in entries for s in steps for t in s.tables.values()})
        )

    def _steps(self, path: _Path, kinds: tuple[str, ...]) -> tuple[str, str, int]:
        """Return the definition, name and length of the records for samples of `kinds`."""
        steps = path.sequence(kinds)
        name = f"@{path.area.name}.{'.'.join(kinds)}"
        records = [self._record(step) for step in steps]
        kind = f"<{{ {', '.join(kind for kind, _ in records)} }}>"
        value = f"<{{ {', '.join(f'{kind} {value}' for kind, value in records)} }}>"
        return f"{name} = internal constant {kind} {value}, align 8", name, len(steps)

    def _record(self, step: StepRecord) -> tuple[str, str]:
        """Return the LLVM type and value of one record."""
        pointers = {word: self._table(table) for word, table in step.tables.items()}
        pointers[KERNEL_WORD] = f"@{step.kernel}"
        for word, offset in step.code.items():
            pointers[word] = f"getelementptr (i8, ptr {_CODE_NAME}, i64 {offset})"
        kinds = ["ptr" if i in pointers else "i64" for i in range(RECORD_WORDS)]
        values = [pointers.get(i, str(number)) for i, number in enumerate(step.fields.tolist())]
        fields = [f"{kind} {value}" for kind, value in zip(kinds, values, strict=True)]
        return f"<{{ {', '.join(kinds)} }}>", f"<{{ {', '.join(fields)} }}>"

    # -- functions -------------------------------------------------------------------------------

    def _name(self, name: str) -> str:
        """Return a C function's name in LLVM, and remember it as a symbol."""
        self.symbols.append(name)
        return f"@{name}"

    def _descriptions(self) -> str:
        """Return the functions that tell version, sizes and shapes."""
        prefix, graph = self.interface.prefix, self.interface.graph
        return "\n".join(
            [
                f"define i32 {self._name(f'{prefix}_abi_version')}() #0 {{",
                f"  ret i32 {ABI_VERSION}\n}}",
                f"define i64 {self._name(f'{prefix}_workspace_bytes')}() #0 {{",
                f"  ret i64 {self.workspace.size}\n}}",
                self._values("input", graph.inputs),
                self._values("output", self.interface.outputs),
            ]
        )

    def _values(self, role: str, values: Sequence[Value]) -> str:
        """Return the function that describes an input or output by its index, with its data."""
        lines, structs = [], []
        for i, value in enumerate(values):
            name, dtype = value.name.encode() + b"\0", value.dtype.encode() + b"\0"
            shape = np.array(value.shape, np.int64).tobytes()
            parts = [f"@{role}.{i}.{part}" for part in ("name", "type", "shape")]
            lines += [_constant(*x) for x in zip((name, dtype, shape), parts, strict=True)]
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
        """Return a function that checks arguments, fills a context and calls a run loop."""
        program = self.program
        words: dict[int, str] = {
            ContextWord.SAMPLES: "%n",
            ContextWord.START: "0",
            ContextWord.ERROR: "0",
        }
        pointers: dict[int, str] = {}
        for i, array in enumerate(entry.inputs):
            pointers[program.slots.input_slot(i)] = f"%x{i}"
            words[program.slots.input_slot(i) + 1] = str(array.sample_bytes)
        for i in range(len(entry.outputs)):
            pointers[program.slots.output_slot(i)] = f"%y{i}"
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
            f"  %context = alloca [{program.slots.words} x i64], align 8",
        ]
        for word, value in [*words.items(), *pointers.items()]:
            kind = "ptr" if word in pointers else "i64"
            lines += [
                f"  %at.{word} = getelementptr i64, ptr %context, i64 {word}",
                f"  store {kind} {value}, ptr %at.{word}, align 8",
            ]
        first, last = self._paths[0].area.name, self._paths[-1].area.name
        lines += [
            f"  %few = icmp sle i64 %n, {self.crossover}",
            f"  br i1 %few, label %{first}, label %{last}",
        ]
        for path in self._paths:
            definition, steps, count = self._steps(path, entry.kinds)
            arguments = f"ptr {steps}, i64 {count}, ptr %context, i64 %n, ptr %workspace"
            name, code = path.area.name, f"%code.{path.area.name}"
            lines.insert(0, definition)
            lines += [
                f"{name}:",
                f"  {code} = call i32 @{path.area.function}({arguments})",
                f"  ret i32 {code}",
            ]
        return "\n".join([*lines, "}"])


def _constant(data: bytes, name: str, section: str = "") -> str:
    """Return the definition of constant bytes."""
    text = _HEX[np.frombuffer(data, np.uint8)].tobytes().decode()
    kind = f"[{len(data)} x i8]"
    return f'{name} = internal constant {kind} c"{text}"{section}, align {PLANE_BYTES}'
