"""The C functions of a library: descriptions, and calls of the code for the CPU that runs them.

A library holds code for one or several levels of CPUs. The first call finds the best level that the
CPU has, and a variable keeps its number, which is all that a library ever writes of its own. A
program may choose another level, to compare them. All of this text is compiled for any CPU of the
architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lgir.backends.c.interface import (
    ABI_VERSION,
    BAD_ARGUMENT,
    OK,
    UNSUPPORTED_CPU,
    Entry,
    Interface,
)
from lgir.backends.llvm.cpu_features import supported_level_text
from lgir.backends.llvm.library_data import byte_constant
from lgir.ir.types import Value

_VALUE: Final = "{ ptr, ptr, i64, i64, ptr }"
_EVERY_CPU: Final = "define internal i32 @lgir_supported_level() #0 {\n  ret i32 1\n}\n"


@dataclass(frozen=True)
class CpuLevel:
    """Code for one kind of CPUs.

    Attributes:
        name: what LLVM calls the CPU, and the ending of the names of this level's functions.
        features: what a CPU needs to run the code; see `cpu_features.needed_features`.
    """

    name: str
    features: frozenset[str]

    def function(self, name: str) -> str:
        """Return the name of this level's function behind C function `name`.

        LLVM's text has it in quotes, as no C name is.
        """
        return f"{name}.{self.name}"


class DispatchModule:
    """The LLVM module of a library's C functions.

    Args:
        levels: the levels of the library, from the least to the best.
        workspace_bytes: the size of a workspace that serves every level.
        checked: whether the CPU may lack a level. It is asked by CPUID, so this is for x86-64 only.
        section: the section of machine code in object files of the system.
        attributes: what is written between "define" and the type of every C function.

    Attributes:
        symbols: the names of C functions.
        called: the names of the functions of levels, without quotes.
        text: the module's LLVM text.
    """

    def __init__(
        self,
        interface: Interface,
        levels: Sequence[CpuLevel],
        workspace_bytes: int,
        *,
        checked: bool,
        section: str = ".text",
        attributes: str = "",
    ) -> None:
        self.symbols: list[str] = []
        self.called = [
            level.function(entry.name) for level in levels for entry in interface.all_entries
        ]
        self._interface = interface
        self._levels = levels
        self._attributes = attributes
        prefix = interface.prefix
        supported = (
            supported_level_text([level.features for level in levels], section)
            if checked
            else _EVERY_CPU
        )
        self.text = "\n".join(
            [
                supported,
                _LEVEL,
                self._constant_function(f"{prefix}_abi_version", "i32", ABI_VERSION),
                self._constant_function(f"{prefix}_workspace_bytes", "i64", workspace_bytes),
                self._values("input", interface.graph.inputs),
                self._values("output", interface.outputs),
                self._level_functions(),
                *map(self._entry, interface.all_entries),
                'attributes #0 = { nounwind "min-legal-vector-width"="0" }\n',
            ]
        )

    def _define(self, result: str, name: str, parameters: str = "") -> str:
        """Return the head of a C function, and remember it as a symbol."""
        self.symbols.append(name)
        words = ["define", self._attributes, result, f"@{name}({parameters})", "#0 {"]
        return " ".join(filter(None, words))

    def _constant_function(self, name: str, result: str, value: int) -> str:
        return f"{self._define(result, name)}\n  ret {result} {value}\n}}"

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
        return "\n".join(
            [
                *lines,
                f"@{role}s = internal constant {kind} [ {', '.join(structs)} ], align 8",
                self._define("ptr", f"{self._interface.prefix}_{role}", "i64 %index"),
                f"  %known = icmp ult i64 %index, {len(values)}",
                f"  %value = getelementptr {kind}, ptr @{role}s, i64 0, i64 %index",
                "  %found = select i1 %known, ptr %value, ptr null",
                "  ret ptr %found\n}",
            ]
        )

    def _level_functions(self) -> str:
        """Return the functions that tell and choose the level."""
        prefix = self._interface.prefix
        return _LEVEL_FUNCTIONS.format(
            get=self._define("i32", f"{prefix}_level"),
            choose=self._define("i32", f"{prefix}_use_level", "i32 %level"),
            ok=OK,
            bad_argument=BAD_ARGUMENT,
            unsupported=UNSUPPORTED_CPU,
            last=len(self._levels),
        )

    def _entry(self, entry: Entry) -> str:
        """Return a C function that calls that of the current level."""
        inputs = [f"ptr %x{i}" for i in range(len(entry.inputs))]
        outputs = [f"ptr %y{i}" for i in range(len(entry.outputs))]
        parameters = ", ".join([*inputs, "i64 %n", *outputs, "ptr %workspace"])
        kinds = ", ".join(parameter.split()[0] for parameter in parameters.split(", "))
        declarations, cases, blocks = [], [], []
        for i, level in enumerate(self._levels, 1):
            function = f'@"{level.function(entry.name)}"'
            declarations.append(f"declare i32 {function}({kinds})")
            cases.append(f"i32 {i}, label %level.{i}")
            blocks += [
                f"level.{i}:",
                f"  %code.{i} = tail call i32 {function}({parameters})",
                f"  ret i32 %code.{i}",
            ]
        return "\n".join(
            [
                *declarations,
                self._define("i32", entry.name, parameters),
                "  %level = call i32 @lgir_level()",
                f"  switch i32 %level, label %none [ {' '.join(cases)} ]",
                *blocks,
                f"none:\n  ret i32 {UNSUPPORTED_CPU}\n}}",
            ]
        )


_LEVEL: Final = """\
@lgir_level_in_use = internal global i32 -1, align 4
define internal i32 @lgir_level() #0 {
  %kept = load atomic i32, ptr @lgir_level_in_use monotonic, align 4
  %known = icmp sge i32 %kept, 0
  br i1 %known, label %done, label %find
find:
  ; Threads may do this side by side: all find the same.
  %found = call i32 @lgir_supported_level()
  store atomic i32 %found, ptr @lgir_level_in_use monotonic, align 4
  ret i32 %found
done:
  ret i32 %kept
}
"""

_LEVEL_FUNCTIONS: Final = """\
{get}
  %level = call i32 @lgir_level()
  ret i32 %level
}}
{choose}
  %below = icmp slt i32 %level, 1
  %above = icmp sgt i32 %level, {last}
  %none = or i1 %below, %above
  br i1 %none, label %wrong, label %check
wrong:
  ret i32 {bad_argument}
check:
  %best = call i32 @lgir_supported_level()
  %beyond = icmp sgt i32 %level, %best
  br i1 %beyond, label %unsupported, label %keep
unsupported:
  ret i32 {unsupported}
keep:
  store atomic i32 %level, ptr @lgir_level_in_use monotonic, align 4
  ret i32 {ok}
}}
"""
