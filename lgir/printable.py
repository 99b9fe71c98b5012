"""Text from files as terminals and one-line errors may show it.

Names in a graph are any text. Control characters would move the cursor or clear the screen, and
marks of direction would show text in another order than it has; both become escapes.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Return `text` with escapes, such as \\x1b, for the characters that no terminal prints."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def escape_markup(text: str) -> str:
    """Return `printable` text for a table of rich, in which brackets stand for themselves."""
    from rich.markup import escape

    return escape(printable(text))
