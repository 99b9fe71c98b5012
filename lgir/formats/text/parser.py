"""The parser of the text form: line by line, and without recursion.

Statements are read token by token (see `lgir.formats.text.lexer`). The lines of a body, of which a
network has millions, are matched by one regular expression each. A name must be defined above its
use, which rules out cycles.

    text      = "lgir" INT, "graph" STRING "{", {statement}, "}"
    statement = "metadata" STRING "=" STRING
              | "input" NAME type
              | NAME "=" "threshold" NAME "{" "levels" "=" LIST "}" type
              | NAME "=" "logic" "(" NAME {"," NAME} ")" ["over" DIMS] ["stride" DIMS] body type
              | NAME "=" "groupsum" NAME "{" "groups" "=" INT "," "tau" "=" NUMBER ","
                "beta" "=" NUMBER "}" type
              | NAME "=" "reshape" NAME type
              | "output" NAME {"," NAME}
    type      = ":" DTYPE "[" INT {"," INT} "]"
    body      = "{", {tap}, {gate}, "yield" operand {"," operand}, "}"
    tap       = NET "=" "tap" INT "[" INT {"," INT} "]"
    gate      = NET "=" (OPERATION | "lut" HEX) [operand {"," operand}]
    operand   = NET | "true" | "false"

NAME is %word or %"any text", NET is %word, DIMS is 14x14. A comma in the notation above ends a
line; a semicolon in the text starts a comment.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from lgir.errors import GraphError, ParseError
from lgir.formats.gate_arrays import gate_arrays
from lgir.formats.text.lexer import Lexer, clip
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Op, Reshape, Threshold, infer_value
from lgir.ir.printer import TEXT_VERSION
from lgir.ir.truth_tables import (
    MAX_FANIN,
    NAME_TO_TABLE,
    UNARY_TABLES,
    full_mask,
)
from lgir.ir.types import FALSE, FIRST_TAP, TRUE, Value
from lgir.ir.verifier import verify_input, verify_node

_NET: Final = r"%[A-Za-z0-9_.-]+"
_OPERAND: Final = rf"(?:{_NET}|true\b|false\b)"
_OPERANDS: Final = rf"{_OPERAND}(?:\s*,\s*{_OPERAND})*"
_TAIL: Final = r"\s*(?:;.*)?"
_GATE: Final = re.compile(
    rf"\s*({_NET})\s*=\s*([a-z-]+)(?:\s+(0x[0-9a-fA-F]+))?(?:\s+({_OPERANDS}))?{_TAIL}", re.ASCII
)
_TAP: Final = re.compile(
    rf"\s*({_NET})\s*=\s*tap\s+(\d{{1,10}})\s*\[([0-9,\s-]+)\]{_TAIL}", re.ASCII
)
_YIELD: Final = re.compile(rf"\s*yield\s+({_OPERANDS}){_TAIL}", re.ASCII)
_COMMA: Final = re.compile(r"\s*,\s*")

_BODY_LINE: Final = "'%net = ...' or 'yield'"

# (name, number of operands) -> table; the constants come with any number of operands.
_GATES: Final[dict[tuple[str, int], int]] = {
    **{(name, 2): table for name, table in NAME_TO_TABLE.items()},
    **{(name, 1): table for name, table in UNARY_TABLES.items()},
    **{("false", n): 0 for n in range(MAX_FANIN + 1)},
    **{("true", n): full_mask(n) for n in range(MAX_FANIN + 1)},
}


def parse(text: str) -> Graph:
    """Return the graph that `text` describes.

    Raises ParseError, with the line and what was expected, if the text cannot be read, and
    GraphError, with the line, if a node breaks a rule of the IR.
    """
    return _GraphParser(text).graph()


class _GraphParser(Lexer):
    """One method per statement of the grammar."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.values: dict[str, Value] = {}
        self.metadata: dict[str, str] = {}

    def graph(self) -> Graph:
        """Read a whole text."""
        self.next_line(f"'lgir {TEXT_VERSION}'")
        if self.peek() != "lgir":
            raise self.error(f"expected 'lgir {TEXT_VERSION}' first; this is not lgir's text form")
        self.expect("lgir")
        version = self.integer("a version")
        if version != TEXT_VERSION:
            raise self.error(f"text of version {version}; this lgir reads version {TEXT_VERSION}")
        self.end_line()
        self.next_line("'graph'")
        self.expect("graph")
        name = self.string('the graph\'s name, such as "net"')
        self.expect("{")
        self.end_line()

        inputs: list[Value] = []
        nodes: list[Node] = []
        outputs: list[str] = []
        while True:
            self.next_line("a statement or '}'")
            if self.accept("}"):
                break
            if self.accept("metadata"):
                self.metadata_entry()
            elif self.accept("input"):
                inputs.append(self.input())
            elif self.accept("output"):
                outputs += self.operands()
            elif self.peek() == "value":
                nodes.append(self.node())
            else:
                raise self.unexpected("'metadata', 'input', '%name = ...', 'output' or '}'")
            self.end_line()
        self.end_line()
        self.end_text()
        return Graph(name, tuple(inputs), tuple(nodes), tuple(outputs), self.metadata)

    def metadata_entry(self) -> None:
        """Read the rest of a `metadata` statement."""
        key = self.string("a metadata key in quotes")
        self.expect("=")
        if key in self.metadata:
            raise self.error(f"metadata {clip(key)} is given twice")
        self.metadata[key] = self.string("a metadata value in quotes")

    def input(self) -> Value:
        """Read the rest of an `input` statement."""
        name = self.new_value()
        value = Value(name, *self.type())
        try:
            verify_input(value)
        except GraphError as error:
            raise GraphError(f"line {self.line}: {error}") from None
        self.values[name] = value
        return value

    def new_value(self) -> str:
        """Read the name of a value that is not defined yet."""
        name = self.value_name()
        if name in self.values:
            raise self.error(f"%{name} is defined twice")
        return name

    def operand(self) -> str:
        """Read the name of a value that is defined above."""
        name = self.value_name()
        if name not in self.values:
            raise self.error(f"%{name} is not defined above this line (a cycle or a wrong order)")
        return name

    def operands(self) -> list[str]:
        """Read names of values that are defined above."""
        names = [self.operand()]
        while self.accept(","):
            names.append(self.operand())
        return names

    def node(self) -> Node:
        """Read a node, of which the name comes next."""
        line = self.line
        output = self.new_value()
        self.expect("=")
        kind = self.take("word", "threshold, logic, groupsum or reshape")
        if kind == "logic":
            names, op = self.logic()
            stated = self.type()
        elif kind in ("threshold", "groupsum"):
            names = [self.operand()]
            self.expect("{")
            op = self.threshold() if kind == "threshold" else self.group_sum()
            self.expect("}")
            stated = self.type()
        elif kind == "reshape":
            names = [self.operand()]
            stated = self.type()
            op = Reshape(stated[1])
        else:
            raise self.error(
                f"unknown node type {clip(kind)}; known: threshold, logic, groupsum, reshape"
            )
        node = Node(op, tuple(names), output)
        inputs = tuple(self.values[name] for name in names)
        try:
            verify_node(node, inputs)
        except GraphError as error:
            raise GraphError(f"line {line}: {error}") from None
        value = infer_value(op, inputs, output)
        if (value.dtype, value.shape) != stated:
            raise self.error(f"%{output} is {value.type}, the text says {Value('', *stated).type}")
        self.values[output] = value
        return node

    def threshold(self) -> Op:
        """Read the attributes of a threshold."""
        self.expect("levels", "=")
        numbers = self.number_list()
        try:
            levels = np.array(numbers, dtype=np.float64)
        except ValueError:
            raise self.error("the lists of levels differ in length") from None
        with np.errstate(over="ignore"):
            narrow = levels.astype(np.float32)
        if (np.isinf(narrow) & ~np.isinf(levels)).any():
            raise self.error("a level is too large for float32")
        return Threshold(narrow)

    def group_sum(self) -> Op:
        """Read the attributes of a groupsum."""
        self.expect("groups", "=")
        groups = self.integer("a number of groups")
        self.expect(",", "tau", "=")
        tau = self.number("a number")
        self.expect(",", "beta", "=")
        return GroupSum(groups, tau, self.number("a number"))

    def logic(self) -> tuple[list[str], Op]:
        """Read a logic node's operands, space and body."""
        self.expect("(")
        names = self.operands()
        self.expect(")")
        space = self.dims() if self.accept("over") else ()
        stride = self.dims() if self.accept("stride") else (1,) * len(space)
        self.expect("{")
        self.end_line()
        return names, Logic(self.body(len(space)), space, stride)

    # Bodies

    def body(self, rank: int) -> Body:
        """Read the lines of a body and the '}' that closes it, which is left as current line."""
        nets = {"false": FALSE, "true": TRUE}
        taps = self.taps(nets, rank)
        tables: list[int] = []
        arity: list[int] = []
        flat: list[int] = []
        while match := _GATE.fullmatch(self.raw_line(_BODY_LINE)):
            label, name, lut, text = match.groups()
            operands = _COMMA.split(text) if text else []
            try:
                flat += [nets[x] for x in operands]
            except KeyError as error:
                raise self.undefined(str(error.args[0])) from None
            tables.append(self.table(name, lut, len(operands)))
            arity.append(len(operands))
            if label in nets:
                raise self.error(f"net {label} is defined twice")
            nets[label] = len(nets)
        outputs = self.outputs(nets)
        self.next_line("'}' after yield")
        self.expect("}")
        fanin, table = gate_arrays(tables, arity, flat)
        return Body.build(taps, fanin, table, outputs, rank=rank)

    def taps(self, nets: dict[str, int], rank: int) -> list[list[int]]:
        """Read the taps of a body and enter them in `nets`."""
        taps: list[list[int]] = []
        while match := _TAP.fullmatch(self.raw_line(_BODY_LINE)):
            label, source, cell = match.groups()
            row = [self.to_int(x.strip(), "an integer") for x in (source, *cell.split(","))]
            if len(row) != 2 + rank:
                raise self.error(
                    f"expected tap input[channel{', offset' * rank}], found {len(row) - 1}"
                )
            if label in nets:
                raise self.error(f"net {label} is defined twice")
            nets[label] = FIRST_TAP + len(taps)
            taps.append(row)
        self.line -= 1  # the line that is no tap is the first gate's, or yield's
        return taps

    def table(self, name: str, lut: str | None, arity: int) -> int:
        """Return the truth table of a gate over its own operands."""
        if name == "lut" and lut is not None:
            table = int(lut, 16)
            if not 1 <= arity <= MAX_FANIN:
                raise self.error(f"a lut has 1 to {MAX_FANIN} operands, found {arity}")
            if table > full_mask(arity):
                raise self.error(
                    f"table {clip(lut)} has more than the {1 << arity} bits of {arity} inputs"
                )
            return table
        known = _GATES.get((name, arity))
        if known is None or lut is not None:
            raise self.bad_gate(name, arity)
        return known

    def bad_gate(self, name: str, arity: int) -> ParseError:
        """Return the error for an operation that does not exist."""
        if name == "lut":
            return self.error("expected lut 0x<table> %a, %b, ...")
        counts = sorted({n for known, n in _GATES if known == name})
        if counts:
            return self.error(
                f"gate {name} takes {' or '.join(map(str, counts))} operands, found {arity}"
            )
        names = sorted({known for known, _ in _GATES})
        return self.error(f"unknown gate {clip(name)}; known: {', '.join(names)}, lut")

    def undefined(self, label: str) -> ParseError:
        """Return the error for a net that is not defined above."""
        return self.error(f"net {label} is not defined above this line (a cycle or a wrong order)")

    def outputs(self, nets: dict[str, int]) -> list[int]:
        """Read the yield line, which is the current one."""
        line = self.lines[self.line - 1]
        if match := _YIELD.fullmatch(line):
            try:
                return [nets[x] for x in _COMMA.split(match[1])]
            except KeyError as error:
                raise self.undefined(str(error.args[0])) from None
        if "..." in line:
            raise self.elided()
        if _TAP.fullmatch(line):
            raise self.error("taps come above the first gate")
        raise self.error(
            f"expected '%net = gate %a, %b' or 'yield %a, %b', found {clip(line.strip())}"
        )
