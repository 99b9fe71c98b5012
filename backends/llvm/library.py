"""The LLVM module of a library: a program made self-contained, behind a C interface.

Row tables are constant data, step records constant structures that point to both these and the
kernels, and C functions fill a context on the stack and call a run loop, of blocks or, for few
samples, of samples. Nothing in it is written to, so it is thread-safe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.c.interface import ABI_VERSION, BAD_ARGUMENT, Entry, Interface
from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.call_workspace import MARK_BYTES, CallWorkspace, WorkspaceArea
from lgir.backends.llvm.llvm_text import PLANE_BYTES
from lgir.backends.llvm.program import Program
from lgir.backends.llvm.records import KERNEL_WORD, RECORD_WORDS, StepRecord
from lgir.backends.llvm.single_sample.crossover import crossover
from lgir.backends.llvm.single_sample.kernel_set import RUN_SAMPLES, declarations
from lgir.backends.llvm.single_sample.program import SingleSampleProgram
from lgir.errors import BackendError
from lgir.ir.types import Value

_MAX_TABLES: Final = 1 << 30
"""Bytes of tables: code reaches them by 32-bit offsets."""
_CODE: Final = "@code"
_VALUE: Final = "{ ptr, ptr, i64, i64, ptr }"
_HEX: Final = np.array([f"\\{byte:02X}".encode() for byte in range(256)])


@dataclass(frozen=True)
class _Path:
    """How samples are evaluated: the steps for some kinds of them, and what these work in."""

    area: WorkspaceArea
    sequence: Callable[[Sequence[str]], list[StepRecord]]


class Library:
    """The text of the LLVM module behind `interface`: of `program` and, for as few samples as it is
    faster for, of `latency`.

    Attributes:
        crossover: samples of a call, at most, that `latency` evaluates.
        workspace: of a call.
        symbols: the names of C functions.
        text: the module's.
    """

    def __init__(
        self, interface: Interface, program: Program, latency: SingleSampleProgram | None
    ) -> None:
        self.interface = interface
        self.program = program
        self._tables: dict[bytes, str] = {}
        self.symbols: list[str] = []
        blocks = _Path(
            WorkspaceArea("blocks", "lgir_run", program.workspace_bytes), program.sequence
        )
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
            samples = _Path(
                WorkspaceArea("samples", RUN_SAMPLES, latency.workspace, latency.ones),
                latency.sequence,
            )
            if size + self._table_bytes(samples) <= _MAX_TABLES:
                self._ways = [samples, blocks]
                self.crossover = crossover(interface.graph, latency)
                kernels += [declarations(ternary=program.ternary), *latency.kernels.values()]
        self.workspace = CallWorkspace([way.area for way in self._ways])
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

    def _table_bytes(self, way: _Path) -> int:
        """Of the distinct tables."""
        entries = [way.sequence(entry.kinds) for entry in self.interface.entries]
        return sum(
            map(len, {t.tobytes() for steps in entries for s in steps for t in s.tables.values()})
        )

    def _steps(self, way: _Path, kinds: tuple[str, ...]) -> tuple[str, str, int]:
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
        pointers[KERNEL_WORD] = f"@{step.kernel}"
        for word, offset in step.code.items():
            pointers[word] = f"getelementptr (i8, ptr {_CODE}, i64 {offset})"
        kinds = ["ptr" if i in pointers else "i64" for i in range(RECORD_WORDS)]
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
        words: dict[int, str] = {
            ContextWord.SAMPLES: "%n",
            ContextWord.START: "0",
            ContextWord.ERROR: "0",
        }
        pointers: dict[int, str] = {}
        for i, array in enumerate(entry.inputs):
            pointers[program.input_slot(i)] = f"%x{i}"
            words[program.input_slot(i) + 1] = str(array.sample_bytes)
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


def _bytes(data: bytes) -> str:
    """LLVM's text of a byte string."""
    return f'c"{_HEX[np.frombuffer(data, np.uint8)].tobytes().decode()}"'
