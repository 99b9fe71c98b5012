"""What lgir is compared with: the torch module in eval mode, torch.compile, and onnxruntime.

A baseline runs the same network on the same samples and is checked like a backend. Calls have
`BATCH` samples each unless the caller says otherwise, since larger ones do not make them faster.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import numpy as np

from lgir.benchmarking.measuring import torch_eval
from lgir.benchmarking.throughput_report import BASELINES, MODULE, ONNXRUNTIME
from lgir.errors import BackendError, unknown_name
from lgir.ir.graph import Graph
from lgir.registry import EXPORTERS
from lgir.samples import Array

BATCH: Final = 256  # the fastest for PyTorch on these networks, of 64 to 4,096


@dataclass(frozen=True)
class Baseline:
    """A baseline that is ready to be measured.

    Attributes:
        call: takes one array or tensor per graph input, and returns the scores.
        inputs: the samples as `call` takes them.
        compile_seconds: seconds of its preparation; None if nothing is compiled.
    """

    call: Callable[..., Any]
    inputs: Sequence[Any]
    compile_seconds: float | None = None


def check_baselines(names: Sequence[str]) -> None:
    """Raise UnknownNameError for a name that is no baseline's, BackendError if it is not installed.

    Call it before minutes of measuring.
    """
    for name in names:
        if name not in BASELINES:
            raise unknown_name("baseline", name, BASELINES)
        package = "onnxruntime" if name == ONNXRUNTIME else "torch"
        if importlib.util.find_spec(package) is None:
            raise BackendError(f"baseline {name!r} needs {package}: pip install {package}")


@contextmanager
def open_baseline(
    name: str, graph: Graph, module: Any, samples: Sequence[Array], threads: int
) -> Iterator[Baseline]:
    """Yield a baseline on `samples`, one array (N, *shape) per graph input.

    Args:
        name: one of BASELINES.
        graph: the graph, of which onnxruntime gets the standard operators.
        module: a torch module of the same network, which the others run.
        samples: the samples.
        threads: number of threads.
    """
    if name == ONNXRUNTIME:
        yield _onnx_session(graph, samples, threads)
        return
    with torch_eval(module, threads) as tensor:
        tensors = [tensor(v, a) for v, a in zip(graph.inputs, samples, strict=True)]
        if name == MODULE:
            yield Baseline(module, tensors)
        else:
            yield _compiled_module(module, tensors)


def _compiled_module(module: Any, tensors: Sequence[Any]) -> Baseline:
    import torch

    compiled = torch.compile(module)
    start = perf_counter()
    try:
        compiled(*(x[:BATCH] for x in tensors))  # The first call compiles.
    except Exception as error:  # Inductor fails in many ways, such as without a C++ compiler.
        reason = str(error).strip().partition("\n")[0]
        raise BackendError(f"torch.compile fails on this module: {reason}") from error
    return Baseline(compiled, tensors, perf_counter() - start)


def _onnx_session(graph: Graph, samples: Sequence[Array], threads: int) -> Baseline:
    import onnxruntime

    start = perf_counter()
    data = EXPORTERS.get("onnx")(graph).data
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    seconds = perf_counter() - start
    names = [value.name for value in session.get_inputs()]

    def call(*arrays: Array) -> Any:
        results = session.run(None, dict(zip(names, arrays, strict=True)))
        return results[0] if len(results) == 1 else tuple(results)

    inputs = [np.ascontiguousarray(array) for array in samples]
    return Baseline(call, inputs, seconds)
