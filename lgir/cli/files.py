"""Reading and writing of the files that arguments name: models and arrays.

Every file is written whole or not at all (see `lgir.files`). Nothing is ever unpickled.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import click
import numpy as np

import lgir
from lgir.errors import FormatError, GraphError, LgirError, ParseError
from lgir.files import write_atomically
from lgir.formats.container import from_bytes

if TYPE_CHECKING:
    from lgir.ir.graph import Graph
    from lgir.samples import Array


MODELS = (".onnx", ".lgir")
"""Endings of the files that `write_model` writes."""

ARRAYS = (".npy", ".npz", ".csv")
"""Endings of the files that `write_arrays` writes."""


def read_model(path: str, **settings: Any) -> Graph:
    """Read a graph from a .onnx container, text IR, a netlist (.blif, .aig), or a checkpoint.

    The path `-` is stdin, with a container or text IR. `settings` are options of lifting.

    Raises:
        FormatError, ParseError, LiftError: the content is not what the file should hold.
        OSError: the file cannot be read.
    """
    if path == "-":
        data = sys.stdin.buffer.read()
        return _parse(data, "stdin") if _is_text(data) else from_bytes(data, "stdin")
    if path.endswith(".onnx"):
        return _read_onnx(path, settings)
    if path.endswith((".blif", ".aig")):
        return _read_netlist(path)
    with open(path, "rb") as file:  # a missing file is an OSError for every frontend
        if path.endswith(".lgir") or _is_text(file.read(64)):
            file.seek(0)
            return _parse(file.read(), path)
    graph = lgir.lift(path, **settings)
    return graph if "name" in settings else replace(graph, name=Path(path).stem)


def read_module(path: str, **settings: Any) -> Any | None:
    """Return the live module in a pickled .pt, .pth or .pt2 file, to run or to trace.

    None for any other file, and unless the settings allow_pickle.
    """
    if not path.endswith((".pt", ".pth", ".pt2")) or settings.get("allow_pickle") is not True:
        return None
    from lgir.frontend.core.checkpoint import source_of

    return source_of(path, allow_pickle=True).module


def _read_onnx(path: str, settings: Mapping[str, Any]) -> Graph:
    """Read lgir's own container, or lift a model of standard operators."""
    try:
        return lgir.load(path)
    except FormatError as error:
        if "no node domain" not in str(error):
            raise
    return lgir.lift(path, **settings)


def _read_netlist(path: str) -> Graph:
    from lgir.formats.aiger import read_aiger
    from lgir.formats.blif import read_blif

    return read_blif(path) if path.endswith(".blif") else read_aiger(path)


def _is_text(head: bytes) -> bool:
    return head.lstrip().startswith((b"lgir ", b";"))


def _parse(data: bytes, name: str) -> Graph:
    try:
        return lgir.parse(data.decode())
    except UnicodeDecodeError as error:
        raise FormatError(f"{name}: not text ({error.reason} at byte {error.start})") from None
    except (ParseError, GraphError) as error:
        raise type(error)(f"{name}: {error}") from None


def write_model(graph: Graph, path: str) -> None:
    """Write `graph` as a .onnx container, as .lgir text, or as text on stdout (`-`)."""
    if path.endswith(".onnx"):
        lgir.save(graph, path)
    elif path.endswith(".lgir") or path == "-":
        write_text(lgir.dumps(graph, full=True), path)
    else:
        raise unknown_ending(path, MODELS)


def unknown_ending(path: str, endings: Sequence[str]) -> LgirError:
    """Return the error for a path that has none of the `endings` of known formats."""
    *some, last = endings
    return LgirError(
        f"cannot tell the format of {path!r}; end it in {', '.join(some)} or {last}, or give -"
    )


def write_text(text: str, path: str | None) -> None:
    """Write text to a file, whole or not at all, or to stdout if `path` is None or `-`."""
    if path is None or path == "-":
        click.echo(text, nl=False)
    else:
        write_atomically(path, text.encode())


def write_arrays(names: Sequence[str], arrays: Sequence[Array], output: str | None) -> None:
    """Write arrays to a .npy (one array), .npz or .csv file, or a line per sample to stdout."""
    buffer = BytesIO()
    if output is not None and output.endswith(".npz"):
        with ZipFile(
            buffer, "w"
        ) as archive:  # numpy.savez would take some names as its own arguments
            for name, array in zip(names, arrays, strict=True):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        write_atomically(output, buffer.getvalue())
        return
    if len(arrays) != 1:
        raise LgirError(
            f"the model has {len(arrays)} outputs ({', '.join(names)}); write them with -o FILE.npz"
        )
    (array,) = arrays
    if output is not None and output.endswith(".npy"):
        np.save(buffer, array)
        write_atomically(output, buffer.getvalue())
    elif output is None or output == "-" or output.endswith(".csv"):
        rows = array.reshape(len(array), -1) if array.size else array.reshape(len(array), 0)
        lines = (",".join(f"{x:.9g}" for x in row) + "\n" for row in rows.tolist())
        write_text("".join(lines), output)
    else:
        raise unknown_ending(output, ARRAYS)


def read_array(path: str) -> Array:
    """Return the array of a .npy file, memory-mapped if possible. Nothing is unpickled."""
    try:
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as error:  # header, length or dtype
        raise FormatError(
            f"{path}: not a readable .npy file ({error}); save samples with numpy.save"
        ) from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise FormatError(f"{path}: an archive of arrays; give one .npy file per graph input")
    return array
