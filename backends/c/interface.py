"""The C interface of a graph: the same functions compiled ahead of time or exported as C.

Names, parameters and the header are decided here; `lgir.backends.llvm.aot` and
`lgir.backends.c.source` give them bodies, so that a C program links against either.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from lgir.errors import BackendError
from lgir.ir.graph import Graph
from lgir.ir.types import Value

ABI_VERSION: Final = 1

OK: Final = 0
BAD_VALUES: Final = 1
NO_MEMORY: Final = 2
BAD_ARGUMENT: Final = 3

C_TYPES: Final = {"u8": "uint8_t", "f32": "float", "bits": "uint64_t"}
"""Element type by kind: of samples ("bits" are packed to 64-bit words) and of results."""


@dataclass(frozen=True)
class Array:
    """A parameter: one graph input or output, sample after sample.

    `kind` is "u8", "f32" or "bits"; `width` counts elements of that type in a sample.
    """

    name: str
    value: Value
    kind: str

    @property
    def width(self) -> int:
        return -(-self.value.size // 64) if self.kind == "bits" else self.value.size

    @property
    def c_type(self) -> str:
        return C_TYPES[self.kind]


@dataclass(frozen=True)
class Entry:
    """One function that evaluates a batch; entries differ in the kinds of their inputs."""

    name: str
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(array.kind for array in self.inputs)

    def declaration(self) -> str:
        """The prototype, without a semicolon."""
        parameters = [
            *(f"const {a.c_type} *{a.name}" for a in self.inputs),
            "int64_t n",
            *(f"{a.c_type} *{a.name}" for a in self.outputs),
            "void *workspace",
        ]
        return _wrapped(f"int {self.name}(", parameters)


class Interface:
    """The C functions of `graph`, all named `<prefix>_...`.

    A graph with one kind of input has `<prefix>_predict_u8`, `_f32` or, for bits, these two and
    `_bits`; one with several kinds has `<prefix>_predict`, with bits as bytes.

    Args:
        prefix: letters, digits and underscores; from the graph's name where None.

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
        taken = {"n", "workspace"}
        self.input_names = [_unique(value.name, taken) for value in graph.inputs]
        self.output_names = [_unique(name, taken) for name in graph.outputs]
        self.entries = tuple(self._entries())

    def _entries(self) -> Iterable[Entry]:
        dtypes = {value.dtype for value in self.graph.inputs}
        plain = {"bit": "u8", "u8": "u8", "f32": "f32"}
        if len(dtypes) > 1:
            kinds = [plain[value.dtype] for value in self.graph.inputs]
            yield self._entry("predict", kinds)
            return
        (dtype,) = dtypes
        for kind in ("u8", "f32", "bits") if dtype == "bit" else (dtype,):
            yield self._entry(f"predict_{kind}", [kind] * len(self.graph.inputs))

    def _entry(self, name: str, kinds: list[str]) -> Entry:
        inputs = zip(self.input_names, self.graph.inputs, kinds, strict=True)
        outputs = [self.graph.values[name] for name in self.graph.outputs]
        return Entry(
            f"{self.prefix}_{name}",
            tuple(Array(*each) for each in inputs),
            tuple(
                Array(name, value, "u8" if value.dtype == "bit" else "f32")
                for name, value in zip(self.output_names, outputs, strict=True)
            ),
        )

    def _sizes(self, role: str, names: list[str], values: Sequence[Value]) -> list[str]:
        """Macros `<PREFIX>_INPUT_ELEMENTS`, or `_INPUT_<NAME>_ELEMENTS` where there are several."""
        alone = len(values) == 1
        return [
            self._define(
                f"{role}_ELEMENTS" if alone else f"{role}_{name}_ELEMENTS", value.size, value.type
            )
            for name, value in zip(names, values, strict=True)
        ]

    def macro(self, name: str) -> str:
        return f"{self.prefix}_{name}".upper()

    def header(self, about: str, workspace_bytes: int, *, allocates: bool) -> str:
        """The text of the header.

        Args:
            about: what this is and how it was made, its first comment.
            workspace_bytes: what a call needs.
            allocates: whether a call without a workspace allocates one.
        """
        guard = self.macro("H")
        return "\n".join(
            [
                comment(about),
                f"#ifndef {guard}",
                f"#define {guard}",
                "",
                "#include <stddef.h>",
                "#include <stdint.h>",
                "",
                "#ifdef __cplusplus",
                'extern "C" {',
                "#endif",
                "",
                self.declarations(workspace_bytes, allocates=allocates),
                "#ifdef __cplusplus",
                "}",
                "#endif",
                "",
                f"#endif /* {guard} */",
                "",
            ]
        )

    def declarations(self, workspace_bytes: int, *, allocates: bool) -> str:
        """What the header declares: macros, the type of descriptions, prototypes."""
        outputs = [self.graph.values[name] for name in self.graph.outputs]
        lines = [
            comment("What calls return."),
            self._define("OK", OK),
            self._define("BAD_VALUES", BAD_VALUES, "an input bit is not 0 or 1, or a float is NaN"),
            self._define("NO_MEMORY", NO_MEMORY, "no memory for a workspace"),
            self._define("BAD_ARGUMENT", BAD_ARGUMENT, "n is negative, or a pointer is NULL"),
            "",
            comment("Sizes: elements of one sample of each array, bytes of a workspace."),
            *self._sizes("input", self.input_names, self.graph.inputs),
            *self._sizes("output", self.output_names, outputs),
            self._define("WORKSPACE_BYTES", workspace_bytes),
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
            comment(self._manual(allocates)),
            *(f"{entry.declaration()};" for entry in self.entries),
            "",
        ]
        return "\n".join(lines)

    def _define(self, name: str, number: int, about: str = "") -> str:
        line = f"#define {self.macro(name)} {number}"
        return f"{line} /* {about} */" if about else line

    def _manual(self, allocates: bool) -> str:
        bits = [v for v in self.graph.inputs if v.dtype == "bit"]
        kinds = {kind for entry in self.entries for kind in entry.kinds}
        parts = [
            f"Evaluates n samples, which lie one after the other, row-major, and returns "
            f"{self.macro('OK')} or another code above; results are then undefined."
        ]
        if bits and "bits" in kinds:
            parts.append(
                "Input bits are bytes or floats, 0 or 1, or are packed: a sample is whole 64-bit "
                "words, bit e % 64 of word e / 64 being element e."
            )
        elif bits:
            parts.append("Input bits are bytes, 0 or 1.")
        if any(a.value.dtype == "bit" for a in self.entries[0].outputs):
            parts.append("Output bits are bytes, 0 or 1.")
        parts.append(
            f"workspace: {self.macro('WORKSPACE_BYTES')} bytes, as malloc aligns them, that no "
            "other call uses at the same time; calls with different workspaces may run in "
            "parallel."
        )
        if allocates:
            parts.append(
                "It need not be cleared, but is not to be written to between calls. NULL: the call "
                "allocates one and frees it. Batches of at least 512 samples are fastest."
            )
        return " ".join(parts)


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


def c_name(name: str) -> str:
    """`name` with everything that C names cannot hold replaced."""
    word = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "model"
    return f"v{word}" if word[0].isdigit() else word


def comment(text: str) -> str:
    """A C comment, wrapped; paragraphs are kept."""
    paragraphs = text.replace("*/", "* /").split("\n")
    lines = [line for p in paragraphs for line in textwrap.wrap(p, 94) or [""]]
    if len(lines) == 1:
        return f"/* {lines[0]} */"
    return "\n".join(["/* " + lines[0], *(f" * {line}".rstrip() for line in lines[1:]), " */"])


def _unique(name: str, taken: set[str]) -> str:
    base = c_name(name)
    base = f"{base}_" if base in _KEYWORDS or _INNER.match(base) else base
    found, number = base, 2
    while found.lower() in taken:  # macros are in capitals
        found, number = f"{base}_{number}", number + 1
    taken.add(found.lower())
    return found


def _wrapped(head: str, parameters: list[str]) -> str:
    """`head` and parameters, indented to the bracket where they fill more than a line."""
    lines = [head]
    for i, parameter in enumerate(parameters):
        piece = parameter + (")" if i + 1 == len(parameters) else ",")
        if len(lines[-1]) + len(piece) + 1 > 96:
            lines.append(" " * len(head) + piece)
        else:
            lines[-1] += piece if lines[-1] == head else f" {piece}"
    return "\n".join(lines)


_KEYWORDS: Final = frozenset(
    """alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const
    constexpr continue decltype default delete do double dynamic_cast else enum explicit export
    extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq
    nullptr operator or or_eq private protected public register reinterpret_cast restrict return
    short signed sizeof static static_assert static_cast struct switch template this thread_local
    throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while
    xor xor_eq""".split()  # noqa: SIM905 (a paragraph reads better)
)
"""Of C and C++."""

_INNER: Final = re.compile(
    r"(i|m|p|word|plane|space|sum|unpack|mux|LANES|NULL|HUGE_VALF|memset|u?int\w*_t|size_t|"
    r"(rows|planes|levels|masks|tables|space|trees|gates)_\d+|gates\d_\w+|wide_gates|pack_\w+|"
    r"lgir_value|inputs|outputs|(input|output)_shape_\d+)$"
)
"""Names that exported C has inside."""
