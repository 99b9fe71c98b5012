"""Commands that run a model: run, demo."""

from __future__ import annotations

from typing import Any

import click

from lgir.cli.files import ARRAYS, read_array, write_arrays
from lgir.cli.options import (
    ModelSource,
    OutputPath,
    backend_option,
    backend_options,
    compile_graph,
    complete,
    json_option,
    load_option,
    model_source,
    optimize_first,
    optimize_graph,
)
from lgir.cli.output import console, print_json, status
from lgir.zoo import PRETRAINED

threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads that split a batch."
)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(), metavar="MODEL INPUT.npy")
@model_source
@load_option
@backend_option
@optimize_first
@backend_options
@threads_option
@click.option("--labels", is_flag=True, help="Class labels (argmax) instead of scores.")
@click.option(
    "-o",
    "--output",
    type=OutputPath(*ARRAYS),
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

    Arrays are (N, ...), one file per graph input. Without -o, one line of text per sample goes to
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
        graph, _ = optimize_graph(graph, passes)
    exe = compile_graph(graph, backend, options)
    with status(f"running {len(samples[0]) if samples[0].ndim else 1:,} samples with {backend}"):
        if labels:
            names, results = ["labels"], (exe.predict(*samples, threads=threads),)
        else:
            scores: Any = exe(*samples, threads=threads)
            names, results = [*graph.outputs], scores if isinstance(scores, tuple) else (scores,)
    write_arrays(names, results, output)


@click.command()
@click.option(
    "--net",
    default="digits",
    show_default=True,
    metavar="NAME",
    shell_complete=complete(lambda: PRETRAINED),
    help=f"A trained network: {', '.join(PRETRAINED)}.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False),
    metavar="FOLDER",
    help="Where the test images of MNIST or CIFAR-10 are, as .npy or .npy.xz.",
)
@click.option("--train", is_flag=True, help="Train the network anew first (a minute or two).")
@click.option(
    "-o",
    "--output",
    type=OutputPath(),
    metavar="FILE",
    help="With --train: where the checkpoint goes.",
)
@json_option
def demo(net: str, data: str | None, train: bool, output: str | None, as_json: bool) -> None:
    """Run the whole path on a trained network.

    Take a convolutional logic gate network that lgir ships, optimize it, compile it, compare the
    scores of every test sample with PyTorch, and measure. The images of digits come with
    scikit-learn, those of the other networks are read from --data. This needs torch and
    scikit-learn: pip install 'lgir[demo]'.
    """
    from lgir.cli.demo import run_demo

    if output is not None and not train:
        raise click.UsageError("-o keeps a newly trained checkpoint: add --train")
    if train and net != "digits":
        raise click.UsageError("--train trains the network of digits alone; see examples/README.md")
    if data is not None and net == "digits":
        raise click.UsageError("the images of digits come with scikit-learn; --data is for others")
    report = run_demo(console(stderr=as_json), net=net, data=data, train=train, output=output)
    if as_json:
        print_json(report.to_dict())
