"""A graph as portable C99: one file of tables and loops for any machine with a C compiler.

The file has no intrinsics, allocates nothing and writes to no global variable. Its steps are those
of `lgir.backends.lowering.plan`, on words of 32 or 64 samples.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Final

from lgir.backends.c.constants import ConstantPool
from lgir.backends.c.interface import ABI_VERSION, Entry, Interface
from lgir.backends.c.loops import RowLoopWriter
from lgir.backends.c.statements import gate_statements
from lgir.backends.c.templates import FUNCTIONS, SPACE
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
_ONE_SAMPLE_HEAD: Final = """\
/* One sample: the functions above with a byte per bit, of which only bit 0 counts. */
typedef uint8_t cell;
"""


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

    The arguments and errors are those of `emit_c`. Beside the functions of batches there are
    functions that evaluate one sample with a byte of RAM per bit; linkers drop what is not called.
    """
    source = CSource(graph, word, style, prefix, one_sample=True)
    return Export(source.text().encode(), source.header())


class CSource:
    """The parts of a .c file. Arguments and errors are those of `emit_c`.

    Args:
        one_sample: add functions that evaluate one sample.
    """

    def __init__(
        self, graph: Graph, word: int, style: str, prefix: str | None, *, one_sample: bool = False
    ) -> None:
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
        self._entries = [self._entry(entry) for entry in self.interface.all_entries]
        self._one_sample_bytes = self.plan.num_planes if one_sample else None
        self._one_sample_entries = (
            [self._one_sample_entry(entry) for entry in self.interface.entries]
            if one_sample
            else []
        )

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
        return self.interface.header(
            self._about(),
            self.workspace_bytes,
            allocates=False,
            one_sample_bytes=self._one_sample_bytes,
        )

    def text(self) -> str:
        """Return the text of the .c file."""
        functions = [*self._functions.values(), *self._entries]
        constants = self._constants.definitions()
        parts = [
            comment(self._about()),
            "#include <math.h>\n" if "HUGE_VALF" in "".join(constants) else "",
            "#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n",
            self.interface.declarations(
                self.workspace_bytes, allocates=False, one_sample_bytes=self._one_sample_bytes
            )
            + "\n",
            f"typedef uint{self.word}_t word;",
            f"typedef uint{8 * self._plane_bytes}_t plane;",
            f"enum {{ LANES = {self.word} }};\n",
            *needed_pieces(FUNCTIONS, "\n".join([*constants, *functions])),
            *constants,
            "",
            *functions,
            self._one_sample_text(),
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
        body = "\n".join(f"        {line}" for line in self._steps(entry, " + i * {}", "m"))
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

    def _steps(self, entry: Entry, place: str, n: str) -> list[str]:
        """Return statements that evaluate `n` samples.

        Args:
            place: what is added to an array for the first sample, {} being a sample's elements.
        """
        lines = []
        for i, run in enumerate(self._runs):
            step = run[0]
            if isinstance(step, PackStep):
                bad_values = self.interface.macro("BAD_VALUES")
                lines += [f"if ({self._pack(step, entry, place, n)})", f"    return {bad_values};"]
            elif isinstance(step, SumStep):
                if entry.result == "scores" or step.output == 0:
                    lines.append(self._sum(step, entry, place, n))
            elif isinstance(step, ExportStep):
                if entry.result == "scores":
                    lines.append(self._unpack(step, entry, place, n))
            else:
                lines.append(self._gate_calls[i])
        return lines

    def _pack(self, step: PackStep, entry: Entry, place: str, n: str) -> str:
        parameter = entry.inputs[step.input]
        num_levels, elements = step.planes.shape
        planes = self._constants.add_table("planes", "plane", step.planes)
        samples = parameter.name + place.format(parameter.width)
        if step.levels is None:
            return f"pack_bits_{parameter.kind}(p, {samples}, {n}, {elements}, {planes})"
        levels, differ = self._constants.add_levels(step.dtype, step.levels)
        shape = f"{elements}, {num_levels}"
        return (
            f"pack_{parameter.kind}(p, {samples}, {n}, {shape}, {levels}, {int(differ)}, {planes})"
        )

    def _sum(self, step: SumStep, entry: Entry, place: str, n: str) -> str:
        groups, bits = step.planes.shape
        rows = self._constants.add_table("rows", "plane", step.planes)
        results = entry.outputs[step.output].name
        if entry.result == "labels":
            return f"label_samples(p, {rows}, {groups}, {bits}, {n}, {results}{place.format(1)});"
        results += place.format(groups)
        if entry.result == "counts":
            return f"count_groups(p, {rows}, {groups}, {bits}, {n}, {results});"
        tau, beta = float_literal(step.tau), float_literal(step.beta)
        return f"sum(p, {rows}, {groups}, {bits}, {tau}, {beta}, {n}, {results});"

    def _unpack(self, step: ExportStep, entry: Entry, place: str, n: str) -> str:
        elements = len(step.planes)
        rows = self._constants.add_table("rows", "plane", step.planes)
        results = entry.outputs[step.output].name + place.format(elements)
        return f"unpack(p, {rows}, {elements}, {n}, {results});"

    # -- one sample ------------------------------------------------------------------------------

    def _one_sample_entry(self, entry: Entry) -> str:
        """Return the C function that evaluates one sample, with names before `_one_sample_text`."""
        is_null = " || ".join(f"!{a.name}" for a in (*entry.inputs, *entry.outputs))
        body = "\n".join(f"    {line}" for line in self._steps(entry, "", "1"))
        return f"""\
{entry.one_sample_declaration()}
{{
    word *p = workspace;
    if ({is_null} || !workspace)
        return {self.interface.macro("BAD_ARGUMENT")};
    memset(p, 0, {self.interface.macro("ONE_WORKSPACE_BYTES")});
    p[{ONE_PLANE}] = 1;
{body}
    return {self.interface.macro("OK")};
}}
"""

    def _one_sample_text(self) -> str:
        """Return the functions for one sample: those for words again, with a byte for a word.

        They are other functions, named `one_...`, on the same tables. Only bit 0 of a byte counts.
        Words outside of the workspace become registers.
        """
        if not self._one_sample_entries:
            return ""
        functions = "\n".join([*self._functions.values(), *self._one_sample_entries])
        pieces = [piece for piece in needed_pieces(FUNCTIONS, functions) if piece != SPACE]
        text = re.sub(r"/\*.*?\*/\n", "", "\n".join([*pieces, functions]), flags=re.DOTALL)
        names = "|".join(map(re.escape, [*FUNCTIONS, *self._functions]))
        text = re.sub(rf"\b({names})(?=\()", r"one_\1", text)
        text = re.sub(r"\bword \*p\b", "cell *p", text)
        text = re.sub(r"\bword\b", "unsigned", text)
        text = re.sub(r"^( *p\[.*\]) = (.*);$", r"\1 = (cell)(\2);", text, flags=re.MULTILINE)
        return f"{_ONE_SAMPLE_HEAD}\n{text}"

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
