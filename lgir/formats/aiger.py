"""AIGER, the format of hardware model checkers: and-inverter graphs in binary, both ways.

Gates of more than two inputs are decomposed by Shannon's expansion. Inputs and outputs are the bits
that `lgir.formats.blif` writes. Format: A. Biere, "The AIGER And-Inverter Graph Format", version
20071012.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from lgir.errors import FormatError
from lgir.formats.exporter import Export
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.input_space import InputSpace
from lgir.ir.truth_tables import full_mask
from lgir.ir.types import FIRST_TAP, TRUE
from lgir.ir.unrolling import unroll_graph
from lgir.registry import register_exporter

_MAX_VARIABLES: Final = 1 << 28


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
    body = unroll_graph(graph, space).body
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
    return bytes(parts)


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


def read_aiger(path: str | Path) -> Graph:
    """Return a binary AIGER file without latches as a graph of one bit input and one bit output.

    Raises FormatError if the file is missing, truncated, corrupt or sequential.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise FormatError(f"no such file: {file}") from None
    return parse_aiger(data, str(file))


def parse_aiger(data: bytes, where: str = "AIGER") -> Graph:
    """Return what `read_aiger` returns, from bytes; `where` names them in errors."""
    head, _, rest = data.partition(b"\n")
    words = head.split()
    if len(words) < 6 or words[0] != b"aig" or not all(w.isdigit() for w in words[1:]):
        raise FormatError(f"{where}: not a binary AIGER file (its first line is aig M I L O A)")
    variables, inputs, latches, outputs, ands = (int(w) for w in words[1:6])
    if latches or any(int(w) for w in words[6:]):
        raise FormatError(f"{where}: holds latches or properties; only combinational logic is read")
    if variables != inputs + ands or variables > _MAX_VARIABLES or not inputs or not outputs:
        raise FormatError(
            f"{where}: the header {head.decode('ascii', 'replace')!r} is not consistent"
        )
    literals = []
    for _ in range(outputs):
        line, _, rest = rest.partition(b"\n")
        if not line.isdigit() or int(line) > 2 * variables + 1:
            raise FormatError(f"{where}: {line[:20]!r} is not an output's literal")
        literals.append(int(line))
    pairs = _decoded(rest, inputs, ands, where)
    return _graph(inputs, literals, pairs)


def _decoded(data: bytes, inputs: int, ands: int, where: str) -> np.ndarray:
    """Return the literals of each AND's operands, (ands, 2), the greater first."""
    position, flat = 0, []
    for i in range(ands):
        literal = 2 * (inputs + 1 + i)
        for _ in range(2):
            value = shift = 0
            while True:
                if position >= len(data) or shift > 35:
                    raise FormatError(
                        f"{where}: the gates are truncated or corrupt at {i} of {ands}"
                    )
                byte = data[position]
                position += 1
                value |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            literal -= value
            flat.append(literal)
        if not flat[-2] >= flat[-1] >= 0 or flat[-2] >= 2 * (inputs + 1 + i):
            raise FormatError(f"{where}: gate {i} reads a later one")
    return np.array(flat, np.int64).reshape(-1, 2)


def _graph(inputs: int, literals: list[int], pairs: np.ndarray) -> Graph:
    """Return the graph. Variable v is net v + 1: 0 is the constant, inputs and ANDs follow."""

    def net(variable: np.ndarray) -> np.ndarray:
        return np.where(variable == 0, 0, variable + FIRST_TAP - 1)

    complemented = pairs & 1
    # The AND of two literals is True in one row of its table.
    table = 1 << (2 * (1 - complemented[:, 0]) + (1 - complemented[:, 1]))
    fanin = net(pairs >> 1)
    inverted = sorted({x for x in literals if x & 1 and x > TRUE})
    first = FIRST_TAP + inputs + len(pairs)
    inverters = {x: first + i for i, x in enumerate(inverted)}
    sources = net(np.array([x >> 1 for x in inverted], np.int64))
    fanin = np.concatenate([fanin, np.stack([sources, np.zeros_like(sources)], axis=1)])
    table = np.concatenate([table, np.full(len(sources), 0b0011)])
    outputs = [inverters.get(x, x if x <= TRUE else (x >> 1) + FIRST_TAP - 1) for x in literals]
    taps = np.stack([np.zeros(inputs, np.int64), np.arange(inputs)], axis=1)
    b = GraphBuilder("aiger", {"source": "aiger"})
    x = b.input("x", "bit", (inputs,))
    return b.build(b.logic([x], Body.build(taps, fanin, table, outputs), name="y"))
