"""The LLVM module of a library: a program made self-contained, behind a C interface.

Row tables are constant data. Step records are constant structures that point to tables and kernels.
C functions fill a context on the stack and call a run loop: of blocks or, for small batches, of
single samples. Nothing in the module is written to, so it is thread-safe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lgir.backends.c.interface import ABI_VERSION, BAD_ARGUMENT, Entry, Interface
from lgir.backends.llvm.block_program import BlockProgram
from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.call_workspace import MARK_BYTES, CallWorkspace, WorkspaceArea
from lgir.backends.llvm.library_data import ConstantData, byte_constant, distinct_table_bytes
from lgir.backends.llvm.records import StepRecord
from lgir.backends.llvm.single_sample.crossover import crossover
from lgir.backends.llvm.single_sample.program import SingleSampleProgram
from lgir.backends.llvm.single_sample.sample_kernels import RUN_SAMPLES, sample_declarations
from lgir.backends.llvm.steps.step_kind import CallForm
from lgir.errors import BackendError
from lgir.ir.types import Value

_MAX_TABLES: Final = 1 << 30
"""Bytes of tables that code can reach by 32-bit offsets, with a margin."""
_VALUE: Final = "{ ptr, ptr, i64, i64, ptr }"


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
        self._data = ConstantData(program.code)
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
        calls = self.workspace.text(self._mark([*kernels, *functions]))
        self.text = "\n".join([*kernels, *self._data.definitions(), calls, *functions])

    def _mark(self, texts: Sequence[str]) -> bytes:
        """Return the mark of a workspace that is prepared for this model."""
        mark = hashlib.sha256("\n".join(texts).encode())
        for content in self._data.contents:
            mark.update(content)
        return mark.digest()[:MARK_BYTES]

    def _table_bytes(self, path: _Path) -> int:
        """Return the bytes of the distinct tables of a path."""
        return distinct_table_bytes(
            [path.sequence(entry.kinds) for entry in self.interface.entries]
        )

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
            name, dtype, shape = (f"@{role}.{i}.{part}" for part in ("name", "type", "shape"))
            lines += [
                byte_constant(name, value.name.encode() + b"\0"),
                byte_constant(dtype, value.dtype.encode() + b"\0"),
                byte_constant(shape, np.array(value.shape, np.int64).tobytes()),
            ]
            structs.append(
                f"{_VALUE} {{ ptr {name}, ptr {dtype}, i64 {value.size}, "
                f"i64 {len(value.shape)}, ptr {shape} }}"
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
        slots = self.program.slots
        words: dict[int, str] = {
            ContextWord.SAMPLES: "%n",
            ContextWord.START: "0",
            ContextWord.ERROR: "0",
        }
        pointers: dict[int, str] = {}
        for i, array in enumerate(entry.inputs):
            pointers[slots.input_slot(i)] = f"%x{i}"
            words[slots.input_slot(i) + 1] = str(array.sample_bytes)
        for i in range(len(entry.outputs)):
            pointers[slots.output_slot(i)] = f"%y{i}"
        inputs = [f"ptr %x{i}" for i in range(len(entry.inputs))]
        outputs = [f"ptr %y{i}" for i in range(len(entry.outputs))]
        parameters = ", ".join([*inputs, "i64 %n", *outputs, "ptr %workspace"])
        function = f"define i32 {self._name(entry.name)}({parameters}) #0 {{"
        definitions, calls = self._calls(entry)
        return "\n".join(
            [
                *definitions,
                function,
                *_checks(list(pointers.values())),
                f"  %context = alloca [{slots.words} x i64], align 8",
                *_context_stores(words, pointers),
                *calls,
                "}",
            ]
        )

    def _calls(self, entry: Entry) -> tuple[list[str], list[str]]:
        """Return definitions of records, and text that calls a path's run loop with them."""
        first, last = self._paths[0].area.name, self._paths[-1].area.name
        definitions: list[str] = []
        lines = [
            f"  %few = icmp sle i64 %n, {self.crossover}",
            f"  br i1 %few, label %{first}, label %{last}",
        ]
        for path in self._paths:
            name, steps = path.area.name, path.sequence(entry.kinds)
            records = f"@{name}.{'.'.join(entry.kinds)}"
            definitions.insert(0, self._data.records(records, steps))
            arguments = f"ptr {records}, i64 {len(steps)}, ptr %context, i64 %n, ptr %workspace"
            lines += [
                f"{name}:",
                f"  %code.{name} = call i32 @{path.area.function}({arguments})",
                f"  ret i32 %code.{name}",
            ]
        return definitions, lines


def _checks(pointers: Sequence[str]) -> list[str]:
    """Return text that refuses a negative n, and null pointers unless n is 0.

    It ends with the label "right", from where arguments are known to be right.
    """
    lines = ["  %wrong.0 = icmp slt i64 %n, 0", "  %some = icmp ne i64 %n, 0"]
    for i, pointer in enumerate(pointers):
        lines += [
            f"  %null.{i} = icmp eq ptr {pointer}, null",
            f"  %missing.{i} = and i1 %some, %null.{i}",
            f"  %wrong.{i + 1} = or i1 %wrong.{i}, %missing.{i}",
        ]
    return [
        *lines,
        f"  br i1 %wrong.{len(pointers)}, label %wrong, label %right",
        "wrong:",
        f"  ret i32 {BAD_ARGUMENT}",
        "right:",
    ]


def _context_stores(words: Mapping[int, str], pointers: Mapping[int, str]) -> list[str]:
    """Return text that stores numbers and pointers in the context, by word."""
    lines: list[str] = []
    for word, value in [*words.items(), *pointers.items()]:
        kind = "ptr" if word in pointers else "i64"
        lines += [
            f"  %at.{word} = getelementptr i64, ptr %context, i64 {word}",
            f"  store {kind} {value}, ptr %at.{word}, align 8",
        ]
    return lines
