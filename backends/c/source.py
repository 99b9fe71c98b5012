"""A graph as portable C99: one file of tables and loops, for whatever has a C compiler.

No intrinsics, no allocation, no globals that are written. The steps are those of
`lgir.backends.lowering.plan`, on words of 32 or 64 samples. Style "statements" writes a C statement
for each gate instead, as the exporters of training frameworks do.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.backends.c import templates
from lgir.backends.c.interface import ABI_VERSION, Entry, Interface, comment
from lgir.backends.lowering.plan import make_plan
from lgir.backends.lowering.steps import (
    ONE_PLANE,
    ConeStep,
    ExportStep,
    GateStep,
    PackStep,
    Step,
    SumStep,
)
from lgir.errors import BackendError, unknown_name
from lgir.formats.exporter import Export
from lgir.ir.graph import Graph
from lgir.ir.types import Value
from lgir.registry import register_exporter

STYLES: Final = ("tables", "statements")
_ELEMENT_BYTES: Final = {"uint8_t": 1, "int16_t": 2, "float": 4, "uint64_t": 8}
_LINE: Final = 16  # numbers on a line of a table
_HELPERS: Final = {
    "pack_bits_u8": templates.PACK_BITS_U8,
    "pack_bits_f32": templates.PACK_BITS_F32,
    "pack_bits_bits": templates.PACK_BITS_BITS,
    "pack_u8": templates.PACK_U8,
    "pack_f32": templates.PACK_F32,
    "mux": templates.MUX,
    "wide_gates": templates.WIDE_GATES,
    "space": templates.SPACE,
    "sum": templates.SUM,
    "unpack": templates.UNPACK,
}
"""Functions of which a file holds those that it calls, in this order."""


def emit_c(
    graph: Graph,
    *,
    word: int = 64,
    style: str = "tables",
    prefix: str | None = None,
    gates: bool = False,
) -> str:
    """`graph` as the text of a .c file that needs no header.

    Args:
        word: bits of a word, 32 or 64: as many samples are evaluated at a time.
        style: "tables": loops over wiring as data. "statements": a statement for each gate, for
            small networks without convolutions.
        prefix: what the functions' names begin with; the graph's name where None.
        gates: add `void <prefix>_gates(void *workspace)`, which evaluates the gates of a word of
            samples and nothing else, to be timed.

    Raises:
        UnknownNameError: another style. BackendError: the graph, word or prefix does not work.
    """
    source = _Source(graph, word, style, prefix)
    return source.text() + (source.gates_alone() if gates else "")


@register_exporter("c")
def export_c(
    graph: Graph, *, word: int = 64, style: str = "tables", prefix: str | None = None
) -> Export:
    """Portable C99, readable and without dependencies, for microcontrollers and odd machines; see
    `emit_c`.
    """
    source = _Source(graph, word, style, prefix)
    return Export(source.text().encode(), source.header())


class _Source:
    def __init__(self, graph: Graph, word: int, style: str, prefix: str | None) -> None:
        if word not in (32, 64):
            raise BackendError(f"word={word} is not a width of C words here; choose 32 or 64")
        if style not in STYLES:
            raise unknown_name("style", style, STYLES)
        self.graph = graph
        self.word = word
        self.interface = Interface(graph, prefix)
        self.plan = make_plan(graph)
        self.workspace_bytes = -(-self.plan.num_planes * word // 64) * 8
        self._bytes = _ELEMENT_BYTES | {"plane": 2 if self.plan.num_planes <= 1 << 16 else 4}
        self._table_bytes = 0
        self._constants: dict[str, str] = {}
        self._functions: dict[str, str] = {}
        self._trees: dict[str, str] = {}
        self._runs = list(_runs(self.plan.steps))
        write = self._statements if style == "statements" else self._loops
        # The call of each run of gates, by its place; the function is written on the way.
        self._gates = {
            i: write(f"gates_{i}", i, run)
            for i, run in enumerate(self._runs)
            if isinstance(run[0], (GateStep, ConeStep))
        }
        self._entries = [self._entry(entry) for entry in self.interface.entries]

    # -- the file --------------------------------------------------------------------------------

    def _about(self) -> str:
        from lgir.version import __version__

        return (
            f"{self.graph.name}: a logic gate network, exported as C99 by lgir {__version__}.\n\n"
            f"{self.plan.gates:,} gates a sample are evaluated for {self.word} samples at a time: "
            "a plane, which is a word of the workspace, holds one bit of each. "
            f"{self._table_bytes:,} bytes of tables, {self.workspace_bytes:,} of workspace."
        )

    def header(self) -> str:
        return self.interface.header(self._about(), self.workspace_bytes, allocates=False)

    def text(self) -> str:
        functions = [*self._functions.values(), *self._entries]
        constants = [text.replace("$", name, 1) for text, name in self._constants.items()]
        parts = [
            comment(self._about()),
            "#include <math.h>\n" if "HUGE_VALF" in "".join(constants) else "",
            "#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n",
            self.interface.declarations(self.workspace_bytes, allocates=False),
            f"typedef uint{self.word}_t word;",
            f"typedef uint{8 * self._bytes['plane']}_t plane;",
            f"enum {{ LANES = {self.word} }};\n",
            *_needed("\n".join([*constants, *functions])),
            *constants,
            "",
            *functions,
            self._describing(),
        ]
        return "\n".join(parts)

    def gates_alone(self) -> str:
        """The function that evaluates gates and nothing else."""
        head = f"void {self.interface.prefix}_gates(void *workspace)"
        lines = ["word *p = workspace;", *self._gates.values(), "(void)p;"]
        body = "\n".join(f"    {line}" for line in lines)
        return f"\n{head};\n{head}\n{{\n{body}\n}}\n"

    def _constant(self, name: str, text: str) -> str:
        """The name of a constant; `$` stands for it in its definition. Equal ones are shared."""
        return self._constants.setdefault(text, f"{name}_{len(self._constants)}")

    def _table(self, name: str, kind: str, values: npt.NDArray[Any]) -> str:
        known = len(self._constants)
        write = {"float": float_literal, "uint64_t": "{:#x}u".format}.get(kind, str)
        numbers = list(map(write, values.ravel().tolist()))
        lines = [", ".join(numbers[i : i + _LINE]) for i in range(0, len(numbers), _LINE)]
        body = ",\n    ".join(lines)
        found = self._constant(name, f"static const {kind} $[] = {{\n    {body}\n}};")
        if len(self._constants) > known:
            self._table_bytes += values.size * self._bytes[kind]
        return found

    # -- gates -----------------------------------------------------------------------------------

    def _loops(self, name: str, _: int, run: list[Step]) -> str:
        """A function that calls a loop over rows for each step."""
        lines = []
        for step in run:
            if isinstance(step, GateStep):
                lines.append(self._gate_loop(step))
            elif isinstance(step, ConeStep):
                lines.append(self._tree_loop(step))
        return self._function(name, lines)

    def _function(self, name: str, lines: list[str]) -> str:
        body = "\n".join(f"    {line}" for line in lines)
        self._functions[name] = f"static void {name}(word *p)\n{{\n{body}\n}}\n"
        return f"{name}(p);"

    def _gate_loop(self, step: GateStep) -> str:
        rows, n = self._table("rows", "plane", step.rows), len(step.rows)
        if step.table is None:
            assert step.tables is not None
            tables = self._table("tables", "uint64_t", step.tables)
            return f"wide_gates(p, {rows}, {tables}, {n}, {step.fanin});"
        name = templates.gate_name(step.fanin, step.table)
        if name not in self._functions:
            self._functions[name] = templates.gate_function(step.fanin, step.table)
        return f"{name}(p, {rows}, {n});"

    def _tree_loop(self, step: ConeStep) -> str:
        rows = self._table("rows", "plane", np.column_stack([step.leaves, step.out]))
        bits = np.packbits(step.masks, axis=1, bitorder="little")
        masks = self._table("masks", "uint8_t", bits)
        axes = (step.space, step.in_step, step.out_step, step.shifts.tolist())
        size, reads, writes, shifts = ("{" + ", ".join(map(str, a)) + "}" for a in axes)
        space = self._constant(
            "space",
            f"static const space $ = {{{size}, {reads}, {writes}, {len(step.shifts)}, {shifts}}};",
        )
        name = self._trees.setdefault(str(step.expr), f"trees_{len(self._trees)}")
        if name not in self._functions:
            self._functions[name] = templates.tree_function(name, step.expr)
        return f"{name}(p, {rows}, {masks}, {len(step.leaves)}, &{space});"

    def _statements(self, name: str, at: int, run: list[Step]) -> str:
        """A function of a statement for each gate that matters; planes that later steps read are
        written at its end.
        """
        gates: list[tuple[list[int], int]] = []
        for step in run:
            if not isinstance(step, GateStep):
                raise BackendError(
                    "C statements are for networks without convolutions; run pass 'unroll' last, "
                    "or take tables: style 'tables', backend 'c'"
                )
            one = np.full(len(step.rows), step.table) if step.tables is None else step.tables
            gates += zip(step.rows.tolist(), one.tolist(), strict=True)
        kept = {plane for later in self._runs[at + 1 :] for step in later for plane in _reads(step)}
        # Backwards, since a plane may hold the results of several gates in turn.
        wanted, live = set(kept), [False] * len(gates)
        for g in range(len(gates) - 1, -1, -1):
            (*operands, out), table = gates[g]
            live[g] = out in wanted
            if live[g]:
                wanted.remove(out)
                wanted.update(operands[i] for i in templates.support(table, len(operands)))
        value: dict[int, str] = {}
        lines = []
        for g, ((*operands, out), table) in enumerate(gates):
            if live[g]:
                inputs = [value.get(plane, f"p[{plane}]") for plane in operands]
                lines.append(f"const word g{g} = {templates.expression(table, inputs)};")
                value[out] = f"g{g}"
        lines += [f"p[{plane}] = {value[plane]};" for plane in sorted(kept & value.keys())]
        return self._function(name, lines or ["(void)p;"])

    # -- entries ---------------------------------------------------------------------------------

    def _entry(self, entry: Entry) -> str:
        """The C function that evaluates a batch, word by word."""
        wrong = " || ".join(f"!{a.name}" for a in (*entry.inputs, *entry.outputs))
        lines = []
        for i, run in enumerate(self._runs):
            step = run[0]
            if isinstance(step, PackStep):
                bad_values = self.interface.macro("BAD_VALUES")
                lines += [f"if ({self._pack(step, entry)})", f"    return {bad_values};"]
            elif isinstance(step, SumStep):
                lines.append(self._sum(step, entry))
            elif isinstance(step, ExportStep):
                out, elements = entry.outputs[step.output].name, len(step.planes)
                rows = self._table("rows", "plane", step.planes)
                lines.append(f"unpack(p, {rows}, {elements}, m, {out} + i * {elements});")
            else:
                lines.append(self._gates[i])
        body = "\n".join(f"        {line}" for line in lines)
        bad_argument, ok = self.interface.macro("BAD_ARGUMENT"), self.interface.macro("OK")
        return f"""\
{entry.declaration()}
{{
    word *p = workspace;
    if (n < 0 || (n > 0 && ({wrong} || !workspace)))
        return {bad_argument};
    if (n > 0) {{
        memset(p, 0, {self.interface.macro("WORKSPACE_BYTES")});
        p[{ONE_PLANE}] = ~(word)0;
    }}
    for (int64_t i = 0; i < n; i += LANES) {{
        const int m = n - i < LANES ? (int)(n - i) : LANES;
{body}
    }}
    return {ok};
}}
"""

    def _pack(self, step: PackStep, entry: Entry) -> str:
        array = entry.inputs[step.input]
        count, elements = step.planes.shape
        planes = self._table("planes", "plane", step.planes)
        samples = f"{array.name} + i * {array.width}"
        if step.levels is None:
            return f"pack_bits_{array.kind}(p, {samples}, m, {elements}, {planes})"
        levels, kind = step.levels, "float"
        if step.dtype == "u8":  # x > t is x > floor(t); -1 holds for every byte, 255 for none
            levels, kind = np.clip(np.floor(levels), -1, 255).astype(np.int16), "int16_t"
        own = bool((levels != levels[:, :1]).any())
        table = self._table("levels", kind, levels if own else levels[:, 0])
        arguments = f"p, {samples}, m, {elements}, {count}, {table}, {int(own)}, {planes}"
        return f"pack_{array.kind}({arguments})"

    def _sum(self, step: SumStep, entry: Entry) -> str:
        groups, bits = step.planes.shape
        rows, out = self._table("rows", "plane", step.planes), entry.outputs[step.output].name
        tau, beta = float_literal(step.tau), float_literal(step.beta)
        return f"sum(p, {rows}, {groups}, {bits}, {tau}, {beta}, m, {out} + i * {groups});"

    def _describing(self) -> str:
        prefix, graph = self.interface.prefix, self.graph
        outputs = [graph.values[name] for name in graph.outputs]
        return "\n".join(
            [
                f"int {prefix}_abi_version(void)\n{{\n    return {ABI_VERSION};\n}}\n",
                f"size_t {prefix}_workspace_bytes(void)\n{{",
                f"    return {self.interface.macro('WORKSPACE_BYTES')};\n}}\n",
                self._values("input", graph.inputs),
                self._values("output", outputs),
            ]
        )

    def _values(self, role: str, values: Sequence[Value]) -> str:
        shapes, items = [], []
        for i, v in enumerate(values):
            shape = f"{role}_shape_{i}"
            shapes.append(f"static const int64_t {shape}[] = {{{', '.join(map(str, v.shape))}}};")
            name = f"{_quoted(v.name)}, {_quoted(v.dtype)}"
            items.append(f"    {{{name}, {v.size}, {len(v.shape)}, {shape}}}")
        body = ",\n".join(items)
        return "\n".join(
            [
                *shapes,
                f"static const lgir_value {role}s[] = {{\n{body}\n}};\n",
                f"const lgir_value *{self.interface.prefix}_{role}(int64_t index)\n{{",
                f"    return index >= 0 && index < {len(values)} ? &{role}s[index] : NULL;\n}}\n",
            ]
        )


def float_literal(x: float) -> str:
    """A C literal of exactly this float32; infinities need <math.h>."""
    if math.isinf(x):
        return "HUGE_VALF" if x > 0 else "-HUGE_VALF"
    text = f"{np.float32(x):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def _quoted(text: str) -> str:
    """A C string literal."""
    plain = (
        chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode()
    )
    return f'"{"".join(plain)}"'


def _runs(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Steps in order, consecutive ones that evaluate gates together."""
    for logic, group in itertools.groupby(steps, lambda s: isinstance(s, (GateStep, ConeStep))):
        if logic:
            yield list(group)
        else:
            yield from ([step] for step in group)


def _reads(step: Step) -> set[int]:
    """Planes that a step reads, of those that networks without convolutions have."""
    if isinstance(step, GateStep):
        return set(step.rows[:, :-1].ravel().tolist())
    if isinstance(step, (SumStep, ExportStep)):
        return set(step.planes.ravel().tolist())
    return set()


def _needed(text: str) -> list[str]:
    """The helpers that `text` or another needed helper names: compilers warn of idle functions."""
    found: list[str] = []
    for name, helper in reversed(_HELPERS.items()):
        if re.search(rf"\b{name}\b", text):
            found.insert(0, helper)
            text += helper
    return found
