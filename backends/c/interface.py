"""The C interface of a graph: one set of functions for compiled libraries and for exported C.

This module decides names, parameters and the header. `lgir.backends.llvm.aot` and
`lgir.backends.c.source` write the functions, so a C program links with either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from lgir.backends.c.text import c_name, comment, define, header_file, parenthesized
from lgir.errors import BackendError
from lgir.ir.graph import Graph
from lgir.ir.scores import first_sum, scores_ascend
from lgir.ir.types import Value

ABI_VERSION: Final = 1

OK: Final = 0
BAD_VALUES: Final = 1
NO_MEMORY: Final = 2
BAD_ARGUMENT: Final = 3
UNSUPPORTED_CPU: Final = 4

ELEMENT_TYPES: Final = {
    "u8": "uint8_t",
    "f32": "float",
    "bits": "uint64_t",
    "i32": "int32_t",
    "i64": "int64_t",
}
"""C type of an element by kind. Elements of kind "bits" are words of 64 packed bits."""
ELEMENT_BYTES: Final = {"u8": 1, "f32": 4, "bits": 8, "i32": 4, "i64": 8}
_COLUMNS: Final = 96


@dataclass(frozen=True)
class Parameter:
    """An array that a function takes: one graph input or output, sample after sample.

    Attributes:
        name: the parameter's name in C.
        value: the graph input or output.
        kind: "u8", "f32" or "bits"; "i32" for counts of `value`, "i64" for the label.
    """

    name: str
    value: Value
    kind: str

    @property
    def width(self) -> int:
        """Return how many elements of the C type a sample has."""
        if self.kind == "i64":
            return 1
        return -(-self.value.size // 64) if self.kind == "bits" else self.value.size

    @property
    def sample_bytes(self) -> int:
        """Return how many bytes a sample has."""
        return self.width * ELEMENT_BYTES[self.kind]

    @property
    def c_type(self) -> str:
        """Return the C type of an element."""
        return ELEMENT_TYPES[self.kind]


@dataclass(frozen=True)
class Entry:
    """A function that evaluates a batch.

    The entries of a graph differ in their inputs' kinds and in their results.

    Attributes:
        name: the function's name in C.
        inputs: arrays of samples.
        outputs: arrays of results.
        result: "scores" for all outputs, "labels" or "counts" for the first one alone.
    """

    name: str
    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]
    result: str = "scores"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of the inputs."""
        return tuple(parameter.kind for parameter in self.inputs)

    def one_sample_declaration(self) -> str:
        """Return the prototype of the function that evaluates one sample, without a semicolon."""
        parameters = [
            *(f"const {x.c_type} *{x.name}" for x in self.inputs),
            *(f"{y.c_type} *{y.name}" for y in self.outputs),
            "void *workspace",
        ]
        head, _, kind = self.name.rpartition("_predict")
        return parenthesized(f"int {head}_one{kind}(", parameters, _COLUMNS)

    def declaration(self) -> str:
        """Return the prototype, without a semicolon."""
        parameters = [
            *(f"const {x.c_type} *{x.name}" for x in self.inputs),
            "int64_t n",
            *(f"{y.c_type} *{y.name}" for y in self.outputs),
            "void *workspace",
        ]
        return parenthesized(f"int {self.name}(", parameters, _COLUMNS)


class Interface:
    """The C functions of `graph`, all named `<prefix>_...`.

    A graph with one kind of input has `<prefix>_predict_u8`, `_f32` or, for bits, these two and
    `_bits`. A graph with several kinds has `<prefix>_predict`, which takes bits as bytes. If a
    GroupSum gives the first output, `labels` and `counts` in the place of `predict` name functions
    that give the labels and the counts of it. Labels are left out if counts that differ may have
    the same score, so that counts do not tell which class is the first of the highest score.

    Args:
        prefix: letters, digits and underscores. None derives it from the graph's name.

    Raises:
        BackendError: `prefix` is not a C name.
    """

    def __init__(self, graph: Graph, prefix: str | None = None) -> None:
        if prefix is None:
            prefix = c_name(graph.name)
        elif c_name(prefix) != prefix:
            raise BackendError(
                f"prefix {prefix!r} cannot begin C names; use letters, digits and underscores, "
                f"for example {c_name(prefix)!r}"
            )
        self.graph = graph
        self.prefix = prefix
        self.outputs = [graph.values[name] for name in graph.outputs]
        used_names = {"n", "workspace"}
        self.input_names = [_parameter_name(value.name, used_names) for value in graph.inputs]
        self.output_names = [_parameter_name(value.name, used_names) for value in self.outputs]
        self._result_names = {
            result: _parameter_name(result, used_names) for result in ("labels", "counts")
        }
        self.entries = tuple(self._entries("scores"))
        self.label_entries = tuple(self._entries("labels")) if scores_ascend(graph) else ()
        self.count_entries = () if first_sum(graph) is None else tuple(self._entries("counts"))

    @property
    def all_entries(self) -> tuple[Entry, ...]:
        """The entries of scores, labels and counts."""
        return self.entries + self.label_entries + self.count_entries

    def _entries(self, result: str) -> Iterable[Entry]:
        verb = "predict" if result == "scores" else result
        dtypes = {value.dtype for value in self.graph.inputs}
        bytes_or_floats = {"bit": "u8", "u8": "u8", "f32": "f32"}
        if len(dtypes) > 1:
            kinds = [bytes_or_floats[value.dtype] for value in self.graph.inputs]
            yield self._entry(verb, kinds, result)
            return
        (dtype,) = dtypes
        for kind in ("u8", "f32", "bits") if dtype == "bit" else (dtype,):
            yield self._entry(f"{verb}_{kind}", [kind] * len(self.graph.inputs), result)

    def _entry(self, name: str, kinds: Sequence[str], result: str) -> Entry:
        inputs = zip(self.input_names, self.graph.inputs, kinds, strict=True)
        if result == "scores":
            outputs = [
                Parameter(name, value, "u8" if value.dtype == "bit" else "f32")
                for name, value in zip(self.output_names, self.outputs, strict=True)
            ]
        else:
            kind = {"labels": "i64", "counts": "i32"}[result]
            outputs = [Parameter(self._result_names[result], self.outputs[0], kind)]
        return Entry(
            f"{self.prefix}_{name}",
            tuple(Parameter(*parts) for parts in inputs),
            tuple(outputs),
            result,
        )

    def macro(self, name: str) -> str:
        """Return the macro `<PREFIX>_<NAME>`."""
        return f"{self.prefix}_{name}".upper()

    def size_macros(self) -> list[str]:
        """Return the lines that define how many elements a sample of each array has.

        The macros are `<PREFIX>_INPUT_ELEMENTS` and `<PREFIX>_OUTPUT_ELEMENTS`. If there are
        several inputs or outputs, each has its name in the middle.
        """
        lines = []
        for role, names, values in (
            ("input", self.input_names, self.graph.inputs),
            ("output", self.output_names, self.outputs),
        ):
            for name, value in zip(names, values, strict=True):
                array = role if len(values) == 1 else f"{role}_{name}"
                lines.append(define(self.macro(f"{array}_elements"), value.size, str(value.type)))
        return lines

    def header(
        self,
        about: str,
        workspace_bytes: int,
        *,
        allocates: bool,
        levels: Sequence[str] = (),
        one_sample_bytes: int | None = None,
    ) -> str:
        """Return the text of the header.

        Args:
            about: what the library is and how it was built, for the comment at the beginning.
            workspace_bytes: size of the workspace of a call.
            allocates: whether a call without a workspace allocates one.
            levels: the CPUs that a library has code for, from the least to the best.
            one_sample_bytes: size of the workspace of functions that evaluate one sample; None if
                there are no such functions.
        """
        return header_file(
            about,
            self.macro("H"),
            ["#include <stddef.h>", "#include <stdint.h>"],
            [
                self.declarations(
                    workspace_bytes,
                    allocates=allocates,
                    levels=levels,
                    one_sample_bytes=one_sample_bytes,
                )
            ],
        )

    def declarations(
        self,
        workspace_bytes: int,
        *,
        allocates: bool,
        levels: Sequence[str] = (),
        one_sample_bytes: int | None = None,
    ) -> str:
        """Return what the header declares: macros, the type of descriptions, prototypes.

        The arguments are those of `header`.
        """
        codes = [
            ("OK", OK, ""),
            ("BAD_VALUES", BAD_VALUES, "an input bit is not 0 or 1, or a float is NaN"),
            ("NO_MEMORY", NO_MEMORY, "no memory for a workspace"),
            ("BAD_ARGUMENT", BAD_ARGUMENT, "n is negative, or a pointer is NULL"),
        ]
        if levels:
            codes.append(("UNSUPPORTED_CPU", UNSUPPORTED_CPU, "no code in here for this CPU"))
        lines = [
            comment("What calls return."),
            *(define(self.macro(name), code, meaning) for name, code, meaning in codes),
            "",
            comment("Sizes: elements of one sample of each array, bytes of a workspace."),
            *self.size_macros(),
            define(self.macro("WORKSPACE_BYTES"), workspace_bytes),
            *self._one_sample_macro(one_sample_bytes),
            "",
            _VALUE_TYPE,
            comment("The version of this interface: changes where calls would break."),
            f"int {self.prefix}_abi_version(void);",
            "",
            comment(
                "Sizes and shapes for programs that load a library at run time. NULL past the last."
            ),
            f"size_t {self.prefix}_workspace_bytes(void);",
            f"const lgir_value *{self.prefix}_input(int64_t index);",
            f"const lgir_value *{self.prefix}_output(int64_t index);",
            "",
            *self._level_declarations(levels),
            comment(self._manual(allocates)),
            *(f"{entry.declaration()};" for entry in self.entries),
            *self._result_declarations("labels", self.label_entries),
            *self._result_declarations("counts", self.count_entries),
            *self._one_sample_declarations(one_sample_bytes),
        ]
        return "\n".join(lines)

    def _level_declarations(self, levels: Sequence[str]) -> list[str]:
        """Return macros and functions that tell and choose the code that runs."""
        if not levels:
            return []
        return [
            comment(
                "The code that runs on this CPU: the first call finds the last one of these that "
                f"it has. {self.prefix}_level tells which, 0 being none. {self.prefix}_use_level "
                "chooses another for the calls of all threads from then on, to compare them."
            ),
            *(
                define(self.macro(f"level_{c_name(level)}"), number)
                for number, level in enumerate(levels, 1)
            ),
            f"int {self.prefix}_level(void);",
            f"int {self.prefix}_use_level(int level);",
            "",
        ]

    def _result_declarations(self, result: str, entries: Sequence[Entry]) -> list[str]:
        """Return the functions of labels or of counts, and a comment that says what these are."""
        if not entries:
            return []
        of = "" if len(self.outputs) == 1 else f" of {self.output_names[0]}"
        meaning = {
            "labels": f"The label{of} of each sample: the first class of the highest score.",
            "counts": f"The counts{of}: {self.outputs[0].size} numbers per sample, each the bits "
            "of a class that are 1. Scores are (count + beta) / tau.",
        }
        return ["", comment(meaning[result]), *(f"{entry.declaration()};" for entry in entries)]

    def _one_sample_macro(self, one_sample_bytes: int | None) -> list[str]:
        if one_sample_bytes is None:
            return []
        about = "of functions that evaluate one sample"
        return [define(self.macro("ONE_WORKSPACE_BYTES"), one_sample_bytes, about)]

    def _one_sample_declarations(self, one_sample_bytes: int | None) -> list[str]:
        """Return the functions that evaluate one sample, and a comment that says what they take."""
        if one_sample_bytes is None:
            return []
        return [
            "",
            comment(
                "Evaluates one sample with a byte per bit, for machines with little memory. RAM: "
                f"{one_sample_bytes:,} bytes of workspace ({self.macro('ONE_WORKSPACE_BYTES')}), "
                "at any alignment, beside the arrays and the stack of a few small functions."
            ),
            *(f"{entry.one_sample_declaration()};" for entry in self.entries),
        ]

    def _manual(self, allocates: bool) -> str:
        """Return what the entries do, in one paragraph."""
        has_bits = any(value.dtype == "bit" for value in self.graph.inputs)
        takes_packed = any("bits" in entry.kinds for entry in self.entries)
        sentences = [
            f"Evaluates n samples, which lie one after the other, row-major, and returns "
            f"{self.macro('OK')} or another code above; results are then undefined."
        ]
        if has_bits and takes_packed:
            sentences.append(
                "Input bits are bytes or floats, 0 or 1, or are packed: a sample is whole 64-bit "
                "words, bit e % 64 of word e / 64 being element e."
            )
        elif has_bits:
            sentences.append("Input bits are bytes, 0 or 1.")
        if any(value.dtype == "bit" for value in self.outputs):
            sentences.append("Output bits are bytes, 0 or 1.")
        sentences.append(
            f"workspace: {self.macro('WORKSPACE_BYTES')} bytes, as malloc aligns them, that no "
            "other call uses at the same time; calls with different workspaces may run in "
            "parallel."
        )
        if allocates:
            sentences.append(
                "It need not be cleared, but is not to be written to between calls. NULL: the call "
                "allocates one and frees it. Batches of at least 512 samples are fastest."
            )
        return " ".join(sentences)


_VALUE_TYPE: Final = """\
#ifndef LGIR_VALUE
#define LGIR_VALUE
/* An input or output: its name, its type ("bit", "u8" or "f32") and the shape of one sample. */
typedef struct lgir_value {
    const char *name;
    const char *type;
    int64_t elements;
    int64_t rank;
    const int64_t *shape;
} lgir_value;
#endif
"""


def _parameter_name(name: str, used_names: set[str]) -> str:
    """Return a C name that is not in `used_names` and means nothing else to a compiler, and add it.

    Names in `used_names` are in lower case, since macros are in capitals.
    """
    base = c_name(name)
    if base in _KEYWORDS or _MACROS.match(base) or _USED_INSIDE.match(base):
        base += "_"
    unique, number = base, 2
    while unique.lower() in used_names:
        unique, number = f"{base}_{number}", number + 1
    used_names.add(unique.lower())
    return unique


_KEYWORDS: Final = frozenset(
    """alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t
    char32_t class co_await co_return co_yield compl concept const consteval constexpr constinit
    const_cast continue contract_assert decltype default delete do double dynamic_cast else enum
    explicit export extern false float for friend goto if inline int long mutable namespace new
    noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast
    requires restrict return short signed sizeof static static_assert static_cast struct switch
    template this thread_local throw true try typedef typeid typename typeof typeof_unqual union
    unsigned using virtual void volatile wchar_t while xor xor_eq""".split()  # noqa: SIM905
)
"""Keywords of C23 and C++26, and of their older versions."""

_MACROS: Final = re.compile(
    r"([A-Z][A-Z0-9_]+|I|complex|imaginary|noreturn|errno|stdin|stdout|stderr|signgam|"
    r"math_errhandling|linux|unix|i386|mips|sparc|sun|vax|m68k|sgi|near|far|small|hyper|interface)$"
)
"""Names of macros, by convention in capitals, and others of the C library, compilers and Windows.

Compilers predefine the names of systems if no standard is asked for.
"""

_USED_INSIDE: Final = re.compile(
    r"(i|m|p|word|cell|plane|space|sum|unpack|mux|count_\w+|label_\w+|one_\w+|LANES|NULL|HUGE_VALF|memset|u?int\w*_t|size_t|"
    r"(rows|planes|levels|masks|tables|space|trees|gates)_\d+|gates\d_\w+|wide_gates|pack_\w+|"
    r"lgir_value|inputs|outputs|(input|output)_shape_\d+)$"
)
"""Names that exported C uses for its own types, functions and variables."""
