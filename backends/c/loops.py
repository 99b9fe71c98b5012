"""Style "tables": loops over rows of planes, one C function per kind of gate and shape of tree."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np

from lgir.backends.c.constants import ConstantPool
from lgir.backends.c.expressions import gate_expression
from lgir.backends.lowering.cones import ConeExpr
from lgir.backends.lowering.steps import ConeStep, GateStep, Step
from lgir.ir.truth_tables import TABLE_TO_NAME, UNARY_NAMES


class RowLoopWriter:
    """Write gate and tree steps as calls of loops, with the loops and the tables that they need.

    Args:
        constants: receives the tables.
        functions: receives the loops, by name.
    """

    def __init__(self, constants: ConstantPool, functions: dict[str, str]) -> None:
        self._constants = constants
        self._functions = functions
        self._tree_names: dict[ConeExpr, str] = {}

    def calls(self, steps: Sequence[Step]) -> list[str]:
        """Return the calls that evaluate `steps` in order."""
        lines = []
        for step in steps:
            if isinstance(step, GateStep):
                lines.append(self._call_gates(step))
            elif isinstance(step, ConeStep):
                lines.append(self._call_trees(step))
        return lines

    def _call_gates(self, step: GateStep) -> str:
        rows, n = self._constants.add_table("rows", "plane", step.rows), len(step.rows)
        if step.table is None:
            assert step.tables is not None
            tables = self._constants.add_table("tables", "uint64_t", step.tables)
            return f"wide_gates(p, {rows}, {tables}, {n}, {step.fanin});"
        name = gate_function_name(step.fanin, step.table)
        if name not in self._functions:
            self._functions[name] = gate_function(step.fanin, step.table)
        return f"{name}(p, {rows}, {n});"

    def _call_trees(self, step: ConeStep) -> str:
        planes = np.column_stack([step.leaves, step.out])
        rows = self._constants.add_table("rows", "plane", planes)
        bits = np.packbits(step.masks, axis=1, bitorder="little")
        masks = self._constants.add_table("masks", "uint8_t", bits)
        axes = (step.space, step.in_step, step.out_step, step.shifts.tolist())
        size, reads, writes, shifts = ("{" + ", ".join(map(str, a)) + "}" for a in axes)
        space = self._constants.add(
            "space",
            f"static const space $ = {{{size}, {reads}, {writes}, {len(step.shifts)}, {shifts}}};",
        )
        name = self._tree_names.setdefault(step.expr, f"trees_{len(self._tree_names)}")
        if name not in self._functions:
            self._functions[name] = tree_function(name, step.expr)
        return f"{name}(p, {rows}, {masks}, {len(step.leaves)}, &{space});"


def gate_function_name(fanin: int, table: int) -> str:
    """Return the name of the function that `gate_function` writes."""
    name = UNARY_NAMES[table] if fanin == 1 else TABLE_TO_NAME[table] if fanin == 2 else None
    return f"gates{fanin}_{re.sub('[^a-z0-9]', '_', name) if name else f'{table:02x}'}"


def gate_function(fanin: int, table: int) -> str:
    """Return a C function that evaluates gates of up to three inputs and one table.

    Its rows hold the planes of a gate's inputs and of its result.
    """
    inputs = [f"p[row[{i}]]" for i in range(fanin)]
    return (
        f"static void {gate_function_name(fanin, table)}(word *p, const plane *row, long n)\n"
        "{\n"
        f"    for (; n > 0; n--, row += {fanin + 1})\n"
        f"        p[row[{fanin}]] = {gate_expression(table, inputs)};\n"
        "}\n"
    )


def tree_function(name: str, expr: ConeExpr) -> str:
    """Return a C function that evaluates trees of one shape at every position.

    The comment of `templates.SPACE` says what its rows and masks are.
    """
    kinds, masks = expr.leaves(), expr.num_masks() + 1
    offset = {"tap": "from", "cut": "to"}
    body = [f"const word x{i} = p[{offset[kind]} + row[{i}]];" for i, kind in enumerate(kinds)]
    statements, root = _tree_statements(expr)
    body += [*statements, f"any |= {root} ^ m[{masks - 1}];"]
    indent, base = " " * 20, ""
    if "tap" in kinds:
        base = f"{indent}const long base = z * at->in[0] + y * at->in[1] + x * at->in[2];\n"
        body.insert(0, "const long from = base + at->shift[copy];")
    inner = "\n".join(f"{indent}    {line}" for line in body)
    return f"""\
/* Evaluates trees {expr}. */
static void {name}(word *p, const plane *row, const uint8_t *mask, long n, const space *at)
{{
    for (; n > 0; n--, row += {len(kinds) + 1}, mask += {-(-masks // 8)}) {{
        word m[{masks}];
        for (int i = 0; i < {masks}; i++)
            m[i] = (word)0 - (word)(mask[i / 8] >> i % 8 & 1);
        for (long z = 0; z < at->size[0]; z++)
            for (long y = 0; y < at->size[1]; y++)
                for (long x = 0; x < at->size[2]; x++) {{
{base}                    const long to = z * at->out[0] + y * at->out[1] + x * at->out[2];
                    word any = 0;
                    for (int copy = 0; copy < at->copies; copy++) {{
{inner}
                    }}
                    p[to + row[{len(kinds)}]] = any;
                }}
    }}
}}
"""


def _tree_statements(root: ConeExpr) -> tuple[list[str], str]:
    """Return statements that evaluate a tree with leaves x0, x1, ..., and the root's variable."""
    lines: list[str] = []
    numbers = itertools.count()

    def leaf(number: int, _: ConeExpr) -> str:
        return f"x{number}"

    def gate(expr: ConeExpr, operands: list[str], masks: range) -> str:
        number = next(numbers)
        if expr.kind == "xor":
            value = " ^ ".join(operands)
        elif expr.kind == "and":
            a, b = operands
            m, n = masks
            value = f"({a} & ({b} ^ m[{m}])) ^ ({b} & m[{n}])"
        else:
            lines.append(f"const word a{number}[] = {{{', '.join(operands)}}};")
            value = f"mux(m + {masks.start}, a{number}, {len(operands)})"
        lines.append(f"const word v{number} = {value};")
        return f"v{number}"

    root_variable = root.fold(leaf, gate)
    return lines, root_variable
