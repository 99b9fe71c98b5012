"""Text of C and C++ sources: names, literals, comments, wrapped lists and headers.

The exporters of C and CUDA and the C interface of compiled libraries write their text with these.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np


def c_name(name: str) -> str:
    """Return `name` with everything that a C name cannot hold replaced by underscores.

    A name that begins with a digit gets the prefix "v"; a name of which nothing is left is "model".
    """
    word = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "model"
    return f"v{word}" if word[0].isdigit() else word


def float_literal(x: float) -> str:
    """Return a C literal of exactly this float32. An infinity is `HUGE_VALF` of <math.h>."""
    if math.isinf(x):
        return "HUGE_VALF" if x > 0 else "-HUGE_VALF"
    text = f"{np.float32(x):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def string_literal(text: str) -> str:
    """Return a C string literal of the UTF-8 bytes of `text`."""
    escaped = (
        chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode()
    )
    return f'"{"".join(escaped)}"'


def comment(text: str) -> str:
    """Return `text` as a C comment wrapped at 94 columns. Line breaks separate paragraphs.

    Characters that cannot be seen become "?", because compilers warn of text that is not shown as
    it is read; for the same reason, nothing inside looks like the begin or the end of a comment.
    """
    lines = []
    for paragraph in text.split("\n"):
        safe = _visible(paragraph).replace("*/", "* /").replace("/*", "/ *")
        lines += textwrap.wrap(safe, 94) or [""]
    if len(lines) == 1:
        return f"/* {lines[0]} */"
    return "\n".join(["/* " + lines[0], *(f" * {line}".rstrip() for line in lines[1:]), " */"])


def _visible(text: str) -> str:
    return "".join(" " if c.isspace() else c if c.isprintable() else "?" for c in text)


def define(name: str, number: int, about: str = "") -> str:
    """Return the definition of a macro, with `about` as its comment if there is one."""
    line = f"#define {name} {number}"
    return f"{line} /* {about} */" if about else line


def parenthesized(head: str, items: Sequence[str], columns: int) -> str:
    """Return `head`, which ends in an opening bracket, followed by `items` and a closing bracket.

    A line holds at most `columns` columns, and further lines are indented to the bracket.
    """
    lines = [head]
    for i, item in enumerate(items):
        piece = item + (")" if i + 1 == len(items) else ",")
        if len(lines[-1]) + len(piece) + 1 > columns:
            lines.append(" " * len(head) + piece)
        else:
            lines[-1] += piece if lines[-1] == head else f" {piece}"
    return "\n".join(lines)


def needed_pieces(pieces: Mapping[str, str], text: str) -> list[str]:
    """Return the pieces whose names occur in `text` or in another needed piece, in their order.

    A piece may name those before it. Leaving out the others spares warnings about unused functions.
    """
    needed: list[str] = []
    for name, piece in reversed(list(pieces.items())):
        if re.search(rf"\b{name}\b", text):
            needed.append(piece)
            text += piece
    return needed[::-1]


def header_file(
    about: str, guard: str, preamble: Sequence[str], declarations: Sequence[str]
) -> str:
    """Return a header for C and C++.

    Args:
        about: the comment at its beginning.
        guard: the macro that keeps it from being read twice.
        preamble: lines of includes and macros.
        declarations: lines that have C linkage in a C++ program too.
    """
    return "\n".join(
        [
            comment(about),
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            *preamble,
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            *declarations,
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            f"#endif /* {guard} */",
            "",
        ]
    )
