"""The command that changes a model: opt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lgir.cli.files import MODELS, write_model
from lgir.cli.options import (
    ModelSource,
    json_option,
    load_option,
    model_source,
    node_option,
    optimize_graph,
    output_option,
    pipeline_option,
)
from lgir.cli.output import console, note, print_json

if TYPE_CHECKING:
    from lgir.passes.pipeline import Instrumentation


@click.command()
@click.argument("files", nargs=-1, type=click.Path(), metavar="MODEL")
@model_source
@load_option
@pipeline_option
@click.option(
    "--print-before",
    multiple=True,
    metavar="PASS",
    help="Print the text IR before this pass, or before 'all', to stderr (repeatable).",
)
@click.option(
    "--print-after",
    multiple=True,
    metavar="PASS",
    help="Print the text IR after this pass, or after 'all', to stderr (repeatable).",
)
@click.option(
    "--print-changed", is_flag=True, help="Print what each pass changed, node by node, to stderr."
)
@node_option
@click.option("--full", is_flag=True, help="Print every gate of long bodies.")
@click.option(
    "--dump-dir",
    type=click.Path(),
    metavar="DIR",
    help="Write the text IR after each pass that changes it to a numbered file there.",
)
@click.option("--stop-after", metavar="PASS", help="End after the first run of this pass.")
@click.option("--report", is_flag=True, help="Print a row per pass (done anyway without -o).")
@click.option(
    "--verify",
    "method",
    default="sim",
    show_default=True,
    metavar="METHOD",
    help="How outputs are compared after each pass, as in 'lgir verify'.",
)
@click.option("--no-verify", is_flag=True, help="Trust the passes: compare no outputs.")
@output_option(*MODELS)
@json_option
def opt(
    files: tuple[str, ...],
    source: ModelSource,
    passes: str,
    print_before: tuple[str, ...],
    print_after: tuple[str, ...],
    print_changed: bool,
    nodes: tuple[str, ...],
    full: bool,
    dump_dir: str | None,
    stop_after: str | None,
    report: bool,
    method: str,
    no_verify: bool,
    output: str | None,
    as_json: bool,
) -> None:
    """Optimize a model with a pipeline of passes.

    After every pass, the structure of the graph is checked, and its outputs are compared with those
    before the pass by bit-parallel simulation.

    \b
    lgir opt model.pt -o small.onnx --report
    lgir opt model.onnx -p 'fold,cse,dce' --print-after cse
    lgir opt model.onnx --print-changed --node conv1
    lgir opt model.onnx --dump-dir passes/
    lgir opt model.onnx --load my_passes.py -p 'my-pass,dce' -o -
    """
    from lgir.passes.pipeline.instrumentation import NodeFilter, PrintChanges, PrintGraphs

    chosen = NodeFilter(nodes, full=full)
    watchers: list[Instrumentation] = []
    if print_before or print_after:
        watchers.append(PrintGraphs(before=print_before, after=print_after, nodes=chosen))
    if print_changed:
        watchers.append(PrintChanges(chosen))
    if (nodes or full) and not watchers:
        option = "--node" if nodes else "--full"
        raise click.UsageError(f"{option} goes with --print-before, --print-after, --print-changed")
    graph = source.open_one(files, "give a MODEL file or --net NAME")
    optimized, rows = optimize_graph(
        graph,
        passes,
        verify=None if no_verify else method,
        dump_dir=dump_dir,
        instrumentation=watchers,
        stop_after=stop_after,
        shown=not watchers,
    )
    if output is not None:
        write_model(optimized, output)
    if as_json and output != "-":
        print_json(rows.to_dict())
    elif report or output is None:
        from lgir.cli.tables import report_table

        console(stderr=output == "-").print(report_table(rows))
    chosen.check_names()
    if output is None:
        note("nothing written: add -o FILE to keep the result")
