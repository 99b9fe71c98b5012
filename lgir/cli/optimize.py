"""Commands that change or compare models: opt, verify, bisect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import lgir
from lgir.cli.files import ARRAYS, MODELS, read_model, read_module, write_arrays, write_model
from lgir.cli.options import (
    ModelSource,
    OutputPath,
    complete,
    json_option,
    load_option,
    model_source,
    output_option,
    passes_option,
)
from lgir.cli.output import console, note, print_json, status
from lgir.equivalence.verification import METHODS

if TYPE_CHECKING:
    from lgir.equivalence.verdict import Verdict

pipeline_option = passes_option(
    "Passes in order, for example 'fold,cse,dce' ('lgir passes' lists them).", "default"
)

method_option = click.option(
    "--method",
    default="sim",
    show_default=True,
    shell_complete=complete(lambda: METHODS),
    help="How to compare: sim (random samples), exhaustive, sat (a proof).",
)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(), metavar="MODEL")
@model_source
@load_option
@pipeline_option
@click.option(
    "--print-after",
    multiple=True,
    metavar="PASS",
    help="Print the text IR after this pass, or after 'all', to stderr (repeatable).",
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
    print_after: tuple[str, ...],
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
    lgir opt model.onnx --load my_passes.py -p 'my-pass,dce' -o -
    """
    graph = source.open_one(files, "give a MODEL file or --net NAME")
    with status("optimizing"):
        optimized, rows = lgir.optimize(
            graph,
            passes,
            verify=None if no_verify else method,
            dump_after=print_after,
            stop_after=stop_after,
        )
    if output is not None:
        write_model(optimized, output)
    if as_json and output != "-":
        print_json(rows.to_dict())
    elif report or output is None:
        from lgir.cli.tables import report_table

        console(stderr=output == "-").print(report_table(rows))
    if output is None:
        note("nothing written: add -o FILE to keep the result")


@click.command()
@click.argument("files", nargs=-1, type=click.Path(), metavar="A B")
@model_source
@method_option
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    help="Time limit of a proof; past it the answer is 'unknown'.",
)
@click.option(
    "-o",
    "--output",
    type=OutputPath(*ARRAYS),
    metavar="FILE",
    help="Write a counterexample here: .npy, or .npz with an array per input.",
)
@json_option
def verify(
    files: tuple[str, ...],
    source: ModelSource,
    method: str,
    seconds: float,
    output: str | None,
    as_json: bool,
) -> None:
    """Check that two models compute the same outputs.

    The exit code is 0 if they are equal as far as the method tells, 1 if they are different (a
    counterexample is shown), and 3 if the answer is unknown.

    \b
    lgir verify model.onnx small.onnx
    lgir verify --net dense-6x8000 small.onnx
    lgir verify small.onnx module.pt --set allow_pickle=True
    """
    a, rest = source.open(files, "give two MODEL files")
    if len(rest) != 1:
        raise click.UsageError("give two models, A and B (with --net, B alone)")
    b = read_module(rest[0], **source.settings) or read_model(rest[0], **source.settings)
    with status("comparing"):
        verdict = lgir.verify(a, b, method=method, seconds=seconds)
    if as_json:
        print_json(_verdict_dict(verdict))
    else:
        different = f"different: {verdict.counterexample}"
        click.echo(different if verdict.counterexample else str(verdict))
    if verdict.counterexample is not None and output is not None:
        names = [value.name for value in a.inputs]
        write_arrays(names, [x[None] for x in verdict.counterexample.inputs], output)
    if not verdict.equivalent:
        raise click.exceptions.Exit(1 if verdict.equivalent is False else 3)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(), metavar="MODEL")
@model_source
@load_option
@pipeline_option
@method_option
@click.option(
    "--before", type=OutputPath(*MODELS), metavar="FILE", help="Keep the last good graph."
)
@click.option(
    "--after", type=OutputPath(*MODELS), metavar="FILE", help="Keep the first broken graph."
)
def bisect(
    files: tuple[str, ...],
    source: ModelSource,
    passes: str,
    method: str,
    before: str | None,
    after: str | None,
) -> None:
    """Find the pass of a pipeline that changes what a model computes.

    The exit code is 0 if no pass does, and 1 if a pass does; that pass is named.

    \b
    lgir bisect model.onnx --load my_passes.py -p 'my-pass,default' --before good.onnx
    """
    from lgir.passes.bisect import bisect as search

    graph = source.open_one(files, "give a MODEL file or --net NAME")
    with status("searching"):
        culprit = search(graph, passes, method=method)
    if culprit is None:
        click.echo(f"no pass of {passes!r} changes what {graph.name!r} computes")
        return
    click.echo(str(culprit))
    for kept, path in ((culprit.before, before), (culprit.after, after)):
        if path is not None:
            write_model(kept, path)
    raise click.exceptions.Exit(1)


def _verdict_dict(verdict: Verdict) -> dict[str, Any]:
    example = verdict.counterexample
    return {
        "equivalent": verdict.equivalent,
        "method": verdict.method,
        "samples": verdict.samples,
        "counterexample": example
        and {
            "inputs": [x.tolist() for x in example.inputs],
            "output": example.output,
            "index": list(example.index),
            "a": example.left,
            "b": example.right,
        },
    }
