"""A graph as portable C99: one file of tables and loops for any machine with a C compiler.

The file has no intrinsics, allocates nothing and writes to no global variable. Its steps are those
of `lgir.backends.lowering.plan`, on words of 32 or 64 samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

from lgir.backends.c.constants import ConstantPool
from lgir.backends.c.interface import ABI_VERSION, Entry, Interface
from lgir.backends.c.loops import RowLoopWriter
from lgir.backends.c.statements import gate_statements
from lgir.backends.c.templates import FUNCTIONS
from lgir.backends.c.text import comment, float_literal, needed_pieces, string_literal
from lgir.backends.lowering.options import LoweringOptions
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
from lgir.version import __version__

LOWERING_OPTIONS: Final = LoweringOptions()
"""No option: the steps that every C compiler can evaluate."""
STYLES: Final = ("tables", "statements")


def emit_c(
    graph: Graph,
    *,
    word: int = 64,
    style: str = "tables",
    prefix: str | None = None,
    gates: bool = False,
) -> str:
    """Return `graph` as the text of a .c file that needs no header.

    Args:
        word: bits of a word, 32 or 64, which is how many samples are evaluated at a time.
        style: "tables" writes loops over wiring as data, "statements" a statement for each gate of
            a small network without convolutions.
        prefix: what the functions' names begin with. None derives it from the graph's name.
        gates: add `void <prefix>_gates(void *workspace)`, which evaluates only the gates of one
            word of samples, so that a benchmark can time them.

    Raises:
        UnknownNameError: `style` is another one.
        BackendError: the graph, `word` or `prefix` does not work.
    """
    source = CSource(graph, word, style, prefix)
    return source.text() + (source.gates_alone() if gates else "")


@register_exporter("c")
def export_c(
    graph: Graph, *, word: int = 64, style: str = "tables", prefix: str | None = None
) -> Export:
    """Export portable C99, readable and without dependencies, for microcontrollers and others.

    The arguments and errors are those of `emit_c`.
    """
    source = CSource(graph, word, style, prefix)
    return Export(source.text().encode(), source.header())


class CSource:
    """The parts of a .c file. Arguments and errors are those of `emit_c`."""

    def __init__(self, graph: Graph, word: int, style: str, prefix: str | None) -> None:
        if word not in (32, 64):
            raise BackendError(f"word={word} is not a width of C words here; choose 32 or 64")
        if style not in STYLES:
            raise unknown_name("style", style, STYLES)
        self.graph = graph
        self.word = word
        self.interface = Interface(graph, prefix)
        self.plan = make_plan(graph, LOWERING_OPTIONS)
        self.workspace_bytes = -(-self.plan.num_planes * word // 64) * 8
        self._plane_bytes = 2 if self.plan.num_planes <= 1 << 16 else 4
        self._constants = ConstantPool(self._plane_bytes)
        self._functions: dict[str, str] = {}
        self._runs = list(_runs(self.plan.steps))
        self._gate_calls = self._write_gates(style)
        self._entries = [self._entry(entry) for entry in self.interface.entries]

    def _write_gates(self, style: str) -> dict[int, str]:
        """Write a function for each run of steps that evaluate gates; return the calls by run."""
        loops = RowLoopWriter(self._constants, self._functions)
        calls = {}
        for i, run in enumerate(self._runs):
            if not _evaluates_gates(run[0]):
                continue
            if style == "statements":
                lines = gate_statements(run, list(itertools.chain(*self._runs[i + 1 :])))
            else:
                lines = loops.calls(run)
            body = "\n".join(f"    {line}" for line in lines)
            self._functions[f"gates_{i}"] = f"static void gates_{i}(word *p)\n{{\n{body}\n}}\n"
            calls[i] = f"gates_{i}(p);"
        return calls

    # -- the file --------------------------------------------------------------------------------

    def _about(self) -> str:
        return (
            f"{self.graph.name}: a logic gate network, exported as C99 by lgir {__version__}.\n\n"
            f"{self.plan.gates:,} gates per sample are evaluated for {self.word} samples at a "
            "time: a plane, which is a word of the workspace, holds one bit of each. "
            f"{self._constants.table_bytes:,} bytes of tables, {self.workspace_bytes:,} of "
            "workspace."
        )

    def header(self) -> str:
        """Return the text of the header."""
        return self.interface.header(self._about(), self.workspace_bytes, allocates=False)

    def text(self) -> str:
        """Return the text of the .c file."""
        functions = [*self._functions.values(), *self._entries]
        constants = self._constants.definitions()
        parts = [
            comment(self._about()),
            "#include <math.h>\n" if "HUGE_VALF" in "".join(constants) else "",
            "#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n",
            self.interface.declarations(self.workspace_bytes, allocates=False) + "\n",
            f"typedef uint{self.word}_t word;",
            f"typedef uint{8 * self._plane_bytes}_t plane;",
            f"enum {{ LANES = {self.word} }};\n",
            *needed_pieces(FUNCTIONS, "\n".join([*constants, *functions])),
            *constants,
            "",
            *functions,
            self._descriptions(),
        ]
        return "\n".join(parts)

    def gates_alone(self) -> str:
        """Return the text of the function that evaluates gates and nothing else."""
        prototype = f"void {self.interface.prefix}_gates(void *workspace)"
        lines = ["word *p = workspace;", *self._gate_calls.values(), "(void)p;"]
        body = "\n".join(f"    {line}" for line in lines)
        return f"\n{prototype};\n{prototype}\n{{\n{body}\n}}\n"

    # -- entries ---------------------------------------------------------------------------------

    def _entry(self, entry: Entry) -> str:
        """Return the C function that evaluates a batch, word by word."""
        is_null = " || ".join(f"!{a.name}" for a in (*entry.inputs, *entry.outputs))
        lines = []
        for i, run in enumerate(self._runs):
            step = run[0]
            if isinstance(step, PackStep):
                bad_values = self.interface.macro("BAD_VALUES")
                lines += [f"if ({self._pack(step, entry)})", f"    return {bad_values};"]
            elif isinstance(step, SumStep):
                lines.append(self._sum(step, entry))
            elif isinstance(step, ExportStep):
                lines.append(self._unpack(step, entry))
            else:
                lines.append(self._gate_calls[i])
        body = "\n".join(f"        {line}" for line in lines)
        bad_argument, ok = self.interface.macro("BAD_ARGUMENT"), self.interface.macro("OK")
        return f"""\
{entry.declaration()}
{{
    word *p = workspace;
    if (n < 0 || (n > 0 && ({is_null} || !workspace)))
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
        parameter = entry.inputs[step.input]
        num_levels, elements = step.planes.shape
        planes = self._constants.add_table("planes", "plane", step.planes)
        samples = f"{parameter.name} + i * {parameter.width}"
        if step.levels is None:
            return f"pack_bits_{parameter.kind}(p, {samples}, m, {elements}, {planes})"
        levels, differ = self._constants.add_levels(step.dtype, step.levels)
        shape = f"{elements}, {num_levels}"
        return f"pack_{parameter.kind}(p, {samples}, m, {shape}, {levels}, {int(differ)}, {planes})"

    def _sum(self, step: SumStep, entry: Entry) -> str:
        groups, bits = step.planes.shape
        rows = self._constants.add_table("rows", "plane", step.planes)
        tau, beta = float_literal(step.tau), float_literal(step.beta)
        scores = f"{entry.outputs[step.output].name} + i * {groups}"
        return f"sum(p, {rows}, {groups}, {bits}, {tau}, {beta}, m, {scores});"

    def _unpack(self, step: ExportStep, entry: Entry) -> str:
        elements = len(step.planes)
        rows = self._constants.add_table("rows", "plane", step.planes)
        results = f"{entry.outputs[step.output].name} + i * {elements}"
        return f"unpack(p, {rows}, {elements}, m, {results});"

    # -- descriptions ----------------------------------------------------------------------------

    def _descriptions(self) -> str:
        """Return the functions that tell the version, the workspace's size and the arrays."""
        prefix, workspace_bytes = self.interface.prefix, self.interface.macro("WORKSPACE_BYTES")
        return "\n".join(
            [
                f"int {prefix}_abi_version(void)\n{{\n    return {ABI_VERSION};\n}}\n",
                f"size_t {prefix}_workspace_bytes(void)\n{{\n    return {workspace_bytes};\n}}\n",
                self._describe("input", self.graph.inputs),
                self._describe("output", self.interface.outputs),
            ]
        )

    def _describe(self, role: str, values: Sequence[Value]) -> str:
        shapes, items = [], []
        for i, value in enumerate(values):
            shape, axes = f"{role}_shape_{i}", ", ".join(map(str, value.shape))
            shapes.append(f"static const int64_t {shape}[] = {{{axes}}};")
            words = f"{string_literal(value.name)}, {string_literal(value.dtype)}"
            items.append(f"    {{{words}, {value.size}, {len(value.shape)}, {shape}}}")
        body = ",\n".join(items)
        return "\n".join(
            [
                *shapes,
                f"static const lgir_value {role}s[] = {{\n{body}\n}};\n",
                f"const lgir_value *{self.interface.prefix}_{role}(int64_t index)\n{{",
                f"    return index >= 0 && index < {len(values)} ? &{role}s[index] : NULL;\n}}\n",
            ]
        )


def _evaluates_gates(step: Step) -> bool:
    return isinstance(step, (GateStep, ConeStep))


def _runs(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Yield runs of consecutive steps that evaluate gates, and every other step alone."""
    for evaluates_gates, group in itertools.groupby(steps, _evaluates_gates):
        if evaluates_gates:
            yield list(group)
        else:
            yield from ([step] for step in group)
