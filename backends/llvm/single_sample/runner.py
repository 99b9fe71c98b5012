"""Run the single-sample program of a graph in this process.

`SingleSampleRunner` compiles and links the program and calls it, one sample after another. Above
the batch size `crossover`, a block of 512 samples is estimated to be faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.call_arrays import sample_kind
from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.jit import CompiledFunctions
from lgir.backends.llvm.object_cache import ObjectCache
from lgir.backends.llvm.records import RecordArray, link_records
from lgir.backends.llvm.run_loop import RunLoop
from lgir.backends.llvm.single_sample.crossover import MAX_SAMPLES, crossover
from lgir.backends.llvm.single_sample.program import SingleSampleProgram
from lgir.backends.llvm.single_sample.sample_kernels import RUN_SAMPLES
from lgir.backends.llvm.target import Target
from lgir.ir.graph import Graph
from lgir.ir.types import Value
from lgir.samples import Array


class SingleSampleRunner:
    """Machine code in this process that evaluates `graph` one sample after another.

    It may be called from many threads at once.

    Attributes:
        program: the kernels and records that are run.
        crossover: the largest batch that is estimated to be faster than a block, 0 to MAX_SAMPLES.

    Raises BackendError if the network is too large for the program.
    """

    def __init__(self, graph: Graph, target: Target, cache: ObjectCache | None) -> None:
        self.program = SingleSampleProgram(graph, target)
        self.crossover = crossover(graph, self.program, python=True)
        modules = self.program.modules
        self._functions = CompiledFunctions(modules, target, cache)
        self._address = {name: self._functions.address(name) for name in modules}
        self._run = RunLoop(self._address[RUN_SAMPLES])
        self._linked: dict[tuple[str, ...], RecordArray] = {}
        self._idle: dict[tuple[str, ...], list[_CallBuffers]] = {}

    def __call__(self, samples: Sequence[Array], n: int) -> list[Array] | None:
        """Return the outputs of `n` <= MAX_SAMPLES samples, or None if a sample is malformed.

        A sample is malformed if a bit is neither 0 nor 1, or a float is NaN. Samples are bool,
        uint8 or float32 arrays that were checked, or rows of uint64 words.
        """
        kinds = tuple([sample_kind(a) for a in samples])
        idle = self._idle.setdefault(kinds, [])
        try:
            buffers = idle.pop()
        except IndexError:
            buffers = self._new_buffers(kinds)
        for buffer, array in zip(buffers.samples, samples, strict=True):
            buffer[:n] = array
        buffers.context[_ERROR] = 0
        self._run(*buffers.addresses, 0, n)
        malformed = buffers.context[_ERROR] != 0
        results = [buffer[:n].copy() for buffer in buffers.results]
        idle.append(buffers)
        return None if malformed else results

    def _new_buffers(self, kinds: tuple[str, ...]) -> _CallBuffers:
        if kinds not in self._linked:
            # Two threads may both link. Buffers hold the address of records, not the records, so
            # all must have the address of those that stay in the dictionary.
            records = link_records(self.program.sequence(kinds), self._address)
            self._linked.setdefault(kinds, records)
        return _CallBuffers(self.program, kinds, self._linked[kinds])


_ERROR: Final = int(ContextWord.ERROR)


class _CallBuffers:
    """The memory of a call in progress: samples, results, context and workspace.

    Buffers are reused from call to call, since asking numpy for an address takes a microsecond.

    Attributes:
        samples: an array of MAX_SAMPLES samples per graph input.
        results: an array of MAX_SAMPLES results per graph output.
        context: (words,) int64, the context of the call.
        addresses: the run loop's arguments but for the range of samples.
    """

    def __init__(
        self, program: SingleSampleProgram, kinds: tuple[str, ...], records: RecordArray
    ) -> None:
        graph = program.graph
        self.samples = [
            _sample_buffer(value, kind) for value, kind in zip(graph.inputs, kinds, strict=True)
        ]
        outputs = [graph.values[name] for name in graph.outputs]
        self.results: list[Array] = [
            np.zeros((MAX_SAMPLES, *value.shape), np.bool_ if value.dtype == "bit" else np.float32)
            for value in outputs
        ]
        self.context = np.zeros(program.context_words, np.int64)
        slots = [x for a in self.samples for x in (a.ctypes.data, a.strides[0])]
        self.context[ContextWord.FIRST_SLOT :] = slots + [a.ctypes.data for a in self.results]
        self._workspace: npt.NDArray[np.uint8] = np.zeros(program.workspace, np.uint8)
        self._workspace[slice(*program.ones)] = 0xFF
        self.addresses = (
            records.ctypes.data,
            len(records),
            self.context.ctypes.data,
            self._workspace.ctypes.data,
        )


def _sample_buffer(value: Value, kind: str) -> Array:
    """Return an array for MAX_SAMPLES samples of a graph input."""
    if kind == "bits":
        return np.zeros((MAX_SAMPLES, -(-value.size // 64)), np.uint64)
    return np.zeros((MAX_SAMPLES, *value.shape), np.float32 if kind == "f32" else np.uint8)
