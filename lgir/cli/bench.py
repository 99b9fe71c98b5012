"""The command that measures backends: bench."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

import lgir
from lgir.benchmarking.throughput_report import BASELINES
from lgir.cli.options import (
    ModelSource,
    OutputPath,
    backend_options,
    complete,
    json_option,
    load_option,
    model_source,
    optimize_graph,
    options_for,
    passes_option,
)
from lgir.cli.output import console, note, print_json, status
from lgir.errors import BackendError, LiftError
from lgir.registry import BACKENDS
from lgir.zoo import build_net, other_widths, swept_widths

if TYPE_CHECKING:
    from lgir.benchmarking.roofline_report import RooflineReport
    from lgir.benchmarking.scaling import SweepSubject
    from lgir.benchmarking.scaling_report import SweepReport
    from lgir.benchmarking.throughput_report import BenchReport
    from lgir.ir.graph import Graph


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
@passes_option("Optimize first; 'none' takes the model as it is.", "default")
@backend_options
@click.option("--samples", type=click.IntRange(min=1), help="Samples per run. [default: 100,000]")
@click.option("--batch", type=click.IntRange(min=1), help="Samples per call. [default: all]")
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
@click.option("--no-torch", is_flag=True, help="Leave out the rows of PyTorch.")
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    type=click.Choice(BASELINES),
    default=("pytorch",),
    show_default=True,
    help="Compare with this, if it is installed (repeatable). torch-compile takes minutes.",
)
@click.option(
    "--sweep",
    type=click.Choice(["batch", "threads", "width"]),
    is_flag=False,
    flag_value="batch",
    help="Sizes of a batch from 1 up (if nothing else is said), numbers of threads, or widths of "
    "the network --net: an eighth to four times its own, as far as there is such a network.",
)
@click.option(
    "--roofline", is_flag=True, help="Show what bounds each kind of step on this machine."
)
@click.option(
    "--plot", type=OutputPath(), metavar="FILE", help="Draw the report: .png, .svg or .pdf."
)
@click.option(
    "--history",
    type=click.Path(),
    metavar="FILE.jsonl",
    help="Append the figures as a JSON line, with date and environment.",
)
@click.option(
    "--show",
    is_flag=True,
    help="Measure nothing: show the benches in the file of --history, or draw them (--plot).",
)
@json_option
@click.pass_context
def bench(
    ctx: click.Context,
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
    baselines: tuple[str, ...],
    sweep: str | None,
    roofline: bool,
    plot: str | None,
    history: str | None,
    show: bool,
    as_json: bool,
) -> None:
    """Measure backends side by side, after a check of equal outputs.

    Times are medians, end to end from a random array in memory to scores. Slow backends get fewer
    samples per run, and the table says how many. If torch is installed, the same network runs there
    too, in eval mode; --baseline adds torch.compile, and onnxruntime on the model that 'lgir export
    --format onnx' writes. Backends c-O1 and c-O3 work as other exporters do, with one C statement
    per gate: compiling takes minutes if gates are many.

    \b
    lgir bench --net dense-6x8000
    lgir bench model.pt --threads 2 --json > bench.json
    lgir bench model.pt -b llvm -b c-O1 -b c-O3 --history bench.jsonl
    lgir bench model.pt --sweep --plot bench.png
    lgir bench --net dense-6x8000 --sweep width
    lgir bench model.pt --roofline --plot roofline.png
    lgir bench model.pt --baseline pytorch --baseline onnxruntime
    lgir bench --history bench.jsonl --show --plot history.png
    """
    if show:
        _show_history(files, history, plot, as_json=as_json)
        return
    _refuse_unused_options(ctx, sweep, roofline)
    if sweep == "width" and source.net is None:
        raise click.UsageError("--sweep width builds networks: give --net NAME")
    if roofline and ctx.get_parameter_source("backends") is ParameterSource.DEFAULT:
        backends = ("llvm",)
    if roofline and len(backends) > 1:
        raise click.UsageError("--roofline measures one backend: give one -b")
    if plot is not None:
        from lgir.benchmarking.plots import check_plot, save_plot

        check_plot(plot)
    if history is not None:
        from lgir.benchmarking.history import append_history, check_history

        check_history(history)
    start = perf_counter()
    graph = source.open_one(files, "give a MODEL file or --net NAME")
    preparation = {"lift": perf_counter() - start}
    compile_options = options_for(backends, options)
    lifted = graph
    if passes != "none":
        start = perf_counter()
        graph, _ = optimize_graph(graph, passes)
        preparation["optimize"] = perf_counter() - start
    module = None if no_torch or roofline else _torch_module(lifted)
    shared: dict[str, Any] = {"repeats": repeats, "options": compile_options}
    size: dict[str, Any] = {} if batch is None else {"batch": batch}
    report: BenchReport | SweepReport | RooflineReport
    with status("measuring") as progress:
        if roofline:
            from lgir.benchmarking.roofline_report import measure_roofline

            (backend,) = backends
            report = measure_roofline(
                graph, backend, options=compile_options[backend], progress=progress
            )
        elif sweep is not None:
            from lgir.benchmarking import scaling

            shared |= {"progress": progress}
            if sweep == "batch":
                report = scaling.sweep_batches(
                    graph, backends, module=module, threads=threads, **shared
                )
            elif sweep == "threads":
                report = scaling.sweep_threads(graph, backends, module=module, **size, **shared)
            else:
                networks = _networks(source, passes, progress, torch=not no_torch)
                report = scaling.sweep_widths(
                    source.net or "", networks, backends, threads=threads, **size, **shared
                )
                report = replace(report, left_out=_widths_left_out(source.net or "", networks))
        else:
            report = lgir.bench(
                graph,
                backends,
                module=module,
                baselines=_installed(baselines, torch=not no_torch),
                samples=samples,
                batch=batch,
                threads=threads,
                preparation=preparation,
                progress=progress,
                **shared,
            )
    if as_json:
        print_json(report.to_dict())
    else:
        console().print(report)
    if plot is not None:
        save_plot(report, plot)
    if history is not None:
        append_history(history, report.to_dict())


def _show_history(
    files: tuple[str, ...], history: str | None, plot: str | None, *, as_json: bool
) -> None:
    """Print the figures of a history of benches, and draw them if `plot` is given."""
    from lgir.benchmarking.history import read_history

    if history is None or files:
        raise click.UsageError("--show takes --history FILE.jsonl, and no model")
    if plot is not None:
        from lgir.benchmarking.plots import check_plot, save_plot

        check_plot(plot)
    kept = read_history(history)
    if as_json:
        print_json(kept.to_dict())
    else:
        console().print(kept)
    if plot is not None:
        save_plot(kept, plot)


def _installed(baselines: tuple[str, ...], *, torch: bool) -> list[str]:
    """Return the baselines to compare with; print a note on those that are not installed."""
    from lgir.benchmarking.baselines import check_baselines

    installed = []
    for name in baselines:
        if name != "onnxruntime" and not torch:
            continue
        try:
            check_baselines([name])
            installed.append(name)
        except BackendError as error:
            if name != "pytorch":  # which has its own note
                note(f"no row for {name}: {error}")
    return installed


def _widths_left_out(net: str, networks: Mapping[int, SweepSubject]) -> str:
    """Return which of the swept widths there is no network of, "" if all were measured."""
    widths = swept_widths(net)
    missing = [f"{width:,}" for width in widths if width not in networks]
    return f"widths {', '.join(missing)} left out: there is no such network" if missing else ""


def _networks(
    source: ModelSource, passes: str, progress: Callable[[str], None], *, torch: bool
) -> dict[int, SweepSubject]:
    """Build the network that `--net` names in several widths, and optimize each."""
    from lgir.benchmarking.scaling import SweepSubject

    networks = {}
    for width, name in other_widths(source.net or "").items():
        progress(f"building and optimizing {name}")
        graph = build_net(name, source.seed)
        module = _torch_module(graph) if torch else None
        if passes != "none":
            graph, _ = lgir.optimize(graph, passes)
        networks[width] = SweepSubject(graph, module)
    return networks


def _refuse_unused_options(ctx: click.Context, sweep: str | None, roofline: bool) -> None:
    """Raise UsageError for options that would change nothing."""
    if sweep is not None and roofline:
        raise click.UsageError("give --sweep or --roofline, not both")
    unused = {
        None: set[str](),
        "batch": {"baselines", "samples", "batch"},
        "threads": {"baselines", "samples", "threads"},
        "width": {"baselines", "samples"},
    }[sweep]
    if roofline:
        unused = {"baselines", "samples", "batch", "threads", "repeats"}
    what = "--roofline" if roofline else "--sweep" if sweep == "batch" else f"--sweep {sweep}"
    for name in sorted(unused):
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(
                f"{what} takes no --{'baseline' if name == 'baselines' else name}"
            )


def _torch_module(graph: Graph) -> Any:
    """Return the lifted model as a torch module; print a note and return None if there is none."""
    try:
        from lgir.frontend.training.rebuild import rebuild
    except ImportError:
        note("no row for PyTorch, which is not installed")
        return None
    try:
        return rebuild(graph)
    except LiftError as error:
        note(f"no row for PyTorch: {error}")
        return None
