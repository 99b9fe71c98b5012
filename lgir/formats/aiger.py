"""AIGER, the format of hardware model checkers: and-inverter graphs out, and the reader's names.

Gates of more than two inputs are decomposed by Shannon's expansion. Inputs and outputs are the bits
that `lgir.formats.blif` writes, with their names as symbols. Format: A. Biere, "The AIGER
And-Inverter Graph (AIG) Format", version 20071012.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lgir.formats.aiger_reader import parse_aiger, read_aiger
from lgir.formats.element_names import output_names, variable_names
from lgir.formats.exporter import Export
from lgir.ir.graph import Graph
from lgir.ir.input_space import InputSpace
from lgir.ir.truth_tables import full_mask
from lgir.ir.types import TRUE
from lgir.ir.unrolling import unroll_graph
from lgir.registry import register_exporter

__all__ = ["dump_aiger", "export_aiger", "parse_aiger", "read_aiger", "write_aiger"]


def write_aiger(graph: Graph, path: str | Path) -> None:
    """Write `graph`, unrolled, as a binary AIGER file."""
    export_aiger(graph).write(path)


@register_exporter("aig")
def export_aiger(graph: Graph) -> Export:
    """Binary AIGER for model checkers and synthesis: the unrolled graph as ANDs and inverters."""
    return Export(dump_aiger(graph), text=False)


def dump_aiger(graph: Graph) -> bytes:
    """Return the bytes that `write_aiger` writes."""
    space = InputSpace([graph])
    unrolled = unroll_graph(graph, space)
    body = unrolled.body
    builder = _Ands(space.num_variables)
    literal = [0, 1, *range(2, 2 * space.num_variables + 2, 2)]
    for operands, table in zip(body.fanin.tolist(), body.table.tolist(), strict=True):
        literal.append(builder.table(int(table), [literal[x] for x in operands]))
    outputs = [literal[net] for net in body.outputs.tolist()]
    inputs, ands = space.num_variables, len(builder.rows)
    head = f"aig {inputs + ands} {inputs} 0 {len(outputs)} {ands}\n"
    parts = bytearray(head.encode("ascii"))
    parts += "".join(f"{literal}\n" for literal in outputs).encode("ascii")
    for i, (high, low) in enumerate(builder.rows):
        literal_of_gate = 2 * (inputs + 1 + i)
        parts += _encoded(literal_of_gate - high) + _encoded(high - low)
    parts += _symbols("i", variable_names(graph, space))
    parts += _symbols("o", output_names(graph, unrolled))
    return bytes(parts)


def _symbols(kind: str, names: Sequence[str | None]) -> bytes:
    """Return the lines of the symbol table for inputs ("i") or outputs ("o") that have names."""
    lines = (f"{kind}{i} {name}\n" for i, name in enumerate(names) if name is not None)
    return "".join(lines).encode()


class _Ands:
    """AND gates over literals (2 * variable + complement; 0 is False), each pair built once.

    Attributes:
        rows: the operands of each gate as literals, the greater first.
    """

    def __init__(self, inputs: int) -> None:
        self.next = 2 * inputs + 2
        self.rows: list[tuple[int, int]] = []
        self._built: dict[tuple[int, int], int] = {}

    def conjunction(self, a: int, b: int) -> int:
        """Return the literal of `a` AND `b`."""
        high, low = max(a, b), min(a, b)
        if low == 0 or high == low ^ 1:
            return 0
        if low == 1 or high == low:
            return high
        if (high, low) not in self._built:
            self._built[high, low] = self.next
            self.rows.append((high, low))
            self.next += 2
        return self._built[high, low]

    def table(self, table: int, operands: list[int]) -> int:
        """Return the literal of a truth table over literals, the first the most significant."""
        n = len(operands)
        if table == 0 or table == full_mask(n):
            return int(table != 0)
        half = 1 << (n - 1)
        low, high = table & ((1 << half) - 1), table >> half
        if low == high:
            return self.table(low, operands[1:])
        select = operands[0]
        if n == 1:
            return select ^ low
        one, zero = self.table(high, operands[1:]), self.table(low, operands[1:])
        if zero <= TRUE:
            return self.conjunction(select, one ^ zero) ^ zero
        if one <= TRUE:
            return self.conjunction(select ^ 1, zero ^ one) ^ one
        taken, left = self.conjunction(select, one), self.conjunction(select ^ 1, zero)
        return self.conjunction(taken ^ 1, left ^ 1) ^ 1


def _encoded(delta: int) -> bytes:
    """Return a number in AIGER's code: seven bits per byte, the lowest first."""
    out = bytearray()
    while delta >= 0x80:
        out.append(delta & 0x7F | 0x80)
        delta >>= 7
    out.append(delta)
    return bytes(out)
