"""BLIF in: the first model of a file, as SIS, MCNC, ABC and yosys write it, as a graph.

Only combinational logic is read, and nothing is guessed: a signal that is defined twice, a cover
whose rows end in different values and a signal that nothing defines are errors. What says nothing
about logic, such as timing, areas and attributes, is left out. Covers of more inputs than a gate
may have become trees of two-input gates.

Time and memory are linear in the bytes of the text. The format: "Berkeley Logic Interchange Format
(BLIF)", University of California, Berkeley, 1992; the extensions of yosys: its `write_blif`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from os import PathLike
from typing import Final

import numpy as np

from lgir.errors import FormatError
from lgir.files import read_file
from lgir.formats.element_names import names_metadata
from lgir.formats.gate_arrays import gate_arrays
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import MAX_FANIN, full_mask
from lgir.ir.types import FIRST_TAP, TRUE

MAX_BYTES: Final = 1 << 30
"""Largest file that is read unless the caller allows more."""

_SILENT: Final = frozenset(
    b".default_input_arrival .default_output_required .default_input_drive .default_output_load "
    b".default_max_input_load .wire_load_slope .wire .input_arrival .input_required "
    b".output_required .input_drive .output_load .max_input_load .area .delay .cycle .clock "
    b".clock_event .latch_order .cname .attr .param".split()
)
"""Directives that say nothing about what the model computes."""

_LAST: Final = frozenset((b".end", b".model", b".exdc"))
"""Directives that end the model; .exdc starts the network of its don't-cares."""

_REMEDY: Final = {
    b".latch": "only combinational logic is read (cut the registers first, as with `comb` of ABC)",
    b".subckt": "flatten the hierarchy and map cells to covers first (yosys: no -icells)",
    b".search": "flatten the hierarchy first",
    b".blackbox": "a black box has no logic",
    b".gate": "replace library gates first, as with `unmap` of ABC",
    b".mlatch": "replace library gates first, as with `unmap` of ABC",
}


def read_blif(path: str | PathLike[str], *, max_bytes: int = MAX_BYTES) -> Graph:
    """Return the first model of a file as a graph of one bit input and one bit output.

    Elements stand in the order of `.inputs` and `.outputs`; the graph keeps their names (see
    `lgir.formats.element_names`).

    Args:
        path: the file.
        max_bytes: a larger file is refused. Reading takes at most some 200 bytes of memory per byte
            of the file.

    Raises:
        FormatError: the file cannot be read, is not BLIF, or is no combinational model.
    """
    return parse_blif(read_file(path, max_bytes), str(path))


def parse_blif(text: str | bytes, where: str = "BLIF") -> Graph:
    """Return what `read_blif` returns, from text; `where` names it in errors."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return _Reader(where).read(data)


@dataclass
class _Cover:
    """The rows of a `.names`, read so far.

    Attributes:
        line: number of the line of the `.names`.
        operands: the signals that it reads.
        value: what every row ends in; None before the first row.
        rows: the union of the rows as a truth table, of a cover that fits one gate.
        cubes: the rows' patterns, of a wider one.
    """

    line: int
    operands: list[bytes]
    value: bytes | None = None
    rows: int = 0
    cubes: list[bytes] = field(default_factory=list)


class _Reader:
    """One model while it is read."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.name: bytes | None = None
        self.inputs: dict[bytes, int] = {}
        self.outputs: dict[bytes, int] = {}
        self.covers: dict[bytes, _Cover] = {}

    def error(self, line: int, message: str) -> FormatError:
        return FormatError(f"{self.where}:{line}: {message}")

    def read(self, data: bytes) -> Graph:
        """Read the first model of a text."""
        cover: tuple[bytes, _Cover] | None = None
        for line, words in _logical_lines(data):
            directive = words[0]
            if not directive.startswith(b"."):
                if cover is None:
                    raise self.error(line, f"{_text(words)!r} stands outside a .names")
                self.row(line, words, *cover)
                continue
            if directive in _LAST and (directive != b".model" or self.name is not None):
                break
            cover = self.directive(line, directive, words[1:])
        if not self.inputs or not self.outputs:
            raise FormatError(f"{self.where}: a model needs .inputs and .outputs")
        return self.graph()

    def directive(
        self, line: int, directive: bytes, words: list[bytes]
    ) -> tuple[bytes, _Cover] | None:
        """Read a directive; return the signal and the cover whose rows follow, if any do."""
        match directive:
            case b".model":
                self.name = words[0] if words else b""
            case b".inputs" | b".outputs":
                known = self.inputs if directive == b".inputs" else self.outputs
                for name in words:
                    if name in known:
                        raise self.error(line, f"{_text([name])} is listed twice")
                    if directive == b".inputs" and name in self.covers:
                        raise self.twice(line, name)
                    known[name] = len(known)
            case b".names":
                if not words:
                    raise self.error(line, ".names defines no signal")
                return self.define(line, words[:-1], words[-1])
            case b".conn" | b".barbuf":
                if len(words) != 2:
                    raise self.error(line, f"{directive.decode()} takes two signals")
                name, cover = self.define(line, words[:1], words[1])
                cover.value, cover.rows = b"1", 0b10
            case _ if directive not in _SILENT:
                known_directive = _text([directive])
                remedy = _REMEDY.get(directive, "known are .names and timing")
                raise self.error(line, f"{known_directive} is not supported; {remedy}")
        return None

    def define(self, line: int, operands: list[bytes], name: bytes) -> tuple[bytes, _Cover]:
        if name in self.covers or name in self.inputs:
            raise self.twice(line, name)
        self.covers[name] = cover = _Cover(line, operands)
        return name, cover

    def twice(self, line: int, name: bytes) -> FormatError:
        known = self.covers.get(name)
        first = f"line {known.line}" if known else ".inputs"
        return self.error(line, f"{_text([name])} is defined twice (first by {first})")

    def row(self, line: int, words: list[bytes], name: bytes, cover: _Cover) -> None:
        """Add a row to the cover that defines `name`."""
        n = len(cover.operands)
        pattern, value = b"".join(words[:-1]), words[-1]
        if len(pattern) != n or pattern.translate(None, b"01-") or value not in (b"0", b"1"):
            raise self.error(
                line,
                f"{_text([name])} has the row {_text(words)!r}, not {n} of 0, 1, - and a bit",
            )
        if cover.value not in (None, value):
            raise self.error(
                line,
                f"the rows of {_text([name])} end in 0 and in 1; all rows of a cover end in one "
                "value",
            )
        cover.value = value
        if n > MAX_FANIN:
            cover.cubes.append(pattern)
        else:
            cover.rows |= _cube(pattern)

    # From signals to nets

    def graph(self) -> Graph:
        """Return the graph of the model."""
        nets = {name: FIRST_TAP + i for name, i in self.inputs.items()}
        gates = _Gates(FIRST_TAP + len(nets))
        for name in self.operands_first():
            cover = self.covers[name]
            operands = [nets[x] for x in cover.operands]
            if len(operands) > MAX_FANIN:
                nets[name] = gates.wide(operands, cover.cubes, cover.value != b"0")
            else:
                mask = full_mask(len(operands)) if cover.value == b"0" else 0
                nets[name] = gates.add(cover.rows ^ mask, operands)
        taps = np.zeros((len(self.inputs), 2), np.int32)
        taps[:, 1] = np.arange(len(taps))
        fanin, table = gate_arrays(gates.tables, gates.arity, gates.operands)
        body = Body.build(taps, fanin, table, [nets[name] for name in self.outputs])
        metadata = {"source": "blif"}
        metadata |= names_metadata("x", map(self.decoded, self.inputs))
        metadata |= names_metadata("y", map(self.decoded, self.outputs))
        b = GraphBuilder(self.decoded(self.name or b"blif"), metadata)
        x = b.input("x", "bit", (len(self.inputs),))
        return b.build(b.logic([x], body, name="y"))

    def decoded(self, name: bytes) -> str:
        try:
            return name.decode()
        except UnicodeDecodeError:
            raise FormatError(f"{self.where}: the name {name!r:.80} is not UTF-8") from None

    def operands_first(self) -> list[bytes]:
        """Return the names of the signals that covers define, operands before their readers.

        The walk keeps its own stack, since chains may be longer than Python's.
        """
        is_placed: dict[bytes, bool] = dict.fromkeys(self.inputs, True)  # False: on the path
        order: list[bytes] = []
        for root in (*self.covers, *self.outputs):
            stack = [root]
            while stack:
                name = stack[-1]
                if is_placed.get(name):
                    stack.pop()
                    continue
                cover = self.covers.get(name)
                if cover is None:
                    raise FormatError(
                        f"{self.where}: signal {_text([name])} is read and never defined"
                    )
                if name in is_placed:  # its operands have been walked
                    is_placed[name] = True
                    order.append(stack.pop())
                    continue
                is_placed[name] = False
                for operand in cover.operands:
                    if not is_placed.get(operand, True):
                        raise self.error(cover.line, f"signal {_text([operand])} depends on itself")
                    if operand not in is_placed:
                        stack.append(operand)
        return order


class _Gates:
    """Gates in topological order, from net `first_gate` on."""

    def __init__(self, first_gate: int) -> None:
        self.tables: list[int] = []
        self.arity: list[int] = []
        self.operands: list[int] = []
        self.next_net = first_gate

    def add(self, table: int, operands: Sequence[int]) -> int:
        """Add a gate of at most six operands and return its net."""
        self.tables.append(table)
        self.arity.append(len(operands))
        self.operands += operands
        self.next_net += 1
        return self.next_net - 1

    def wide(self, operands: Sequence[int], cubes: Sequence[bytes], value: bool) -> int:
        """Add the gates of a cover of any number of operands and return the net of its value."""
        terms: list[tuple[int, bool]] = []
        for cube in cubes:
            literals = [
                (net, care == ord("1"))
                for net, care in zip(operands, cube, strict=True)
                if care != ord("-")
            ]
            terms.append(self.conjunction(literals))
        # A sum is the complement of the product of complements.
        net, phase = self.conjunction([(net, not phase) for net, phase in terms])
        return self.add(0b10 if phase != value else 0b01, [net])

    def conjunction(self, literals: list[tuple[int, bool]]) -> tuple[int, bool]:
        """Add a balanced tree of ANDs; return the literal (net, phase) of its value."""
        while len(literals) > 1:
            paired = [
                (self.add(1 << (2 * a_phase + b_phase), [a, b]), True)
                for (a, a_phase), (b, b_phase) in zip(literals[::2], literals[1::2], strict=False)
            ]
            literals = paired + literals[2 * len(paired) :]
        return literals[0] if literals else (TRUE, True)


@lru_cache(maxsize=1 << 12)
def _cube(pattern: bytes) -> int:
    """Return the truth table of a row of at most six inputs."""
    table, n = 0, len(pattern)
    care = [(n - 1 - j, c == ord("1")) for j, c in enumerate(pattern) if c != ord("-")]
    for i in range(1 << n):
        if all((i >> bit & 1) == one for bit, one in care):
            table |= 1 << i
    return table


def _logical_lines(data: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the number and the words of each line, without comments.

    A line that ends in a backslash goes on in the next one. A comment may hold any bytes.
    """
    pieces: list[bytes] = []
    start = 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        words = line.partition(b"#")[0].split()
        start = start if pieces else number
        if words and words[-1].endswith(b"\\"):
            words[-1] = words[-1][:-1]
            pieces += [word for word in words if word] or [b""]
            continue
        if pieces:
            words = [word for word in (*pieces, *words) if word]
            pieces = []
        if words:
            yield start, words
    if words := [word for word in pieces if word]:
        yield start, words


def _text(words: Sequence[bytes]) -> str:
    """Return words as an error shows them."""
    return b" ".join(words)[:200].decode("utf-8", "backslashreplace")
