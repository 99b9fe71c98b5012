"""Commands that run a model: run, bench, demo."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

import lgir
from lgir.cli.files import read_array, write_arrays
from lgir.cli.options import (
    ModelSource,
    backend_option,
    backend_options,
    compile_graph,
    complete,
    json_option,
    load_option,
    model_source,
    options_for,
)
from lgir.cli.output import console, note, print_json, status
from lgir.errors import LiftError
from lgir.registry import BACKENDS

if TYPE_CHECKING:
    from lgir.graph import Graph

threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads that split a batch."
)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(), metavar="MODEL INPUT.npy")
@model_source
@load_option
@backend_option
@click.option("-p", "--passes", metavar="PIPELINE", help="Optimise first with these passes.")
@backend_options
@threads_option
@click.option("--labels", is_flag=True, help="Class labels (argmax) instead of scores.")
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="A .npy file, .npz for several outputs, or .csv text.",
)
def run(
    files: tuple[str, ...],
    source: ModelSource,
    backend: str,
    passes: str | None,
    options: dict[str, Any],
    threads: int | None,
    labels: bool,
    output: str | None,
) -> None:
    """Run a model on samples from .npy files.

    Arrays are (N, ...), one file per graph input. Without -o, a line of text per sample goes to
    stdout.

    \b
    lgir run model.onnx samples.npy --labels
    lgir run model.pt samples.npy -o scores.npy
    """
    graph, inputs = source.open(files, "give a MODEL file or --net NAME, then INPUT.npy")
    if not inputs:
        raise click.UsageError("give the samples: an INPUT.npy file per graph input")
    samples = [read_array(path) for path in inputs]
    if passes is not None:
        graph, _ = lgir.optimize(graph, passes)
    exe = compile_graph(graph, backend, options)
    if labels:
        names, results = ["labels"], (exe.predict(*samples, threads=threads),)
    else:
        scores = exe(*samples, threads=threads)
        names, results = [*graph.outputs], scores if isinstance(scores, tuple) else (scores,)
    write_arrays(names, results, output)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(), metavar="[MODEL]")
@model_source
@load_option
@click.option(
    "-b",
    "--backend",
    "backends",
    multiple=True,
    default=("llvm", "reference"),
    show_default=True,
    shell_complete=complete(BACKENDS.names),
    help="Measure this backend (repeatable).",
)
@click.option(
    "-p",
    "--passes",
    default="default",
    show_default=True,
    metavar="PIPELINE",
    help="Optimise first; 'none' takes the model as it is.",
)
@backend_options
@click.option("--samples", type=click.IntRange(min=1), help="Samples a run. [default: 100,000]")
@click.option("--batch", type=click.IntRange(min=1), help="Samples a call. [default: all]")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads, for every backend and for PyTorch.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Runs behind each median.",
)
@click.option("--no-torch", is_flag=True, help="Leave out the row of PyTorch's eval mode.")
@json_option
def bench(
    files: tuple[str, ...],
    source: ModelSource,
    backends: tuple[str, ...],
    passes: str,
    options: dict[str, Any],
    samples: int | None,
    batch: int | None,
    threads: int,
    repeats: int,
    no_torch: bool,
    as_json: bool,
) -> None:
    """Measure backends side by side, after a check of equal outputs.

    Times are medians, end to end from a random array in memory to scores. MODEL or --net NAME; slow
    backends get fewer samples a run, and the table says how many. Where torch is installed, the
    same network runs there too, in eval mode.

    \b
    lgir bench --net dense-6x8000
    lgir bench model.pt --threads 2 --json > bench.json
    """
    start = perf_counter()
    with status("lifting"):
        graph = source.open_one(files, "give a MODEL file or --net NAME")
    preparation = {"lift": perf_counter() - start}
    module = None if no_torch else _torch_module(graph)
    if passes != "none":
        start = perf_counter()
        with status("optimising"):
            graph, _ = lgir.optimize(graph, passes)
        preparation["optimise"] = perf_counter() - start
    with status("measuring") as progress:
        report = lgir.bench(
            graph,
            backends,
            module=module,
            samples=samples,
            batch=batch,
            threads=threads,
            repeats=repeats,
            preparation=preparation,
            options=options_for(backends, options),
            progress=progress,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        console().print(report)


@click.command()
@click.option("--train", is_flag=True, help="Train the network anew first (a minute or two).")
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="With --train: where the checkpoint goes.",
)
@json_option
def demo(train: bool, output: str | None, as_json: bool) -> None:
    """Run the whole path on a trained network of digits.

    Lifts the shipped checkpoint of a convolutional logic gate network, optimises it, compiles it,
    checks every test sample against PyTorch, and measures. Needs: pip install 'lgir[demo]'.
    """
    from lgir.demo import run_demo

    if output is not None and not train:
        raise click.UsageError("-o keeps a newly trained checkpoint: add --train")
    report = run_demo(console(stderr=as_json), train=train, output=output)
    if as_json:
        print_json(report.to_dict())


def _torch_module(graph: Graph) -> Any:
    """The model as it was lifted, as a torch module; None, with a note, where there is none."""
    try:
        from lgir.frontend.rebuild import rebuild
    except ImportError:
        note("no row for PyTorch, which is not installed")
        return None
    try:
        return rebuild(graph)
    except LiftError as error:
        note(f"no row for PyTorch: {error}")
        return None
