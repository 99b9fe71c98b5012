"""Commands that read a model and show or write a form of it: describe, lift, dump, compile."""

from __future__ import annotations

import json
from time import perf_counter
from typing import Any

import click

import lgir
from lgir.cli.deploy import interface_options, library_format, write_export
from lgir.cli.files import MODELS, write_model, write_text
from lgir.cli.options import (
    ModelSource,
    OutputPath,
    backend_option,
    backend_options,
    compile_graph,
    json_option,
    load_option,
    model_source,
    node_option,
    optimize_first,
    optimize_graph,
    output_option,
)
from lgir.cli.output import console, note, print_json, status
from lgir.errors import BackendError, unknown_name
from lgir.ir.printer import print_node


@click.command()
@click.argument("files", nargs=-1, type=click.Path(), metavar="CHECKPOINT")
@model_source
@load_option
@click.option(
    "-o",
    "--output",
    required=True,
    type=OutputPath(*MODELS),
    metavar="FILE",
    help="A .onnx container, .lgir text, or -.",
)
def lift(files: tuple[str, ...], source: ModelSource, output: str) -> None:
    """Turn a trained checkpoint into a graph file.

    \b
    lgir lift model.pt -o model.onnx
    lgir lift difflogic.pt --set indices=wires.pt --set groups=10 --set tau=30 -o model.onnx
    """
    start = perf_counter()
    graph = source.open_one(files, "give a CHECKPOINT file")
    write_model(graph, output)
    note(f"{output}: {graph!r}, lifted in {perf_counter() - start:.2f} s")


@click.command()
@click.argument("checkpoint", type=click.Path())
@click.option(
    "--input-shape",
    metavar="SHAPE",
    help="Shape of one sample, for example 1,28,28; makes paddings exact.",
)
@output_option()
def describe(checkpoint: str, input_shape: str | None, output: str | None) -> None:
    """Draft the architecture description that some checkpoints need.

    A state_dict of torchlogix, convlogic, difflogic or torch-dwn does not hold the whole
    architecture. The draft is JSON: complete what it lists under "check", and lift with it.

    \b
    lgir describe model.pt --input-shape 1,28,28 -o model.json
    lgir lift model.pt --set architecture=model.json -o model.onnx
    """
    from lgir.frontend import describe as draft

    shape = None
    if input_shape is not None:
        try:
            shape = tuple(int(part) for part in input_shape.split(","))
        except ValueError:
            raise click.UsageError(
                f"--input-shape takes numbers such as 1,28,28, not {input_shape!r}"
            ) from None
    write_text(json.dumps(draft(checkpoint, shape), indent=2) + "\n", output)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(), metavar="MODEL")
@model_source
@load_option
@click.option("--full", is_flag=True, help="Every gate: text that parses back to the same graph.")
@node_option
@click.option("--summary", is_flag=True, help="Gates per node, by operation, and depth.")
@json_option
def dump(
    files: tuple[str, ...],
    source: ModelSource,
    full: bool,
    nodes: tuple[str, ...],
    summary: bool,
    as_json: bool,
) -> None:
    """Show a model as text IR, or its size with --summary.

    Long bodies are elided unless --full is given.

    \b
    lgir dump model.onnx
    lgir dump model.pt --summary
    lgir dump model.onnx --node conv1 --full
    lgir dump model.onnx --full > model.lgir
    """
    if nodes and (summary or as_json):
        raise click.UsageError("--node shows text IR; leave --summary and --json out")
    graph = source.open_one(files, "give a MODEL file or --net NAME")
    if nodes:
        for name in nodes:
            click.echo(print_node(graph, name, full=full), nl=False)
        return
    if not summary and not as_json:
        click.echo(lgir.dumps(graph, full=full), nl=False)
        return
    from lgir.ir.summary import summarize

    with status("counting gates"):
        summary_ = summarize(graph)
    if as_json:
        print_json(summary_.to_dict())
    else:
        console().print(summary_)


@click.command("compile")
@click.argument("files", nargs=-1, type=click.Path(), metavar="MODEL")
@model_source
@load_option
@backend_option
@optimize_first
@backend_options
@click.option("--emit", metavar="STAGE", help="Print a stage: llvm, asm (as the backend has them).")
@output_option()
@interface_options
@json_option
def compile_(
    files: tuple[str, ...],
    source: ModelSource,
    backend: str,
    passes: str | None,
    options: dict[str, Any],
    emit: str | None,
    output: str | None,
    header: str | None,
    interface: dict[str, Any],
    as_json: bool,
) -> None:
    """Compile a model to a library for C programs (-o), or show the stages of its compilation.

    \b
    lgir compile model.onnx -o model.so --header model.h
    lgir compile model.onnx -o model.o --header model.h --target x86-64-v3
    lgir compile model.onnx
    lgir compile model.pt -p default --emit asm -o model.s
    """
    format_ = library_format(output) if output is not None and emit is None else None
    if format_ is None and (header is not None or interface):
        raise click.UsageError("--header, --prefix and --cc belong to a library: -o FILE.so")
    graph = source.open_one(files, "give a MODEL file or --net NAME")
    if passes is not None:
        graph, _ = optimize_graph(graph, passes)
    if output is not None and format_ is not None:
        if backend != "llvm":
            raise BackendError(f"backend {backend!r} writes no libraries; leave --backend out")
        write_export(graph, format_, output, header, options | interface)
        return
    start = perf_counter()
    exe = compile_graph(graph, backend, options)
    seconds = perf_counter() - start
    if emit is not None:
        if emit not in exe.asm:
            raise unknown_name(f"stage of backend {backend!r}", emit, exe.asm)
        write_text(exe.asm[emit].rstrip("\n") + "\n", output)
        return
    stages = {name: text.count("\n") + 1 for name, text in exe.asm.items()}
    if as_json:
        print_json(
            {"name": graph.name, "backend": backend, "seconds": seconds, "stage_lines": stages}
        )
        return
    click.echo(f"{graph!r} compiled by {backend} in {seconds:.2f} s")
    for name, lines in stages.items():
        click.echo(f"  --emit {name}: {lines:,} lines")
