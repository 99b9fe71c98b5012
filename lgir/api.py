"""The verbs of the Python API: lift, optimize, compile, export, verify, bench.

This is the compile driver. It knows passes, backends and frontends only through their packages'
registries, and loads each on first use, so that `import lgir` stays cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lgir.errors import GraphError, ParseError
from lgir.executable import Executable
from lgir.ir.graph import Graph
from lgir.registry import BACKENDS

if TYPE_CHECKING:
    from lgir.benchmarking.throughput import BenchReport
    from lgir.equivalence.verdict import Verdict
    from lgir.passes.report import Report


def lift(model: Any | str | Path, **options: Any) -> Graph:
    """Turn a trained model into a graph.

    Args:
        model: a torch module, a loaded state_dict, or the path of a checkpoint file.
        options: what the file or module does not say by itself; each frontend documents its own.

    Raises:
        LiftError, FormatError: the model is not understood, or lacks what lifting needs.
    """
    from lgir.frontend import lift_model

    return lift_model(model, **options)


def optimize(
    graph: Graph, passes: str = "default", verify: str | None = "sim", **options: Any
) -> tuple[Graph, Report]:
    """Run a pipeline of passes; returns the new graph and a report with a row per pass.

    Args:
        graph: not changed.
        passes: a pipeline such as "fold,cse,dce", or a named one such as "default".
        verify: "sim" compares the outputs before and after each pass by random simulation, "sat"
            proves each pass (python-sat installed), "exhaustive" tries every sample of few inputs,
            None trusts the passes.

    Raises:
        PassError: a pass failed, broke the IR or changed an output. UnknownNameError, ParseError:
        the pipeline string is wrong.
    """
    from lgir.passes.pipeline import Pipeline

    _check_graph(graph)
    if not isinstance(passes, str):
        raise ParseError(f"passes are one string, such as 'fold,cse,dce', not {passes!r}")
    return Pipeline.parse(passes).run(graph, verify=verify, **options)


def compile(graph: Graph, backend: str = "llvm", **options: Any) -> Executable:
    """Lower `graph` with a backend: "llvm", "reference", "cuda" or a plugged-in one.

    Keyword options go to the backend. Raises UnknownNameError for a backend that is not
    registered and BackendError where it cannot work on this machine.
    """
    _check_graph(graph)
    executable: Executable = BACKENDS.get(backend)(graph, **options)
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
        path: the file to write.
        format: "so", "a" or "o" (compiled ahead of time), "c", "cuda", "blif", "aig", "v" or a
            plugged-in one; the ending of `path` where None.
        header: where to write the C header, for formats that have one.
        options: what the exporter takes, such as `prefix`, what the functions' names begin with.

    Raises:
        UnknownNameError: another format. BackendError: it cannot express the graph, does not take
        an option, or lacks what it needs on this machine.
    """
    from lgir.formats.exporter import format_of, make_export

    _check_graph(graph)
    made = make_export(graph, format_of(path) if format is None else format, options)
    made.write(path, header)


def verify(a: Graph, b: Graph, method: str = "sim", **options: Any) -> Verdict:
    """Whether two graphs compute the same outputs, with a counterexample where they do not.

    `method` is "sim" (random samples), "exhaustive" (every sample, of few inputs) or "sat" (a proof
    by SAT sweeping, with python-sat); see `lgir.equivalence.verification.verify_graphs` for the
    options.
    """
    from lgir.equivalence.verification import verify_graphs

    _check_graph(a)
    _check_graph(b)
    return verify_graphs(a, b, method=method, **options)


def bench(
    graph: Graph, backends: Sequence[str] = ("llvm", "reference"), **options: Any
) -> BenchReport:
    """Figures of several backends side by side, after a check that their outputs are equal."""
    from lgir.benchmarking.throughput import bench_graph

    _check_graph(graph)
    return bench_graph(graph, backends=backends, **options)


def _check_graph(given: Any) -> None:
    """GraphError for what is none, mostly a path or a module."""
    if not isinstance(given, Graph):
        raise GraphError(
            f"{given!r:.80} is no graph; lgir.load reads one from a file, and lgir.lift makes one "
            "of a checkpoint or module"
        )
