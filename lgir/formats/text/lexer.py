"""Lines and tokens of the text form, with errors that give the line and what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from lgir.errors import ParseError
from lgir.ir.types import Shape
from lgir.ir.verifier import MAX_AXES

_MIN_INT: Final = -(2**31)
_MAX_INT: Final = 2**31 - 1

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<comment>;.*)
      | (?P<elided>\.\.\.)
      | (?P<value>%(?:[A-Za-z0-9_.-]+|"(?:[^"\\]|\\.)*"))
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<word>[A-Za-z0-9_.+-]+)
      | (?P<mark>[][{}()=,:])
      | (?P<end>$)
    )""",
    re.ASCII | re.VERBOSE,
)
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf", re.ASCII)
_INT: Final = re.compile(r"-?\d{1,10}", re.ASCII)

_BLANK: Final = re.compile(r"\s*(?:;.*)?")


class Lexer:
    """A cursor over the lines of `text`, and over the tokens of the current one."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.line = 0  # number of the current line, from 1
        self.tokens: list[tuple[str, str]] = []
        self.position = 0  # of the current token

    # Lines and tokens

    def error(self, message: str) -> ParseError:
        """Return an error that names the current line."""
        return ParseError(f"line {max(1, self.line)}: {message}")

    def next_line(self, expected: str) -> None:
        """Move to the next line that holds a token."""
        self.tokens = list(self._tokenize(self.raw_line(expected)))
        self.position = 0

    def raw_line(self, expected: str) -> str:
        """Move to the next line that holds a token, and return it whole."""
        while self.line < len(self.lines):
            self.line += 1
            line = self.lines[self.line - 1]
            if line and not _BLANK.fullmatch(line):
                return line
        raise self.error(f"expected {expected}, found the end of the text")

    def end_text(self) -> None:
        """Raise ParseError if anything but comments follows the current line."""
        for i in range(self.line, len(self.lines)):
            if not _BLANK.fullmatch(self.lines[i]):
                self.line = i + 1
                rest = clip(self.lines[i].strip())
                raise self.error(f"expected the end of the text after the graph, found {rest}")

    def _tokenize(self, line: str) -> Iterator[tuple[str, str]]:
        start = 0
        while True:
            match = _TOKEN.match(line, start)
            if match is None:
                column = len(line) - len(line[start:].lstrip()) + 1
                what = "unterminated string" if '"' in line[start:] else "unexpected character"
                raise self.error(f"{what} at column {column}: {clip(line[column - 1 :])}")
            kind = str(match.lastgroup)
            if kind in ("comment", "end"):
                yield "end", ""
                return
            if kind == "elided":
                raise self.elided()
            yield kind, match[kind]
            start = match.end()

    def elided(self) -> ParseError:
        """Return the error for a text that was cut short."""
        return self.error(
            "this dump is elided and cannot be read back; write it with `lgir dump --full` or "
            "lgir.dumps(graph, full=True)"
        )

    def peek(self) -> str:
        """Return the current token as the grammar names it: a word or mark by its text."""
        kind, text = self.tokens[self.position]
        return text if kind in ("word", "mark") else kind

    def take(self, kind: str, expected: str) -> str:
        """Return the text of the current token, which must be of a kind, and move on."""
        actual, text = self.tokens[self.position]
        if actual != kind:
            raise self.unexpected(expected)
        self.position += 1
        return text

    def unexpected(self, expected: str) -> ParseError:
        """Return the error for a current token that is not what was expected."""
        text = self.tokens[self.position][1]
        actual = clip(text) if text else "the end of the line"
        return self.error(f"expected {expected}, found {actual}")

    def expect(self, *texts: str) -> None:
        """Move over words or marks, which must come next."""
        for text in texts:
            if self.peek() != text:
                raise self.unexpected(repr(text))
            self.position += 1

    def accept(self, text: str) -> bool:
        """Move over a word or mark if it comes next, and return whether it does."""
        if self.peek() != text or self.peek() == "end":
            return False
        self.position += 1
        return True

    def end_line(self) -> None:
        """Raise ParseError if the current line goes on."""
        self.take("end", "the end of the line")

    # Words

    def string(self, expected: str) -> str:
        """Read a string in quotes."""
        return self.unquote(self.take("string", expected))

    def unquote(self, quoted: str) -> str:
        """Return the text of a JSON string."""
        try:
            text: str = json.loads(quoted)
        except ValueError as error:
            raise self.error(f"bad string {clip(quoted)}: {error}") from None
        return text

    def value_name(self) -> str:
        """Read the name of a value, without its percent sign."""
        text = self.take("value", "a value such as %x")[1:]
        return self.unquote(text) if text.startswith('"') else text

    def integer(self, expected: str) -> int:
        """Read an integer of 32 bits."""
        return self.to_int(self.take("word", expected), expected)

    def to_int(self, word: str, expected: str) -> int:
        """Return a word as an integer of 32 bits."""
        if not _INT.fullmatch(word) or not _MIN_INT <= int(word) <= _MAX_INT:
            raise self.error(f"expected {expected} (at most {_MAX_INT}), found {clip(word)}")
        return int(word)

    def number(self, expected: str) -> float:
        """Read a number that is not NaN."""
        word = self.take("word", expected)
        if not _NUMBER.fullmatch(word):
            raise self.error(f"expected {expected}, found {clip(word)}")
        x = float(word)
        if np.isinf(x) and "inf" not in word:
            raise self.error(f"the number {clip(word)} is too large")
        return x

    def dims(self) -> Shape:
        """Read sizes such as 14x14."""
        word = self.take("word", "sizes such as 14x14")
        return tuple(self.to_int(d, "sizes such as 14x14") for d in word.split("x"))

    def int_list(self) -> Shape:
        """Read a list of integers in brackets."""
        self.expect("[")
        sizes = [self.integer("a size")]
        while self.accept(","):
            sizes.append(self.integer("a size"))
        self.expect("]")
        return tuple(sizes)

    def number_list(self) -> Any:
        """Return a list of numbers, or of lists of them, as nested Python lists."""
        self.expect("[")
        top: list[Any] = []
        open_lists = [top]
        while open_lists:
            if self.accept("["):
                inner: list[Any] = []
                open_lists[-1].append(inner)
                open_lists.append(inner)
                if len(open_lists) > MAX_AXES:
                    raise self.error(f"lists are nested deeper than {MAX_AXES}")
                continue
            open_lists[-1].append(self.number("a number"))
            while open_lists and not self.accept(","):
                self.expect("]")
                open_lists.pop()
        return top

    def type(self) -> tuple[str, Shape]:
        """Read a type: a colon, the dtype and the shape."""
        self.expect(":")
        return self.take("word", "a type such as bit[3,28,28]"), self.int_list()


def clip(text: str) -> str:
    """Return `text` in quotes, cut short if an error would grow past a line."""
    return repr(text if len(text) <= 40 else text[:37] + "...")
