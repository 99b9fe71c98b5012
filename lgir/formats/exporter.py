"""Export: a graph as code for programs without Python, or as a netlist for other tools.

An exporter maps a graph and options to an `Export`; `lgir.registry.EXPORTERS` holds the exporters
by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from lgir.errors import BackendError
from lgir.files import write_atomically
from lgir.ir.graph import Graph
from lgir.options import check_options, keyword_options
from lgir.registry import EXPORTERS


@dataclass(frozen=True)
class Export:
    """The result of an exporter.

    Attributes:
        data: the bytes of the file.
        header: the text of a C header, if the format has one.
        text: whether `data` is text.
    """

    data: bytes
    header: str | None = None
    text: bool = True

    def write(self, path: str | PathLike[str], header: str | PathLike[str] | None = None) -> None:
        """Write the file, and the header if a path for it is given.

        Raises BackendError if both paths are one file or the format has no header, and FormatError
        if a file cannot be written.
        """
        if header is not None:
            if os.path.realpath(header) == os.path.realpath(path):
                raise BackendError(f"{str(path)!r} cannot be the C header too; name another file")
            self.write_header(header)
        write_atomically(path, self.data)

    def write_header(self, path: str | PathLike[str]) -> None:
        """Write the C header. Raises BackendError if the format has none."""
        if self.header is None:
            raise BackendError(f"this format has no C header; leave {str(path)!r} out")
        write_atomically(path, self.header.encode())


def make_export(graph: Graph, format: str, options: Mapping[str, Any]) -> Export:
    """Return `graph` in `format`.

    Raises:
        UnknownNameError: there is no such format, or it has no such option.
        BackendError: the format cannot express the graph.
    """
    exporter = EXPORTERS.get(format)
    check_options(f"format {format!r}", options, keyword_options(exporter))
    result: Export = exporter(graph, **options)
    return result


def format_of(path: str | PathLike[str]) -> str:
    """Return the format that the ending of `path` names. Raises BackendError if it names none."""
    ending = Path(path).suffix[1:]
    if ending not in EXPORTERS.names():
        known = ", ".join(f".{name}" for name in EXPORTERS.names())
        raise BackendError(
            f"cannot tell the format of {str(path)!r}; name one, or end it in {known}"
        )
    return ending
