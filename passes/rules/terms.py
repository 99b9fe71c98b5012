"""Terms and rules: s-expressions over gates, read and proved.

    expression = "?" NAME | "0" | "1" | "(" operation expression { expression } ")"
    operation  = "not" | NAME of a two-input operation, such as "and" | "lut" TABLE

A TABLE is one of `lgir.ir.truth_tables`, as in `(lut 0xca ?select ?zero ?one)`. A variable
`?x` stands for any net or its complement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from lgir.errors import ParseError, unknown_name
from lgir.ir.truth_tables import MAX_FANIN, NAME_TO_TABLE, full_mask

_TOKEN: Final = re.compile(r"\s*([()]|[^\s()]+)")
_TABLE: Final = re.compile(r"0x[0-9a-fA-F]{1,16}|0b[01]{1,64}|0|[1-9][0-9]{0,19}", re.ASCII)
_CONSTANTS: Final = {"0": 0, "1": 1, "false": 0, "true": 1}
_MAX_VARIABLES: Final = 16
"""Variables of a rule that is proved by trying all of their values."""

MAX_TOKENS: Final = 400
"""Most words and parentheses of an expression, so that walks over terms may recurse."""

_LONGEST_TEXT: Final = 1 << 14


@dataclass(frozen=True)
class Term:
    """An expression: `head` is "?name", "0", "1", "not" or "lut"; a lut has a table."""

    head: str
    args: tuple[Term, ...] = ()
    table: int = 0

    @property
    def size(self) -> int:
        """The number of gates that the expression takes."""
        return (self.head == "lut") + sum(arg.size for arg in self.args)

    @property
    def variables(self) -> frozenset[str]:
        """The variables of the expression, with their question marks."""
        variable = frozenset([self.head]) if self.head.startswith("?") else frozenset()
        return variable.union(*(arg.variables for arg in self.args))

    @property
    def max_fanin(self) -> int:
        """The number of inputs of the widest gate, at least 1."""
        fanin = len(self.args) if self.head == "lut" else 1
        return max([fanin, *(arg.max_fanin for arg in self.args)])


@dataclass(frozen=True)
class Rule:
    """A rule by which `pattern` may be replaced by `result`, which has the same value."""

    pattern: Term
    result: Term
    text: str

    def __str__(self) -> str:
        return self.text

    @cached_property
    def fanin(self) -> int:
        """The number of inputs of the widest gate on either side."""
        return max(self.pattern.max_fanin, self.result.max_fanin)


def rule(pattern: str, result: str) -> Rule:
    """Return a rewrite rule from two s-expressions, proved for all values of its variables.

    Raises:
        UnknownNameError: an expression names an unknown operation.
        ParseError: an expression cannot be read, the pattern is not a gate, or the two sides
            differ for some values of the variables.
    """
    left, right = parse_term(pattern), parse_term(result)
    text = f"{pattern} => {result}"
    if left.head != "lut":
        raise ParseError(f"rule {text}: the pattern must be a gate, not a variable or constant")
    if extra := right.variables - left.variables:
        raise ParseError(f"rule {text}: {min(extra)} does not occur in the pattern")
    names = sorted(left.variables)
    if len(names) > _MAX_VARIABLES:
        raise ParseError(
            f"rule {text}: {len(names)} variables; at most {_MAX_VARIABLES} are supported"
        )
    assignment = {name: _column(i, len(names)) for i, name in enumerate(reversed(names))}
    everywhere = (1 << (1 << len(names))) - 1
    difference = _value(left, assignment, everywhere) ^ _value(right, assignment, everywhere)
    if difference:
        row = (difference & -difference).bit_length() - 1
        shown = ", ".join(
            f"{name}={column >> row & 1}" for name, column in sorted(assignment.items())
        )
        raise ParseError(f"rule {text}: the sides differ for {shown}")
    return Rule(left, right, text)


def _column(place: int, count: int) -> int:
    """Return the values of a variable for all assignments of `count` variables, a bit for each.

    Bit i is that of assignment i, whose bit `place` is the variable's value.
    """
    column, width = ((1 << (1 << place)) - 1) << (1 << place), 2 << place
    while width < 1 << count:
        column |= column << width
        width *= 2
    return column


def _value(term: Term, assignment: Mapping[str, int], everywhere: int) -> int:
    """Return the values of a term for all assignments, a bit for each."""
    if term.head.startswith("?"):
        return assignment[term.head]
    if term.head in ("0", "1"):
        return everywhere * int(term.head)
    values = [_value(arg, assignment, everywhere) for arg in term.args]
    if term.head == "not":
        return everywhere ^ values[0]
    result = 0
    for index in range(1 << len(values)):
        if term.table >> index & 1:
            row = everywhere
            for place, value in enumerate(reversed(values)):
                row &= value if index >> place & 1 else everywhere ^ value
            result |= row
    return result


def parse_term(text: str) -> Term:
    """Return the term that an s-expression stands for.

    Raises:
        UnknownNameError: the text names an unknown operation.
        ParseError: the text cannot be read, or is longer than `MAX_TOKENS`.
    """
    if not isinstance(text, str):
        raise ParseError(f"an expression is a string, not {text!r:.80}")
    tokens = [m[1] for m in _TOKEN.finditer(text[: _LONGEST_TEXT + 1])]
    if len(tokens) > MAX_TOKENS or len(text) > _LONGEST_TEXT:
        raise ParseError(f"{text!r}: an expression has at most {MAX_TOKENS} words and parentheses")
    parser = _Parser(text, tokens)
    term = parser.term()
    if parser.position < len(tokens):
        raise parser.error(f"{tokens[parser.position]!r} after the end of the expression")
    return term


class _Parser:
    """A cursor over the tokens of one expression."""

    def __init__(self, text: str, tokens: list[str]) -> None:
        self.text = text
        self.tokens = tokens
        self.position = 0

    def error(self, message: str) -> ParseError:
        return ParseError(f"{self.text!r}: {message}")

    def take(self, early: str = "the expression ends too early") -> str:
        """Return the next token and move over it."""
        if self.position >= len(self.tokens):
            raise self.error(early)
        self.position += 1
        return self.tokens[self.position - 1]

    def term(self) -> Term:
        """Read one expression."""
        head = self.take()
        if head != "(":
            if re.fullmatch(r"\?\w+", head):
                return Term(head)
            if head in _CONSTANTS:
                return Term(str(_CONSTANTS[head]))
            raise self.error(f"{head!r} is not a ?variable, 0 or 1")
        name = self.take()
        table = self.table() if name == "lut" else None
        args = []
        while self.tokens[self.position : self.position + 1] not in ([], [")"]):
            args.append(self.term())
        self.take("a parenthesis is not closed")
        return _operation(name, table, tuple(args), self.text)

    def table(self) -> int:
        """Read the table of a lut."""
        word = self.take()
        if not _TABLE.fullmatch(word):
            raise self.error("lut needs a table, for example (lut 0xca ?s ?a ?b)")
        return int(word, 0)


def _operation(name: str, table: int | None, args: tuple[Term, ...], text: str) -> Term:
    if name == "not":
        if len(args) != 1:
            raise ParseError(f"{text!r}: not takes one operand, {len(args)} given")
        return Term("not", args)
    if table is None:
        if name not in NAME_TO_TABLE:
            raise unknown_name("operation", name, [*NAME_TO_TABLE, "not", "lut"])
        if len(args) != 2:
            raise ParseError(f"{text!r}: {name} takes two operands, {len(args)} given")
        table = NAME_TO_TABLE[name]
    if not 1 <= len(args) <= MAX_FANIN or table > full_mask(len(args)):
        raise ParseError(f"{text!r}: table {table:#x} does not fit {len(args)} operands")
    return Term("lut", args, table)
