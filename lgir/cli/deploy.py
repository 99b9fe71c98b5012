"""Output that runs without Python: `lgir export`, and the libraries of `lgir compile -o`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from lgir.cli.files import write_text
from lgir.cli.options import (
    ModelSource,
    OutputPath,
    complete,
    load_option,
    model_source,
    optimize_first,
    optimize_graph,
    output_option,
)
from lgir.cli.output import note, status
from lgir.formats.exporter import format_of, make_export
from lgir.registry import EXPORTERS

if TYPE_CHECKING:
    from lgir.ir.graph import Graph

LIBRARIES = ("so", "a", "o", "dylib", "dll")
"""Formats of machine code; the others are text."""


def interface_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of C interfaces; the command receives `header` and `interface`."""

    @click.option("--header", type=OutputPath(), metavar="FILE.h", help="Where the C header goes.")
    @click.option("--prefix", metavar="NAME", help="What the functions' names begin with.")
    @click.option(
        "--cc",
        metavar="COMMAND",
        help="C compiler that links a .so, .dylib or .dll.  [default: cc]",
    )
    @wraps(command)
    def with_options(*args: Any, prefix: str | None, cc: str | None, **kw: Any) -> Any:
        return command(*args, interface=_set_options(prefix=prefix, cc=cc), **kw)

    return with_options


def _set_options(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def library_format(output: str) -> str:
    """Return the format of a library by its ending; raise UsageError for another file."""
    ending = Path(output).suffix[1:]
    if ending not in LIBRARIES:
        raise click.UsageError(
            "-o needs --emit STAGE, which says what to write, or a library's ending "
            f"({', '.join(f'.{library}' for library in LIBRARIES)})"
        )
    return ending


def write_export(
    graph: Graph, format_: str, output: str, header: str | None, options: Mapping[str, Any]
) -> None:
    """Write `graph` in a format to `output`, its C header to `header`, and a note to stderr."""
    start = perf_counter()
    with status(f"making {format_} of {graph.name}"):
        exported = make_export(graph, format_, options)
    if output != "-":
        exported.write(output, header)
        note(f"{output}: {graph!r}, {len(exported.data):,} bytes, {perf_counter() - start:.2f} s")
    elif not exported.text:
        raise click.UsageError(f"format {format_!r} is not text; write it to a file with -o")
    else:
        if header is not None:
            exported.write_header(header)
        write_text(exported.data.decode(), "-")


@click.command()
@click.argument("files", nargs=-1, type=click.Path(), metavar="MODEL")
@model_source
@load_option
@click.option(
    "--format",
    "format_",
    metavar="FORMAT",
    shell_complete=complete(EXPORTERS.names),
    help="c, cuda, so, a, o, dylib, dll, or a netlist: blif, aig, v; by default what the ending of "
    "-o says.",
)
@optimize_first
@output_option()
@interface_options
@click.option(
    "--target",
    help="CPU of a library: portable (all levels of x86-64), native, x86-64, x86-64-v3, x86-64-v4, "
    "aarch64, or with a system: aarch64-macos, x86-64-windows.  [default: portable]",
)
@click.option("--features", metavar="FLAGS", help="LLVM features, as -avx512f (so, a, o).")
@click.option("--word", type=int, help="Bits of a word, 32 or 64 (c).  [default: 64]")
@click.option("--style", help="tables, or statements: one a gate (c).  [default: tables]")
@click.option(
    "--guarded",
    is_flag=True,
    default=None,
    help="AND each threshold with the lower ones, which it implies (blif).",
)
def export(
    files: tuple[str, ...],
    source: ModelSource,
    format_: str | None,
    passes: str | None,
    output: str | None,
    header: str | None,
    interface: dict[str, Any],
    **options: Any,
) -> None:
    """Turn a model into code that runs without Python, or into a netlist.

    Source text goes to stdout unless -o is given. A netlist is unrolled: its inputs are the results
    of thresholds, and its outputs are the bits that class sums count.

    \b
    lgir export model.onnx --format c -o model.c --header model.h
    lgir export model.pt -p default --format c --word 32 > model.c
    lgir export model.onnx -o model.so --header model.h --target native
    lgir export model.onnx -o model.blif
    """
    if format_ is None:
        if output is None or output == "-":
            raise click.UsageError("give --format FORMAT, or -o FILE with an ending that says it")
        format_ = format_of(output)
    graph = source.open_one(files, "give a MODEL file or --net NAME")
    if passes is not None:
        graph, _ = optimize_graph(graph, passes)
    write_export(
        graph,
        format_,
        "-" if output is None else output,
        header,
        interface | _set_options(**options),
    )
