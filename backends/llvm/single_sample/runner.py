"""Run the single-sample program of a graph in this process.

`SingleSampleRunner` compiles and links the program and calls it, one sample after another. Above
the batch size `crossover`, a block of 512 samples is estimated to be faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.jit import CompiledFunctions
from lgir.backends.llvm.object_cache import ObjectCache
from lgir.backends.llvm.records import RecordArray, link_records
from lgir.backends.llvm.run_loop import RunLoop
from lgir.backends.llvm.single_sample.crossover import MAX_SAMPLES, crossover
from lgir.backends.llvm.single_sample.program import RUN_SAMPLES, SingleSampleProgram
from lgir.backends.llvm.target import Target
from lgir.executable import Array
from lgir.ir.graph import Graph
from lgir.ir.types import Value


class SingleSampleRunner:
    """Machine code that evaluates `graph` sample by sample; safe to call from many threads.

    Attributes:
        plan: what it runs.
        crossover: the largest batch that it evaluates faster than the block path, 0 to MAX_SAMPLES.

    Raises BackendError where the network is too large.
    """

    def __init__(self, graph: Graph, target: Target, cache: ObjectCache | None) -> None:
        self.plan = SingleSampleProgram(graph, target)
        self.crossover = crossover(graph, self.plan, python=True)
        self._functions = CompiledFunctions(self.plan.modules, target, cache)
        self._address = {name: self._functions.address(name) for name in self.plan.modules}
        self._run = RunLoop(self._address[RUN_SAMPLES])
        self._linked: dict[tuple[str, ...], RecordArray] = {}
        self._idle: dict[tuple[str, ...], list[_Call]] = {}

    def __call__(self, samples: Sequence[Array], n: int) -> list[Array] | None:
        """Return the outputs of `n` <= MAX_SAMPLES samples, or None if a sample is malformed.

        A sample is malformed if a bit is neither 0 nor 1, or a float is NaN. Samples are bool,
        uint8 or float32 arrays that were checked, or rows of uint64 words.
        """
        kinds = tuple([sample_kind(a) for a in samples])
        idle = self._idle.setdefault(kinds, [])
        try:
            call = idle.pop()
        except IndexError:
            call = self._call(kinds)
        for room, array in zip(call.samples, samples, strict=True):
            room[:n] = array
        call.context[_ERROR] = 0
        self._run(*call.addresses, 0, n)
        sound = not call.context[_ERROR]
        results = [room[:n].copy() for room in call.results]
        idle.append(call)
        return results if sound else None

    def _call(self, kinds: tuple[str, ...]) -> _Call:
        if kinds not in self._linked:
            # Threads may do this side by side, and a call keeps no more than the records' address.
            self._linked.setdefault(kinds, link_records(self.plan.sequence(kinds), self._address))
        return _Call(self.plan, kinds, self._linked[kinds])


_ERROR: Final = int(ContextWord.ERROR)


class _Call:
    """What a call in progress writes to: room for samples and results, and a workspace. That all is
    in one place from call to call spares asking numpy for addresses, a microsecond each.
    """

    def __init__(
        self, plan: SingleSampleProgram, kinds: tuple[str, ...], records: RecordArray
    ) -> None:
        graph = plan.graph
        self.samples = [_room(v, k) for v, k in zip(graph.inputs, kinds, strict=True)]
        outputs = [graph.values[name] for name in graph.outputs]
        self.results: list[Array] = [
            np.zeros((MAX_SAMPLES, *value.shape), np.bool_ if value.dtype == "bit" else np.float32)
            for value in outputs
        ]
        self.context = np.zeros(plan.context_words, np.int64)
        slots = [x for a in self.samples for x in (a.ctypes.data, a.strides[0])]
        self.context[ContextWord.FIRST_SLOT :] = slots + [a.ctypes.data for a in self.results]
        self._workspace: npt.NDArray[np.uint8] = np.zeros(plan.workspace, np.uint8)
        self._workspace[slice(*plan.ones)] = 0xFF
        self.addresses = (
            records.ctypes.data,
            len(records),
            self.context.ctypes.data,
            self._workspace.ctypes.data,
        )


def sample_kind(array: Array) -> str:
    """Of checked samples, as `lgir.backends.llvm.program.Program` names kinds."""
    if array.dtype == np.float32:
        return "f32"
    return "bits" if array.dtype == np.uint64 else "u8"


def _room(value: Value, kind: str) -> Array:
    """For samples of an input."""
    if kind == "bits":
        return np.zeros((MAX_SAMPLES, -(-value.size // 64)), np.uint64)
    return np.zeros((MAX_SAMPLES, *value.shape), np.float32 if kind == "f32" else np.uint8)
