"""AIGER in: combinational and-inverter graphs, binary (aig) or ASCII (aag), as graphs.

Time and memory are linear in the bytes of the file, except for inputs of the binary form, which
take no bytes: `max_inputs` limits them. Format: A. Biere, "The AIGER And-Inverter Graph (AIG)
Format", version 20071012, and the header of A. Biere, K. Heljanko, S. Wieringa, "AIGER 1.9 And
Beyond", 2011.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import FormatError
from lgir.files import read_file
from lgir.formats.element_names import names_metadata
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.types import FIRST_TAP, TRUE

MAX_BYTES: Final = 1 << 30
"""Largest file that is read unless the caller allows more."""

MAX_INPUTS: Final = 1 << 20
"""Most inputs that are read unless the caller allows more."""

_MAX_LITERAL: Final = 2**31 - 1
_SYMBOL: Final = re.compile(rb"([ilobcjf])([0-9]{1,10}) (.+)", re.DOTALL)


def read_aiger(
    path: str | PathLike[str], *, max_bytes: int = MAX_BYTES, max_inputs: int = MAX_INPUTS
) -> Graph:
    """Return an AIGER file without latches as a graph of one bit input and one bit output.

    The graph keeps the names of the symbol table (see `lgir.formats.element_names`).

    Args:
        path: the file, in the binary or the ASCII form, which its first word tells apart.
        max_bytes: a larger file is refused. Reading takes at most some 200 bytes of memory per byte
            of the file and per input.
        max_inputs: a file of more inputs is refused.

    Raises:
        FormatError: the file cannot be read, or is truncated, corrupt or sequential.
    """
    return parse_aiger(read_file(path, max_bytes), str(path), max_inputs=max_inputs)


def parse_aiger(data: bytes, where: str = "AIGER", *, max_inputs: int = MAX_INPUTS) -> Graph:
    """Return what `read_aiger` returns, from bytes; `where` names them in errors."""
    return _Reader(data, where).graph(max_inputs)


@dataclass(frozen=True)
class _Header:
    """The numbers of the first line: the greatest variable, inputs, outputs and ANDs."""

    is_binary: bool
    variables: int
    inputs: int
    outputs: int
    ands: int


class _Reader:
    """A cursor over the lines and bytes of one file."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        self.position = 0

    def error(self, message: str) -> FormatError:
        return FormatError(f"{self.where}: {message}")

    def line(self) -> bytes | None:
        """Return the next line without its end, or None after the last one."""
        if self.position >= len(self.data):
            return None
        end = self.data.find(b"\n", self.position)
        end = len(self.data) if end < 0 else end
        line = self.data[self.position : end]
        self.position = end + 1
        return line.removesuffix(b"\r")

    def literals(self, count: int, greatest: int, what: str) -> list[int]:
        """Return the literals of a line of `count` numbers."""
        line = self.line() or b""
        words = line.split()
        if len(words) != count or not all(w.isdigit() and len(w) <= 10 for w in words):
            raise self.error(f"{line[:40]!r} is not {what}")
        numbers = [int(word) for word in words]
        if max(numbers) > greatest:
            raise self.error(f"{line[:40]!r} is not {what}: the greatest literal is {greatest}")
        return numbers

    def graph(self, max_inputs: int) -> Graph:
        """Read the whole file."""
        header = self.header(max_inputs)
        greatest = 2 * header.variables + 1
        if header.is_binary:
            outputs = [
                self.literals(1, greatest, "an output's literal")[0] for _ in range(header.outputs)
            ]
            pairs = self.binary_ands(header)
        else:
            outputs, pairs = self.ascii_ands(header, greatest)
        input_names, output_names = self.symbols(header)
        return _graph(header.inputs, outputs, pairs, input_names, output_names)

    def header(self, max_inputs: int) -> _Header:
        """Read the first line."""
        line = self.line() or b""
        words = line[:200].split()
        if (
            len(words) < 6
            or words[0] not in (b"aig", b"aag")
            or not all(w.isdigit() and len(w) <= 10 for w in words[1:])
        ):
            raise self.error("not an AIGER file (its first line is aig M I L O A, or aag ...)")
        variables, inputs, latches, outputs, ands = (int(w) for w in words[1:6])
        if latches or any(int(w) for w in words[6:]):
            raise self.error("holds latches or properties; only combinational logic is read")
        is_binary = words[0] == b"aig"
        shown = line[:80].decode("ascii", "replace")
        least = inputs + ands
        if not inputs or not outputs or 2 * variables + 1 > _MAX_LITERAL:
            raise self.error(f"the header {shown!r} has no inputs, no outputs, or too many")
        if variables < least or (is_binary and variables > least):
            raise self.error(f"the header {shown!r} is not consistent")
        if inputs > max_inputs:
            raise self.error(
                f"has {inputs:,} inputs; more than {max_inputs:,} are read only with max_inputs="
            )
        # Each line has two bytes or more, and so has a binary AND.
        if 2 * (outputs + ands + (0 if is_binary else inputs)) > len(self.data):
            raise self.error(f"truncated: the header {shown!r} promises more than the file has")
        return _Header(is_binary, variables, inputs, outputs, ands)

    def binary_ands(self, header: _Header) -> npt.NDArray[np.int64]:
        """Return the literals of the operands of each AND, (ands, 2)."""
        data, position = self.data, self.position
        pairs = np.empty((header.ands, 2), np.int64)
        for i in range(header.ands):
            literal = left = 2 * (header.inputs + 1 + i)
            for side in range(2):
                value = shift = 0
                while True:
                    if position >= len(data) or shift > 35:
                        raise self.error(
                            f"the gates are truncated or corrupt at {i} of {header.ands}"
                        )
                    byte = data[position]
                    position += 1
                    value |= (byte & 0x7F) << shift
                    shift += 7
                    if byte < 0x80:
                        break
                left -= value
                if left < 0 or left >= literal:
                    raise self.error(f"gate {i} reads a later one")
                pairs[i, side] = left
        self.position = position
        return pairs

    def ascii_ands(self, header: _Header, greatest: int) -> tuple[list[int], npt.NDArray[np.int64]]:
        """Return the outputs' literals and the operands of each AND, (ands, 2).

        Variables are numbered anew, as the binary form does: inputs, then ANDs, operands first.
        """
        number = {0: 0}
        for i in range(header.inputs):
            (literal,) = self.literals(1, greatest, "an input's literal")
            self.define(number, literal, 1 + i)
        outputs = [
            self.literals(1, greatest, "an output's literal")[0] for _ in range(header.outputs)
        ]
        operands: dict[int, tuple[int, int]] = {}
        for _ in range(header.ands):
            literal, left, right = self.literals(3, greatest, "an AND of three literals")
            if literal >> 1 in number:
                raise self.error(f"literal {literal} is defined twice")
            self.define(operands, literal, (left, right))
        pairs = np.empty((header.ands, 2), np.int64)
        for variable in self.operands_first(operands, number, outputs):
            place = len(number) - 1 - header.inputs
            pairs[place] = [2 * number[x >> 1] | x & 1 for x in operands[variable]]
            number[variable] = len(number)
        return [2 * number[x >> 1] | x & 1 for x in outputs], pairs

    def define(self, known: dict[int, Any], literal: int, value: Any) -> None:
        if literal & 1 or not literal or literal >> 1 in known:
            raise self.error(f"literal {literal} is odd, 0 or defined twice")
        known[literal >> 1] = value

    def operands_first(
        self,
        operands: dict[int, tuple[int, int]],
        known: dict[int, int],
        outputs: Sequence[int],
    ) -> list[int]:
        """Return the variables of ANDs, operands before their readers, by a walk of its own stack.

        Variables in `known` need none.
        """
        is_placed: dict[int, bool] = dict.fromkeys(known, True)  # False: on the path
        order: list[int] = []
        for root in (*operands, *(x >> 1 for x in outputs)):
            stack = [root]
            while stack:
                variable = stack[-1]
                if is_placed.get(variable):
                    stack.pop()
                elif variable not in operands:
                    raise self.error(f"literal {2 * variable} is read and never defined")
                elif variable in is_placed:
                    is_placed[variable] = True
                    order.append(stack.pop())
                else:
                    is_placed[variable] = False
                    for literal in operands[variable]:
                        if not is_placed.get(literal >> 1, True):
                            raise self.error(f"literal {literal} depends on itself")
                        if literal >> 1 not in is_placed:
                            stack.append(literal >> 1)
        return order

    def symbols(self, header: _Header) -> tuple[list[str] | None, list[str] | None]:
        """Read the symbol table; return the names of inputs and of outputs, None if it has none.

        A line `c` ends it; a comment of any bytes follows.
        """
        sizes = {b"i": header.inputs, b"o": header.outputs}
        found: dict[bytes, dict[int, str]] = {b"i": {}, b"o": {}}
        while (line := self.line()) is not None:
            if line == b"c":
                break
            match = _SYMBOL.fullmatch(line)
            kind = match[1] if match else b""
            if match is None or kind not in sizes or int(match[2]) >= sizes[kind]:
                raise self.error(f"{line[:40]!r} is no symbol of an input or output")
            place = int(match[2])
            if place in found[kind]:
                raise self.error(f"{line[:40]!r} names what has a name already")
            try:
                found[kind][place] = match[3].decode()
            except UnicodeDecodeError:
                raise self.error(f"the symbol {line[:40]!r} is not UTF-8") from None
        names = [
            [found[kind].get(i, f"{kind.decode()}{i}") for i in range(size)]
            if found[kind]
            else None
            for kind, size in sizes.items()
        ]
        return names[0], names[1]


def _graph(
    inputs: int,
    outputs: Sequence[int],
    pairs: npt.NDArray[np.int64],
    input_names: list[str] | None,
    output_names: list[str] | None,
) -> Graph:
    """Return the graph. Variable v is net v + 1: 0 is the constant, inputs and ANDs follow."""

    def net(variable: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.where(variable == 0, 0, variable + FIRST_TAP - 1)

    complemented = pairs & 1
    # The AND of two literals is True in one row of its table.
    table = 1 << (2 * (1 - complemented[:, 0]) + (1 - complemented[:, 1]))
    fanin = net(pairs >> 1)
    inverted = sorted({x for x in outputs if x & 1 and x > TRUE})
    first = FIRST_TAP + inputs + len(pairs)
    inverters = {x: first + i for i, x in enumerate(inverted)}
    sources = net(np.array([x >> 1 for x in inverted], np.int64))
    fanin = np.concatenate([fanin, np.stack([sources, np.zeros_like(sources)], axis=1)])
    table = np.concatenate([table, np.full(len(sources), 0b0011)])
    nets = [inverters.get(x, x if x <= TRUE else (x >> 1) + FIRST_TAP - 1) for x in outputs]
    taps = np.stack([np.zeros(inputs, np.int64), np.arange(inputs)], axis=1)
    metadata = {"source": "aiger"}
    metadata |= names_metadata("x", input_names) if input_names else {}
    metadata |= names_metadata("y", output_names) if output_names else {}
    b = GraphBuilder("aiger", metadata)
    x = b.input("x", "bit", (inputs,))
    return b.build(b.logic([x], Body.build(taps, fanin, table, nets), name="y"))
