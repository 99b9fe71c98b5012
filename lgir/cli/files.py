"""Reading and writing of the files that arguments name: models and arrays.

Every file is written whole or not at all (see `lgir.files`). Nothing is ever unpickled.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal
from zipfile import ZipFile

import click
import numpy as np

import lgir
from lgir.errors import FormatError, GraphError, LgirError, ParseError
from lgir.files import open_regular, read_file, read_start, write_atomically
from lgir.formats.container import MAX_BYTES, from_bytes
from lgir.formats.graph_file import is_text
from lgir.ir.verifier import MAX_AXES, MAX_SIZE
from lgir.options import check_options, keyword_options

if TYPE_CHECKING:
    from lgir.ir.graph import Graph
    from lgir.samples import Array


MODELS = (".onnx", ".lgir")
"""Endings of the files that `write_model` writes."""

ARRAYS = (".npy", ".npz", ".csv")
"""Endings of the files that `write_arrays` writes."""


def read_model(path: str, /, **settings: Any) -> Graph:
    """Read a graph from a .onnx container, text IR, a netlist (.blif, .aig, .aag), or a checkpoint.

    The path `-` is stdin, with a container or text IR. `settings` are options of lifting, or of the
    readers of netlists, `max_bytes` and `max_inputs`.

    Raises:
        FormatError, ParseError, LiftError: the file cannot be read, or is not what it should be.
        UnknownNameError: a netlist's reader has no such option.
    """
    if path == "-":
        data = _read_stdin()
        return _parse(data, "stdin") if is_text(data) else from_bytes(data, "stdin")
    if path.endswith(".onnx"):
        return _read_onnx(path, settings)
    if path.endswith((".blif", ".aig", ".aag")):
        return _read_netlist(path, settings)
    if path.endswith(".lgir") or is_text(read_start(path, 64)):
        return _parse(read_file(path, MAX_BYTES), path)
    if "model" in settings:
        raise LgirError(f"{path}: is the model; --set gives options of lifting")
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


def _read_netlist(path: str, settings: Mapping[str, Any]) -> Graph:
    from lgir.formats.aiger import read_aiger
    from lgir.formats.blif import read_blif

    read: Callable[..., Graph] = read_blif if path.endswith(".blif") else read_aiger
    known = keyword_options(read)
    check_options(f"the reader of {path!r}", settings, known)
    for name, value in settings.items():
        if not isinstance(value, int) or value < 0:
            raise FormatError(f"{name}={value!r} is not a number of bytes or inputs")
    return read(path, **settings)


def _read_stdin() -> bytes:
    data = bytearray()
    while part := sys.stdin.buffer.read(1 << 20):
        data += part
        if len(data) > MAX_BYTES:
            raise FormatError(f"stdin: more than {MAX_BYTES:,} bytes")
    return bytes(data)


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
    *others, last = endings
    return LgirError(
        f"cannot tell the format of {path!r}; end it in {', '.join(others)} or {last}, or give -"
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
    """Return the array of numbers in a .npy file, which is mapped into memory, not read.

    Nothing is unpickled. Raises FormatError if the file is anything else.
    """
    with open_regular(path) as file:
        shape, is_fortran, dtype = _read_npy_header(path, file)
        offset = file.tell()
        size = os.fstat(file.fileno()).st_size - offset
        needed = math.prod(shape) * dtype.itemsize
        if needed > size:
            raise FormatError(
                f"{path}: not a readable .npy file: {shape} of {dtype} are {needed:,} bytes, and "
                f"{size:,} are there"
            )
        order: Literal["C", "F"] = "F" if is_fortran else "C"
        if not needed:
            return np.empty(shape, dtype, order)
        return np.memmap(file, dtype, "r", offset, shape, order)


def _read_npy_header(path: str, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the order is Fortran's, and dtype; leave the file at its data."""
    hint = "save samples with numpy.save"
    if read_start(path, 2) == b"PK":
        raise FormatError(f"{path}: an archive of arrays; give one .npy file per graph input")
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif version in ((2, 0), (3, 0)):  # version 3 differs in names of fields alone
            shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"version {version} of the format")
    except Exception as error:  # numpy evaluates a literal of Python, which fails in many ways
        raise FormatError(f"{path}: not a readable .npy file ({error}); {hint}") from None
    if dtype.kind not in "biuf":
        raise FormatError(
            f"{path}: not a readable .npy file of real numbers (its dtype is {dtype}); {hint}"
        )
    if len(shape) > MAX_AXES + 1 or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise FormatError(f"{path}: not a readable .npy file (its shape is {shape!r}); {hint}")
    if 0 in shape and max(shape) > MAX_SIZE:
        raise FormatError(f"{path}: not a readable .npy file (its shape is {shape!r}); {hint}")
    return shape, is_fortran, dtype
