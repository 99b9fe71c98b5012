"""Files that hold one graph: the ONNX container, and the text form."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from lgir.errors import FormatError, GraphError, ParseError
from lgir.files import read_file, write_atomically
from lgir.formats.container import MAX_BYTES, from_bytes, to_bytes
from lgir.formats.text.parser import parse
from lgir.ir.graph import Graph
from lgir.ir.printer import dumps


def save(graph: Graph, path: str | PathLike[str]) -> None:
    """Write `graph` to `path`, whole or not at all: as text if that ends in .lgir, else as ONNX.

    Equal graphs give equal bytes.

    Raises FormatError if the file cannot be written or would pass protobuf's limit of 2 GB (some
    200 million gates).
    """
    text = Path(path).suffix == ".lgir"
    write_atomically(path, dumps(graph, full=True).encode() if text else to_bytes(graph))


def load(path: str | PathLike[str]) -> Graph:
    """Return the graph in a file that `save` wrote, or in a file of text IR.

    Raises:
        FormatError: the file is missing, truncated or corrupt, an ONNX model of another domain, of
            a later version, or a graph that breaks a rule of the IR.
        ParseError, GraphError: it is text that does not parse, or breaks a rule.
    """
    data = read_file(path, MAX_BYTES)
    if not is_text(data):
        return from_bytes(data, str(path))
    try:
        return parse(data.decode())
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not text ({error.reason} at byte {error.start})") from None
    except (ParseError, GraphError) as error:
        raise type(error)(f"{path}: {error}") from None


def is_text(head: bytes) -> bool:
    """Tell whether a file that begins so is text IR."""
    return head.lstrip().startswith((b"lgir ", b";"))
