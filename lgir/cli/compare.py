"""Commands that compare models: verify, diff, bisect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import lgir
from lgir.cli.counterexample import (
    counterexample_text,
    is_long,
    simplified,
    write_counterexample,
)
from lgir.cli.files import ARRAYS, MODELS, read_module, write_model
from lgir.cli.options import (
    ModelSource,
    OutputPath,
    complete,
    json_option,
    load_option,
    model_source,
    node_option,
    pipeline_option,
)
from lgir.cli.output import console, print_json, status
from lgir.equivalence.verification import METHODS

if TYPE_CHECKING:
    from lgir.equivalence.verdict import Verdict
    from lgir.ir.graph import Graph

method_option = click.option(
    "--method",
    default="sim",
    show_default=True,
    shell_complete=complete(lambda: METHODS),
    help="How to compare: sim (random samples), exhaustive, sat (a proof).",
)

seconds_option = click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    help="Time limit of a proof; past it the answer is 'unknown'.",
)

counterexample_option = click.option(
    "-o",
    "--output",
    type=OutputPath(*ARRAYS),
    metavar="FILE",
    help="Write a counterexample here: .npy, or .npz with an array per input.",
)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(), metavar="A B")
@model_source
@method_option
@seconds_option
@counterexample_option
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

    The exit code is 0 if they are equal as far as the method tells, 1 if they are different, and 3
    if the answer is unknown. If they are different, a sample is shown on which they differ; it is
    made as simple as a few seconds allow. One that is too long to read is written to a file as
    well.

    \b
    lgir verify model.onnx small.onnx
    lgir verify model.onnx small.onnx --method sat
    lgir verify --net dense-6x8000 small.onnx -o sample.npy
    lgir verify small.onnx module.pt --set allow_pickle=True
    """
    a, b, names = _two_models(source, files, modules=True)
    with status("comparing") as progress:
        verdict = lgir.verify(a, b, method=method, seconds=seconds, progress=progress)
    _show_verdict(verdict, a, b, names, output, as_json=as_json)
    if not verdict.equivalent:
        raise click.exceptions.Exit(1 if verdict.equivalent is False else 3)


def _two_models(
    source: ModelSource, files: tuple[str, ...], *, modules: bool = False
) -> tuple[Graph, Any, list[str]]:
    """Return two models and what to call them: their file names, or A and B if these are equal.

    With `modules`, the second may be a live torch module; otherwise it is a graph as well.
    """
    a, rest = source.open(files, "give two MODEL files")
    if len(rest) != 1:
        raise click.UsageError("give two models, A and B (with --net, B alone)")
    names = [source.net or Path(files[0]).name, Path(rest[0]).name]
    module = read_module(rest[0], **source.settings) if modules else None
    b = source.read(rest[0]) if module is None else module
    return a, b, names if names[0] != names[1] else ["A", "B"]


def _show_verdict(
    verdict: Verdict,
    a: Graph,
    b: Any,
    names: list[str],
    output: str | None,
    *,
    as_json: bool = False,
) -> None:
    """Print a verdict, and write the sample of a counterexample to a file if one is asked for."""
    example = verdict.counterexample
    if example is None:
        if as_json:
            print_json(_verdict_dict(verdict))
        else:
            click.echo(str(verdict))
        return
    if isinstance(b, lgir.Graph):  # A module is too slow to be asked of many samples.
        example = simplified(a, b, example)
    needed = not as_json and is_long(example)
    path = write_counterexample(a, example, output, needed=needed)
    if as_json:
        from dataclasses import replace

        print_json(_verdict_dict(replace(verdict, counterexample=example)))
        return
    click.echo(counterexample_text(a, example, names))
    if path is not None:
        click.echo(f"the sample is in {path}")


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


@click.command()
@click.argument("files", nargs=-1, type=click.Path(), metavar="A B")
@model_source
@node_option
@click.option("--full", is_flag=True, help="Show lines of text IR for long bodies too.")
@click.option(
    "--method",
    type=click.Choice(["sim", "sat"]),
    default="sim",
    show_default=True,
    help="How channels are found equal: sim (random samples), or sat (a proof).",
)
@seconds_option
@json_option
def diff(
    files: tuple[str, ...],
    source: ModelSource,
    nodes: tuple[str, ...],
    full: bool,
    method: str,
    seconds: float,
    as_json: bool,
) -> None:
    """Show how two models differ, node by node.

    Nodes correspond by name. A row says what became of one: its output (and so its channels),
    gates and depth, and how many of its channels compute the same as channels of a node of A, which
    may have another name. With --node, the operations and the lines of text IR are shown as well.
    The exit code is 0, whatever differs; 'lgir verify' tells whether the outputs do.

    \b
    lgir diff model.onnx small.onnx
    lgir diff model.onnx small.onnx --method sat
    lgir diff model.onnx small.onnx --node conv1 --full
    """
    from lgir.equivalence.equal_channels import equal_channels
    from lgir.errors import GraphError, unknown_name
    from lgir.ir.graph_diff import diff_graphs

    a, b, names = _two_models(source, files)
    known = {node.output for graph in (a, b) for node in graph.nodes}
    for name in nodes:
        if name not in known:
            raise unknown_name("node", name, known)
    with status("comparing") as progress:
        difference = diff_graphs(a, b, nodes=nodes, full=full)
        try:
            pairs = equal_channels(a, b, prove=method == "sat", seconds=seconds, progress=progress)
            reason = None
        except GraphError as error:  # Models of different inputs have no channel in common.
            pairs, reason = {}, str(error)
    if as_json:
        rows = difference.to_dict()
        for row in rows["nodes"]:
            pair = pairs.get(row["node"])
            row["equal_channels"] = pair and vars(pair)
        print_json(rows)
        return
    from lgir.cli.tables import diff_table

    console().print(diff_table(difference, pairs, names))
    if reason is not None:
        click.echo(f"no channels were compared, since {reason}")
    if nodes:
        for node in difference.nodes:
            click.echo(str(node))


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
@counterexample_option
def bisect(
    files: tuple[str, ...],
    source: ModelSource,
    passes: str,
    method: str,
    before: str | None,
    after: str | None,
    output: str | None,
) -> None:
    """Find the pass of a pipeline that changes what a model computes.

    The exit code is 0 if no pass does, and 1 if a pass does; that pass is named, with what it
    changed and a sample on which the graphs before and after it differ.

    \b
    lgir bisect model.onnx --load my_passes.py -p 'my-pass,default' --before good.onnx
    """
    from lgir.cli.progress import PassProgress
    from lgir.ir.graph_diff import diff_graphs
    from lgir.passes.bisect import bisect as search

    graph = source.open_one(files, "give a MODEL file or --net NAME")
    with status("searching") as progress:
        culprit = search(
            graph,
            passes,
            method=method,
            instrumentation=[PassProgress(progress)],
            progress=progress,
        )
    if culprit is None:
        click.echo(f"no pass of {passes!r} changes what {graph.name!r} computes")
        return
    click.echo(str(culprit))
    click.echo(str(diff_graphs(culprit.before, culprit.after)))
    if culprit.verdict is not None:
        sides = ["the graph before it", "the graph after it"]
        _show_verdict(culprit.verdict, culprit.before, culprit.after, sides, output)
    for kept, path in ((culprit.before, before), (culprit.after, after)):
        if path is not None:
            write_model(kept, path)
    raise click.exceptions.Exit(1)
