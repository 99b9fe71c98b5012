"""The verbs of the Python API: lift, optimize, compile, export, verify, bench.

This is the compile driver. It knows passes, backends, exporters and frontends only through their
registries, and imports each on first use, so that `import lgir` stays cheap. An option that no
callee takes is an error that suggests the option that was meant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, TextIO

from lgir.errors import GraphError, ParseError
from lgir.executable import Executable
from lgir.ir.graph import Graph
from lgir.options import check_options, keyword_options
from lgir.registry import BACKENDS

if TYPE_CHECKING:
    import numpy.typing as npt

    from lgir.benchmarking.throughput_report import BenchReport
    from lgir.equivalence.verdict import Verdict
    from lgir.passes.pipeline import Instrumentation, PassEvent
    from lgir.passes.report import Report
    from lgir.samples import Array


def lift(
    model: Any | str | Path,
    *,
    framework: str | None = None,
    thresholds: npt.ArrayLike | None = None,
    threshold_dtype: str = "u8",
    check: bool = True,
    allow_pickle: bool = False,
    **options: Any,
) -> Graph:
    """Turn a trained model into a graph.

    Args:
        model: a torch module, a loaded state_dict, or the path of a .pt, .pth, .ckpt or
            .safetensors file. Reading a file never runs code from it.
        framework: the name of the frontend; None finds it from the model.
        thresholds: numbers t of shape (L,), or (C, L) with one row per channel, for a model that
            was trained on bits `x > t`: the graph then takes the numbers and computes the bits.
        threshold_dtype: dtype of these numbers, "u8" or "f32".
        check: whether to run a live module in eval mode on random samples and to compare every
            score, since its forward may do more than its layers show.
        allow_pickle: whether to load pickled modules as well, which runs code that the file
            chooses.
        options: what the model does not say by itself; `lgir frontends` lists the options of each
            frontend.

    Raises:
        FormatError: the file cannot be read.
        LiftError: the model is not understood, lacks what lifting needs, or computes something
            else than its layers in order; or the frontend has no such option.
        UnknownNameError: no frontend has the name `framework`.
    """
    from lgir.frontend import lift_model

    return lift_model(
        model,
        framework=framework,
        thresholds=thresholds,
        threshold_dtype=threshold_dtype,
        check=check,
        allow_pickle=allow_pickle,
        **options,
    )


def optimize(
    graph: Graph,
    passes: str = "default",
    verify: str | None = "sim",
    *,
    on_pass: Callable[[PassEvent], None] | None = None,
    dump_after: str | Collection[str] = (),
    dump_to: TextIO | None = None,
    dump_dir: str | PathLike[str] | None = None,
    instrumentation: Sequence[Instrumentation] = (),
    stop_after: str | None = None,
    samples: int | None = None,
    seed: int = 0,
    **unknown: Never,
) -> tuple[Graph, Report]:
    """Run a pipeline of passes; return the new graph and a report with one row per pass.

    Args:
        graph: the graph to optimize. It is not changed.
        passes: a pipeline such as "fold,cse,dce", or the name of one such as "default".
        verify: how outputs before and after each pass are compared: "sim" by random simulation,
            "sat" by proof (needs python-sat), "exhaustive" on every sample if inputs are few. None
            trusts the passes.
        on_pass: called after each pass, once it has been verified, with a `PassEvent`: its `number`
            from 1, `name`, the graphs `before` and `after`, whether it `changed` anything, its
            `seconds` and `verify_seconds`, and the `verdict` of its check. An exception that it
            raises ends the pipeline.
        dump_after: names of passes after which the text IR is written, or "all".
        dump_to: stream of these dumps; None is standard error.
        dump_dir: a folder that gets a file of text IR per pass that changes the graph, numbered as
            the passes are: `000-input.lgir`, `001-merge.lgir`. `lgir.parse` reads them.
        instrumentation: objects that are told of every pass before and after it; see
            `lgir.passes.pipeline.instrumentation`, which has some that print graphs and changes.
        stop_after: name of a pass; the pipeline ends after its first run.
        samples: number of simulated samples; None chooses by the size of the graph.
        seed: seed of the simulated samples.

    Raises:
        PassError: a pass failed, broke the IR or changed an output.
        FormatError: `dump_dir` cannot be written to.
        ParseError, UnknownNameError: the pipeline string is wrong, or an option is unknown.
    """
    from lgir.passes.pipeline import Pipeline

    check_options("lgir.optimize", unknown, keyword_options(optimize))
    _check_graph(graph)
    if not isinstance(passes, str):
        raise ParseError(f"passes are one string, such as 'fold,cse,dce', not {passes!r}")
    return Pipeline.parse(passes).run(
        graph,
        verify=verify,
        on_pass=on_pass,
        dump_after=dump_after,
        dump_to=dump_to,
        dump_dir=dump_dir,
        instrumentation=instrumentation,
        stop_after=stop_after,
        samples=samples,
        seed=seed,
    )


def compile(graph: Graph, backend: str = "llvm", **options: Any) -> Executable:
    """Lower `graph` with a backend: "llvm", "reference", "c", "cuda" or a plugged-in one.

    Args:
        graph: the graph to compile.
        backend: the registered name of the backend; `lgir backends` lists them.
        options: keyword options of the backend, for example `threads=` or `target=` of "llvm".

    Raises:
        UnknownNameError: no backend has this name, or it has no such option.
        BackendError: the backend cannot work on this machine or express the graph.
    """
    _check_graph(graph)
    lower = BACKENDS.get(backend)
    check_options(f"backend {backend!r}", options, keyword_options(lower))
    executable: Executable = lower(graph, **options)
    return executable


def export(
    graph: Graph,
    path: str | Path,
    format: str | None = None,
    *,
    header: str | Path | None = None,
    **options: Any,
) -> None:
    """Write `graph` as code that runs without Python, or as a netlist for other tools.

    Args:
        graph: the graph to export.
        path: the file to write.
        format: "so", "a", "o", "dylib" or "dll" (compiled ahead of time), "c", "cuda", "blif",
            "aig", "v" or a plugged-in format; None takes the ending of `path`.
        header: where to write the C header, for formats that have one.
        options: keyword options of the exporter, for example `prefix=`, the beginning of the names
            of its functions.

    Raises:
        UnknownNameError: no format has this name, or it has no such option.
        BackendError: the format cannot express the graph, or lacks what it needs on this machine.
    """
    from lgir.formats.exporter import format_of, make_export

    _check_graph(graph)
    exported = make_export(graph, format_of(path) if format is None else format, options)
    exported.write(path, header)


def verify(
    a: Graph | Any,
    b: Graph | Any,
    method: str = "sim",
    *,
    samples: int | None = None,
    seed: int = 0,
    seconds: float = 120.0,
    progress: Callable[[str], None] = lambda step: None,
    **unknown: Never,
) -> Verdict:
    """Check whether two graphs compute the same outputs; show a counterexample if they do not.

    Args:
        a: one graph.
        b: the other graph, with inputs and outputs of the same types. One of the two may be a torch
            module, a callable on tensors, an ExportedProgram or an ONNX model instead: its eval
            mode is run on the samples, or traced if `method` is not "sim".
        method: "sim" (random samples, which can only refute), "exhaustive" (every sample, if inputs
            are few) or "sat" (a proof by SAT sweeping; needs python-sat).
        samples: number of random samples; None chooses by the size of the graphs.
        seed: seed of the random samples.
        seconds: time limit of a proof; past it the verdict is unknown.
        progress: called with a description of each step before it begins.

    Raises:
        GraphError: the graphs differ in inputs or outputs.
        LiftError: a module cannot be traced.
        UnknownNameError: the method or an option is unknown.
    """
    from lgir.equivalence.verification import verify_graphs

    check_options("lgir.verify", unknown, keyword_options(verify))
    graph, model = (a, b) if isinstance(a, Graph) else (b, a)
    if isinstance(graph, Graph) and _is_model(model):
        from lgir.frontend.trace.verification import verify_module

        return verify_module(graph, model, method, samples=samples, seed=seed, seconds=seconds)
    _check_graph(a)
    _check_graph(b)
    return verify_graphs(
        a, b, method=method, samples=samples, seed=seed, seconds=seconds, progress=progress
    )


def bench(
    graph: Graph,
    backends: Sequence[str] = ("llvm", "reference"),
    *,
    module: Any = None,
    baselines: Sequence[str] = ("pytorch",),
    samples: int | Sequence[Array] | None = None,
    batch: int | None = None,
    threads: int = 1,
    repeats: int = 5,
    run_seconds: float = 0.5,
    check: int = 1000,
    seed: int = 0,
    preparation: Mapping[str, float] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[str], None] = lambda step: None,
    **unknown: Never,
) -> BenchReport:
    """Measure several backends side by side, after a check that their outputs are equal.

    The arguments are those of `lgir.benchmarking.throughput.bench_graph`.

    Raises:
        BackendError: outputs of a backend differ from those of the reference.
        UnknownNameError: a backend or an option is unknown.
        InputError: `samples` does not fit the graph.
    """
    from lgir.benchmarking.throughput import bench_graph

    check_options("lgir.bench", unknown, keyword_options(bench))
    _check_graph(graph)
    return bench_graph(
        graph,
        backends,
        module=module,
        baselines=baselines,
        samples=samples,
        batch=batch,
        threads=threads,
        repeats=repeats,
        run_seconds=run_seconds,
        check=check,
        seed=seed,
        preparation=preparation,
        options=options,
        progress=progress,
    )


def _is_model(candidate: Any) -> bool:
    """Tell whether `given` is something to run or trace, and no graph or path."""
    return not isinstance(candidate, Graph) and (callable(candidate) or hasattr(candidate, "graph"))


def _check_graph(graph: Any) -> None:
    """Raise GraphError if `graph` is not one; mostly it is then a path or a module."""
    if not isinstance(graph, Graph):
        raise GraphError(
            f"{graph!r:.80} is no graph; lgir.load reads one from a file, and lgir.lift makes one "
            "of a checkpoint or module"
        )
