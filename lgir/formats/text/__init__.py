"""The text form of a graph: `dumps` writes it and `parse` reads it back."""

from lgir.formats.text.parser import parse
from lgir.ir.printer import dumps

__all__ = ["dumps", "parse"]
