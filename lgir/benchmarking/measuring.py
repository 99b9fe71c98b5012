"""What all benchmarks measure alike: cold compilation, gate evaluations, calls of torch modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from time import perf_counter
from typing import Any

import numpy as np

from lgir.executable import Executable
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.ir.types import Value
from lgir.registry import BACKENDS
from lgir.samples import Array


def gate_evaluations(graph: Graph) -> int:
    """Return the gates evaluated per sample: the gates of each body times its positions."""
    return sum(op.body.num_gates * op.positions for _, op in graph.of_type(Logic))


def compile_cold(name: str, graph: Graph, options: Mapping[str, Any]) -> tuple[Executable, float]:
    """Compile `graph` with backend `name`; return the executable and the seconds it took.

    Object code found on disk would make the time depend on what ran before, so no cache is used
    unless `options` ask for one.
    """
    lower = BACKENDS.get(name)
    cold = {"cache": False} if "cache" in signature(lower).parameters else {}
    start = perf_counter()
    exe = lower(graph, **{**cold, **options})
    return exe, perf_counter() - start


@contextmanager
def torch_eval(module: Any, threads: int) -> Iterator[Callable[[Value, Array], Any]]:
    """Set eval mode and `threads` threads without gradients; yield the conversion to a tensor."""
    import torch

    before, training = torch.get_num_threads(), module.training

    def tensor(value: Value, array: Array) -> Any:
        array = array.astype(np.float32) if value.dtype == "bit" else array.copy()
        return torch.from_numpy(array)

    torch.set_num_threads(threads)
    module.eval()
    try:
        with torch.inference_mode():
            yield tensor
    finally:
        module.train(training)
        torch.set_num_threads(before)
