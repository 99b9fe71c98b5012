"""Export: a graph as code for programs without Python, or as a netlist for other tools.

An exporter maps a graph and options to an `Export`; `lgir.registry.EXPORTERS` holds them by name.
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
    """What an exporter made: the bytes of a file, whether they are `text`, and where the format has
    one, a C header.
    """

    data: bytes
    header: str | None = None
    text: bool = True

    def write(self, path: str | PathLike[str], header: str | PathLike[str] | None = None) -> None:
        """Writes the file and, where asked for, the header; BackendError where both are one."""
        if header is not None:
            if os.path.realpath(header) == os.path.realpath(path):
                raise BackendError(f"{str(path)!r} cannot be the C header too; name another file")
            self.write_header(header)
        write_atomically(path, self.data)

    def write_header(self, path: str | PathLike[str]) -> None:
        """BackendError where the format has no header."""
        if self.header is None:
            raise BackendError(f"this format has no C header; leave {str(path)!r} out")
        write_atomically(path, self.header.encode())


def make_export(graph: Graph, format: str, options: Mapping[str, Any]) -> Export:
    """`graph` in `format`. Raises UnknownNameError for another format or an option that it
    does not take, BackendError for a graph that it cannot express.
    """
    exporter = EXPORTERS.get(format)
    check_options(f"format {format!r}", options, keyword_options(exporter))
    made: Export = exporter(graph, **options)
    return made


def format_of(path: str | PathLike[str]) -> str:
    """The format that the ending of `path` says; BackendError where it says none."""
    ending = Path(path).suffix[1:]
    if ending not in EXPORTERS.names():
        known = ", ".join(f".{name}" for name in EXPORTERS.names())
        raise BackendError(
            f"cannot tell the format of {str(path)!r}; name one, or end it in {known}"
        )
    return ending
