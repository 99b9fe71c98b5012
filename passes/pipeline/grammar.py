"""The grammar of pipelines: text to steps, by recursive descent.

    pipeline = [ item { "," item } ]
    item     = "fix" "(" pipeline ")"  |  NAME [ "{" [ option { "," option } ] "}" ]
    option   = NAME "=" VALUE

A NAME is a registered pass or a named pipeline; a VALUE with other characters stands in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lgir.errors import ParseError, unknown_name
from lgir.ir.graph import Graph
from lgir.passes.pipeline.options import read_options, spell_value
from lgir.passes.pipeline.presets import PIPELINES
from lgir.registry import PASSES

_TOKEN: Final = re.compile(r"""\s*("[^"]*"|[(),{}=]|[^\s(),{}="]+)""")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
MAX_DEPTH: Final = 16
"""Deepest nesting of fix."""

_PUNCTUATION: Final = ("(", ")", ",", "{", "}", "=")


@dataclass(frozen=True)
class Step:
    """One pass with its options."""

    name: str
    run: Callable[..., Graph] = field(compare=False, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.options:
            return self.name
        options = (f"{k.replace('_', '-')}={spell_value(v)}" for k, v in self.options.items())
        return f"{self.name}{{{','.join(options)}}}"


@dataclass(frozen=True)
class Fix:
    """Steps repeated until a whole round changes nothing."""

    steps: tuple[Step | Fix, ...]

    def __str__(self) -> str:
        return f"fix({','.join(map(str, self.steps))})"


Steps = tuple[Step | Fix, ...]


def parse_steps(text: str) -> Steps:
    """Return the steps that a pipeline's text stands for.

    Raises:
        UnknownNameError: a pass is not registered.
        ParseError: the text cannot be read for another reason; the error says what was expected.
    """
    return _Parser(text).parse()


class _Parser:
    """Recursive descent over the tokens of one pipeline's text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokens(text))
        self.position = 0
        self.depth = 0  # of open "fix("

    def parse(self) -> Steps:
        """Return the steps of the whole text."""
        if not self.tokens:
            return ()
        steps = self._sequence()
        if self.position < len(self.tokens):
            raise self._error("a comma or the end")
        return steps

    def _sequence(self) -> Steps:
        steps = [*self._item()]
        while self._accept(","):
            steps += self._item()
        return tuple(steps)

    def _item(self) -> Steps:
        name = self._peek()
        if not _NAME.fullmatch(name):
            raise self._error("the name of a pass")
        self.position += 1
        if name == "fix":
            self._expect("(")
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise ParseError(f"pipeline {self.text!r}: fix is nested deeper than {MAX_DEPTH}")
            steps = self._sequence()
            self._expect(")")
            self.depth -= 1
            return (Fix(steps),)
        if name in PIPELINES:
            if self._peek() == "{":
                raise ParseError(f"pipeline {name!r} takes no options (in {self.text!r})")
            return parse_steps(PIPELINES[name])
        names = set(PASSES.names())
        if name not in names:
            raise unknown_name("pass", name, names | PIPELINES.keys())
        function = PASSES.get(name)
        options = self._options() if self._accept("{") else iter(())
        return (Step(name, function, read_options(name, function, options)),)

    def _options(self) -> Iterator[tuple[str, str]]:
        while not self._accept("}"):
            name = self._word("an option's name")
            self._expect("=")
            yield name, self._word("a value")
            if self._peek() != "}":
                self._accept(",")

    def _peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def _accept(self, token: str) -> bool:
        if self._peek() != token:
            return False
        self.position += 1
        return True

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise self._error(repr(token))

    def _word(self, expected: str) -> str:
        token = self._peek()
        if not token or token in _PUNCTUATION:
            raise self._error(expected)
        self.position += 1
        return token

    def _error(self, expected: str) -> ParseError:
        token = repr(self._peek()) if self._peek() else "the end"
        return ParseError(f"pipeline {self.text!r}: expected {expected}, found {token}")


def _tokens(text: str) -> Iterator[str]:
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise ParseError(f"pipeline {text!r}: cannot read {text[position:].strip()!r}")
        yield match[1]
        position = match.end()
