"""Gates that are evaluated once: their kernels, rows and launches.

Gates that do not depend on each other share a launch for each number of inputs, whatever their
operations: each row carries its truth table, and the branch on it is uniform in a warp.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from lgir.backends.cuda.builder import ProgramBuilder
from lgir.backends.cuda.kernel import CudaKernel
from lgir.backends.cuda.launch import LaunchShape
from lgir.backends.lowering.steps import BUFFER, GateStep
from lgir.ir.truth_tables import TABLE_TO_NAME, widen_table

GATES_PER_THREAD: Final = 4
"""Gates of one truth table that a thread evaluates side by side."""


class GateLowering:
    """Lower gate steps to launches of `builder`.

    Args:
        steps: all gate steps of the program, whose truth tables the kernels distinguish.
    """

    def __init__(self, builder: ProgramBuilder, steps: Sequence[GateStep]) -> None:
        self._builder = builder
        self._tables = {
            fanin: sorted({_table_of(s, fanin) for s in steps if _kernel_fanin(s) == fanin})
            for fanin in (2, 3)
        }

    def add(self, steps: Sequence[GateStep]) -> None:
        """Append the launches of independent gate steps."""
        copies = [s for s in steps if _is_copy(s)]
        if copies:
            self._add_copies(copies)
        for fanin in (2, 3):
            narrow = [s for s in steps if _kernel_fanin(s) == fanin]
            if narrow:
                self._add_narrow(fanin, narrow)
        for fanin in (4, 5, 6):
            wide = [s for s in steps if s.fanin == fanin]
            if wide:
                self._add_wide(fanin, wide)

    def _add_copies(self, steps: Sequence[GateStep]) -> None:
        planes = np.concatenate([s.rows for s in steps])
        size = len(planes)
        rows = self._builder.table("copy_rows", "plane_t", planes)
        note = f"{size:,} planes copied"
        self._builder.launch(copy_kernel(), LaunchShape.ROWS, size, (rows, size), note)

    def _add_narrow(self, fanin: int, steps: Sequence[GateStep]) -> None:
        """Append a launch of gates in rows of four, (operand and output columns, 4).

        The last row of a truth table repeats its last gate until it is full.
        """
        rows, tables = [], []
        for step in steps:
            planes = step.rows
            if step.fanin < fanin:  # a gate of one input, whose table ignores the second
                planes = planes[:, [0, 0, 1]]
            count = -(-len(planes) // GATES_PER_THREAD)
            gates = np.minimum(np.arange(count * GATES_PER_THREAD), len(planes) - 1)
            quads = planes[gates.reshape(count, GATES_PER_THREAD)]
            rows.append(quads.transpose(0, 2, 1).reshape(count, -1))
            tables.append(np.full(count, _table_of(step, fanin)))
        size, num_gates = sum(map(len, rows)), sum(len(s.rows) for s in steps)
        args = (
            self._builder.table("gate_rows", "plane_t", np.concatenate(rows), seen_as="Four"),
            self._builder.table("tables", "uint8_t", np.concatenate(tables)),
            size,
        )
        note = f"{num_gates:,} gates of {fanin} inputs, {len(steps)} operations"
        kernel = quad_gate_kernel(fanin, self._tables[fanin])
        self._builder.launch(kernel, LaunchShape.ROWS, size, args, note)

    def _add_wide(self, fanin: int, steps: Sequence[GateStep]) -> None:
        rows = self._builder.table("gate_rows", "plane_t", np.concatenate([s.rows for s in steps]))
        tables = np.concatenate([s.tables for s in steps if s.tables is not None])
        args = (rows, self._builder.table("tables", "uint64_t", tables), len(tables))
        note = f"{len(tables):,} gates of {fanin} inputs"
        self._builder.launch(wide_gate_kernel(fanin), LaunchShape.ROWS, len(tables), args, note)


def _is_copy(step: GateStep) -> bool:
    return step.fanin == 1 and step.table == BUFFER


def _kernel_fanin(step: GateStep) -> int | None:
    """Return the inputs of the kernel that evaluates the step in rows of four, if one does."""
    return None if step.fanin > 3 or _is_copy(step) else max(step.fanin, 2)


def _table_of(step: GateStep, fanin: int) -> int:
    """Return the step's truth table over `fanin` inputs."""
    assert step.table is not None
    return widened(step.table, step.fanin, fanin)


def widened(table: int, fanin: int, to: int) -> int:
    """Return a truth table of `fanin` inputs as one of `to` inputs that ignores the new ones."""
    return int(widen_table(np.array([table], np.uint8), fanin, to)[0])


def quad_gate_kernel(fanin: int, tables: Iterable[int]) -> CudaKernel:
    """Return the kernel of gates of two or three inputs.

    A row holds `GATES_PER_THREAD` gates of one truth table.

    Args:
        tables: the truth tables that occur in the program.
    """
    names = "abc"[:fanin]
    operands = ", ".join(f"{n}[i]" for n in names) + (", 0u" if fanin == 2 else "")
    cases = []
    for table in sorted(set(tables)):
        immediate = widened(table, fanin, 3)
        name = f"  // {TABLE_TO_NAME[table]}" if fanin == 2 else ""
        value = f"lop3<0x{immediate:02x}>({operands})"
        cases.append(f"case 0x{table:02x}: EACH d[i] = {value}; break;{name}")
    values = ", ".join(f"{n}[{GATES_PER_THREAD}]" for n in names)
    lines = [
        "const unsigned w = blockIdx.z * blockDim.x + threadIdx.x;",
        "const unsigned q = blockIdx.x * blockDim.y + threadIdx.y;",
        "if (w >= words || q >= count) return;",
        *(f"const Four {n}_at = rows[{fanin + 1} * q + {i}];" for i, n in enumerate(names + "d")),
        f"word {values}, d[{GATES_PER_THREAD}] = {{}};",
        f"#define EACH for (unsigned i = 0; i < {GATES_PER_THREAD}; ++i)",
        *(f"EACH {n}[i] = load(planes, {n}_at.plane[i] * stride + w);" for n in names),
        "switch (tables[q]) {",
        *cases,
        "}",
        "EACH planes[d_at.plane[i] * stride + w] = d[i];",
        "#undef EACH",
    ]
    return CudaKernel(
        f"gates{fanin}",
        f"Evaluates gates of {fanin} inputs, four of one truth table per thread. A row holds the\n"
        "planes of operands and results. The branch is uniform in a warp, whose lanes share a row.",
        "const Four *rows, const uint8_t *tables, unsigned count",
        "\n".join(lines),
    )


def wide_gate_kernel(fanin: int) -> CudaKernel:
    """Return the kernel of gates of four to six inputs: a tree of multiplexers over the table."""
    lines = [
        "const unsigned w = blockIdx.z * blockDim.x + threadIdx.x;",
        "const unsigned r = blockIdx.x * blockDim.y + threadIdx.y;",
        "if (w >= words || r >= count) return;",
        f"const plane_t *row = rows + (size_t)r * {fanin + 1};",
        "const uint64_t table = tables[r];",
        "const word low = (word)table" + (", high = (word)(table >> 32);" if fanin == 6 else ";"),
    ]
    lines += [f"const word x{i} = load(planes, row[{i}] * stride + w);" for i in range(fanin)]
    layer = [f"mask({'high' if i >= 32 else 'low'}, {i % 32})" for i in range(1 << fanin)]
    for depth in reversed(range(fanin)):
        names = [f"m{depth}_{i}" for i in range(len(layer) // 2)]
        lines += [
            f"const word {name} = lop3<0xca>(x{depth}, {layer[2 * i + 1]}, {layer[2 * i]});"
            for i, name in enumerate(names)
        ]
        layer = names
    lines.append(f"planes[row[{fanin}] * stride + w] = {layer[0]};")
    return CudaKernel(
        f"gates{fanin}",
        f"Evaluates gates of {fanin} inputs: multiplexers select a bit of the row's truth table.",
        "const plane_t *rows, const uint64_t *tables, unsigned count",
        "\n".join(lines),
    )


def copy_kernel() -> CudaKernel:
    """Return the kernel that copies planes."""
    return CudaKernel(
        "copies",
        "Copies planes. Rows are (source, target).",
        "const plane_t *rows, unsigned count",
        """\
const unsigned w = blockIdx.z * blockDim.x + threadIdx.x;
const unsigned r = blockIdx.x * blockDim.y + threadIdx.y;
if (w >= words || r >= count) return;
planes[rows[2 * r + 1] * stride + w] = load(planes, rows[2 * r] * stride + w);""",
    )
