"""The LLVM module of one level of CPUs in a library: a program made self-contained.

Row tables are constant data. Step records are constant structures that point to tables and kernels.
The functions behind C functions fill a context on the stack and call a run loop: of blocks or, for
small batches, of single samples. Nothing in the module is written to, so it is thread-safe. The
module of `lgir.backends.llvm.dispatch` calls these functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lgir.backends.c.interface import BAD_ARGUMENT, Entry, Interface
from lgir.backends.llvm.block_program import BlockProgram
from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.call_workspace import MARK_BYTES, CallWorkspace, WorkspaceArea
from lgir.backends.llvm.dispatch import CpuLevel
from lgir.backends.llvm.library_data import ConstantData, ConstantTables
from lgir.backends.llvm.records import StepRecord
from lgir.backends.llvm.single_sample.crossover import crossover
from lgir.backends.llvm.single_sample.program import SingleSampleProgram
from lgir.backends.llvm.single_sample.sample_kernels import RUN_SAMPLES, sample_declarations
from lgir.backends.llvm.steps.step_kind import CallForm
from lgir.errors import BackendError

_MAX_TABLES: Final = 1 << 30
"""Bytes of tables that code can reach by 32-bit offsets, with a margin."""


@dataclass(frozen=True)
class _Path:
    """One of the two ways to evaluate samples.

    Attributes:
        area: what its steps work in.
        sequence: the function from an entry of the interface to step records.
    """

    area: WorkspaceArea
    sequence: Callable[[Entry], list[StepRecord]]


class LevelModule:
    """The LLVM module of the functions behind a C interface, for one level of CPUs.

    Args:
        level: names the functions.
        tables: receives the tables, which the module declares and does not define.
        program: evaluates blocks of 512 samples.
        single_samples: evaluates batches that are small enough for it to be faster, if given and
            its tables fit.
        attributes: attributes of all functions, which name the CPU.

    Attributes:
        crossover: the largest batch that `single_samples` evaluates.
        workspace: the memory of a call.
        text: the module's LLVM text.

    Raises:
        BackendError: the tables are larger than code can address.
    """

    def __init__(
        self,
        interface: Interface,
        level: CpuLevel,
        tables: ConstantTables,
        program: BlockProgram,
        single_samples: SingleSampleProgram | None,
        attributes: str,
    ) -> None:
        self.interface = interface
        self.program = program
        self._level = level
        self._data = ConstantData(tables, program.code)
        blocks = _Path(
            WorkspaceArea("blocks", "lgir_run", program.workspace_bytes),
            lambda entry: program.sequence(CallForm(entry.kinds, entry.result)),
        )
        size = tables.size + len(program.code) + self._table_bytes(tables, blocks)
        if size > _MAX_TABLES:
            raise BackendError(
                f"the network's tables have {size:,} bytes, more than the {_MAX_TABLES:,} that a "
                "library can address; compile it for one CPU (target='native'), or in the process "
                "that runs it"
            )
        self._paths = [blocks]
        self.crossover = 0
        kernels = [program.kernels.text_with(attributes)]  # all, since sequences were asked for
        if single_samples is not None:
            workspace, ones = single_samples.workspace, single_samples.ones
            samples = _Path(
                WorkspaceArea("samples", RUN_SAMPLES, workspace, ones),
                lambda entry: single_samples.sequence(entry.kinds),
            )
            if size + self._table_bytes(tables, samples) <= _MAX_TABLES:
                self._paths = [samples, blocks]
                self.crossover = crossover(interface.graph, single_samples)
                kernels += [
                    sample_declarations(ternary=program.ternary),
                    *single_samples.kernels.values(),
                ]
        self.workspace = CallWorkspace([path.area for path in self._paths])
        functions = list(map(self._entry, interface.all_entries))
        calls = self.workspace.text(self._mark([*kernels, *functions]))
        self.text = "\n".join([*kernels, *self._data.declarations(), calls, *functions])

    def _mark(self, texts: Sequence[str]) -> bytes:
        """Return the mark of a workspace that is prepared for this model."""
        mark = hashlib.sha256("\n".join(texts).encode())
        for content in self._data.contents:
            mark.update(content)
        return mark.digest()[:MARK_BYTES]

    def _table_bytes(self, tables: ConstantTables, path: _Path) -> int:
        """Return the bytes that the tables of a path add to those of other levels."""
        return tables.size_of_new([path.sequence(entry) for entry in self.interface.all_entries])

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
        function = f'define i32 @"{self._level.function(entry.name)}"({parameters}) #0 {{'
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
        # Only blocks give labels and counts.
        paths = self._paths if entry.result == "scores" else self._paths[-1:]
        first, last = paths[0].area.name, paths[-1].area.name
        definitions: list[str] = []
        lines = [
            f"  %few = icmp sle i64 %n, {self.crossover}",
            f"  br i1 %few, label %{first}, label %{last}",
        ]
        for path in paths:
            name, steps = path.area.name, path.sequence(entry)
            records = f"@{'.'.join([name, entry.result, *entry.kinds])}"
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
