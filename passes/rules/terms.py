"""Terms and rules: s-expressions over gates, read and proved.

    expression = "?" NAME | "0" | "1" | "(" operation expression { expression } ")"
    operation  = "not" | NAME of a two-input operation, such as "and" | "lut" TABLE

A TABLE is one of `lgir.ir.truth_tables`, as in `(lut 0xca ?select ?zero ?one)`. A variable
`?x` stands for any net or its complement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Final

from lgir.errors import ParseError, unknown_name
from lgir.ir.truth_tables import MAX_FANIN, NAME_TO_TABLE, full_mask

_TOKEN: Final = re.compile(r"\s*([()]|[^\s()]+)")
_CONSTANTS: Final = {"0": 0, "1": 1, "false": 0, "true": 1}
_MAX_VARIABLES: Final = 16
"""Variables of a rule that is proved by trying all of their values."""


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
    for values in product((0, 1), repeat=len(names)):
        assignment = dict(zip(names, values, strict=True))
        if _value(left, assignment) != _value(right, assignment):
            shown = ", ".join(f"{k}={v}" for k, v in assignment.items())
            raise ParseError(f"rule {text}: the sides differ for {shown}")
    return Rule(left, right, text)


def _value(term: Term, assignment: dict[str, int]) -> int:
    if term.head.startswith("?"):
        return assignment[term.head]
    if term.head in ("0", "1"):
        return int(term.head)
    values = [_value(arg, assignment) for arg in term.args]
    if term.head == "not":
        return 1 - values[0]
    index = int("".join(map(str, values)), 2)
    return term.table >> index & 1


def parse_term(text: str) -> Term:
    """Return the term that an s-expression stands for.

    Raises:
        UnknownNameError: the text names an unknown operation.
        ParseError: the text cannot be read.
    """
    tokens = [m[1] for m in _TOKEN.finditer(text)]
    term, rest = _parse(tokens, text)
    if rest:
        raise ParseError(f"{text!r}: {rest[0]!r} after the end of the expression")
    return term


def _parse(tokens: list[str], text: str) -> tuple[Term, list[str]]:
    """Return the term at the start of the tokens, and the tokens that follow it."""
    if not tokens:
        raise ParseError(f"{text!r}: the expression ends too early")
    head, rest = tokens[0], tokens[1:]
    if head != "(":
        if re.fullmatch(r"\?\w+", head):
            return Term(head), rest
        if head in _CONSTANTS:
            return Term(str(_CONSTANTS[head])), rest
        raise ParseError(f"{text!r}: {head!r} is not a ?variable, 0 or 1")
    if not rest:
        raise ParseError(f"{text!r}: the expression ends too early")
    name, rest = rest[0], rest[1:]
    table = None
    if name == "lut":
        if not rest or not re.fullmatch(r"0x[0-9a-fA-F]+|0b[01]+|\d+", rest[0]):
            raise ParseError(f"{text!r}: lut needs a table, for example (lut 0xca ?s ?a ?b)")
        table, rest = int(rest[0], 0), rest[1:]
    args = []
    while rest and rest[0] != ")":
        arg, rest = _parse(rest, text)
        args.append(arg)
    if not rest:
        raise ParseError(f"{text!r}: a parenthesis is not closed")
    return _operation(name, table, tuple(args), text), rest[1:]


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
