"""The LLVM backend: bit-packed inference on the CPU, 512 samples to a block.

`lgir.backends.lowering.plan` turns the graph into steps over planes, `kernels` writes one LLVM
function a template, `program` fills row tables, `jit` compiles, and the executable splits batches
by thread.
"""

from __future__ import annotations

import itertools
import math
import os
import secrets
import statistics
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NoReturn
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.avx512.executable_memory import ExecutableMemory
from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.costs import kind_of, step_costs
from lgir.backends.llvm.jit import CompiledFunctions, assembly
from lgir.backends.llvm.llvm_text import BLOCK, PLANE_BYTES
from lgir.backends.llvm.object_cache import ObjectCache, default_folder
from lgir.backends.llvm.probe import measure_machine
from lgir.backends.llvm.program import LOWERING_OPTIONS, Program
from lgir.backends.llvm.records import RecordArray, StepRecord, link_records
from lgir.backends.llvm.run_loop import RunLoop
from lgir.backends.llvm.single_sample.crossover import MAX_SAMPLES
from lgir.backends.llvm.single_sample.runner import SingleSampleRunner, sample_kind
from lgir.backends.llvm.target import resolve_target
from lgir.backends.lowering.plan import make_plan
from lgir.errors import BackendError, InputError
from lgir.executable import Executable
from lgir.ir.graph import Graph
from lgir.ir.simulate import group_scores
from lgir.registry import register_backend
from lgir.roofline import Machine, StepCost
from lgir.samples import Array, check_bits, check_floats


@dataclass(frozen=True)
class Options:
    """What `compile_llvm` takes; see there."""

    target: str = "native"
    features: str = ""
    threads: int | None = None
    cache: bool = True
    cache_dir: str | Path | None = None
    latency: bool | None = None

    def object_cache(self) -> ObjectCache | None:
        folder = default_folder() if self.cache_dir is None else Path(self.cache_dir)
        return ObjectCache(folder) if self.cache and folder is not None else None


class LlvmExecutable(Executable):
    """Machine code in this process. One executable may be called from many threads at once.

    It pickles as its graph and options, and is compiled where it is loaded, for the CPU there if
    the target is "native". A process that has it already does not compile it again.

    Attributes:
        compiled_kernels: how many of the kernels that it began with the cache did not have.
    """

    backend = "llvm"
    takes_packed = True

    def __init__(self, graph: Graph, options: Options) -> None:
        super().__init__(graph)
        target = resolve_target(options.target, options.features)
        self.options = options
        self.target = target
        self.threads = _cores() if options.threads is None else _checked(options.threads)
        self.plan = make_plan(graph, LOWERING_OPTIONS)
        own_code = target.ternary and os.name == "posix"
        self._program = Program(self.plan, ternary=target.ternary, own_code=own_code)
        code = self._program.code
        self._code = ExecutableMemory(code) if len(code) else None
        self._functions: list[CompiledFunctions] = []
        self._address: dict[str, int] = {}
        self._linked: dict[tuple[str, ...], RecordArray] = {}
        # What most calls need; the rest is compiled when a call first asks for it.
        self._records(tuple("f32" if v.dtype == "f32" else "u8" for v in graph.inputs), "scores")
        self.compiled_kernels = sum(len(f.compiled) for f in self._functions)
        self._run_address = RunLoop(self._address["lgir_run"])
        self._idle: list[npt.NDArray[np.uint8]] = []
        self._latency: SingleSampleRunner | None = None
        self._few = 0 if options.latency is False else MAX_SAMPLES
        if options.latency:
            self._prepare_latency()
        self._identity = secrets.token_hex(16)
        _alive[self._identity] = self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _restore, (self._identity, self.graph, self.options)

    @property
    def asm(self) -> dict[str, str]:
        """Texts of the stages: "llvm" as generated, "asm", the machine's, and "code", in
        hexadecimal digits, of trees that have their own.
        """
        text, code = self._program.text, self._program.code
        return {"llvm": text, "asm": assembly(text, self.target), "code": code.tobytes().hex()}

    def _run(self, samples: list[Array], n: int, threads: int | None) -> list[Array]:
        threads = self._threads(threads)
        if 0 < n <= self._few:
            if self._latency is None:
                self._prepare_latency()
            if self._latency is not None and n <= self._few:
                return self._latency(samples, n) or self._explain(samples)
        results = [self._result(i, n) for i in range(len(self.graph.outputs))]
        self._run_blocks(samples, results, n, threads, "scores")
        return [self._finish(i, r, n) for i, r in enumerate(results)]

    def _labels(self, samples: list[Array], n: int, threads: int | None) -> Array:
        if n <= self._few or not self._ordered:
            return super()._labels(samples, n, threads)
        labels = np.empty(n, np.int64)
        self._run_blocks(samples, [labels], n, self._threads(threads), "labels")
        return labels

    @cached_property
    def _ordered(self) -> bool:
        """Whether scores of the first output are in the order of its counts."""
        found = self._first_sum()
        if found is None:
            return False
        op, bits = found
        scores = group_scores(np.arange(bits + 1), op)
        return bool((scores[1:] > scores[:-1]).all())  # infinite ones have no difference

    def _counts(self, samples: list[Array], n: int, threads: int | None) -> Array:
        counts = np.empty((n, *self.graph.values[self.graph.outputs[0]].shape), np.int32)
        self._run_blocks(samples, [counts], n, self._threads(threads), "counts")
        return counts

    def _threads(self, threads: int | None) -> int:
        return self.threads if threads is None else _checked(threads)

    def _run_blocks(
        self, samples: list[Array], results: list[Array], n: int, threads: int, result: str
    ) -> None:
        """Fills `results`, of `Program.sequence`'s `result`."""
        arrays = [_rows(a) for a in samples]
        records = self._records(tuple(map(sample_kind, arrays)), result)
        blocks = -(-n // BLOCK)
        parts = min(threads, blocks)
        edges = [blocks * i // parts * BLOCK for i in range(parts + 1)] if parts else []
        ranges = list(itertools.pairwise(edges))
        if len(ranges) == 1:
            flags = [self._run_range(records, arrays, results, n, *ranges[0])]
        elif ranges:
            with ThreadPoolExecutor(len(ranges)) as pool:
                jobs = [
                    pool.submit(self._run_range, records, arrays, results, n, *r) for r in ranges
                ]
                flags = [job.result() for job in jobs]
        else:
            flags = []
        if any(flags):
            self._explain(samples)

    @property
    def crossover(self) -> int:
        """The largest batch that is evaluated sample by sample, at once, and not as a block; where
        that is not known before the first such batch, the largest that it can be.
        """
        return self._few

    def _prepare_latency(self) -> None:
        """Threads may do this side by side; one's result is kept."""
        try:
            cache = self.options.object_cache()
            self._latency = SingleSampleRunner(self.graph, self.target, cache)
            self._few = self._latency.crossover
        except BackendError:  # too large for it
            self._few = 0

    def _records(self, kinds: tuple[str, ...], result: str) -> RecordArray:
        """The steps of a call for samples of these kinds; see `Program.sequence`."""
        key = (*kinds, result)
        if key not in self._linked:
            self._linked[key] = self._link(self._program.sequence(kinds, result=result))
        return self._linked[key]

    def _link(self, steps: list[StepRecord]) -> RecordArray:
        """Records of steps, whose kernels are compiled where they are new."""
        missing = [name for name in self._program.kernel_names if name not in self._address]
        if missing:
            modules = {name: self._program.module(name) for name in missing}
            functions = CompiledFunctions(modules, self.target, self.options.object_cache())
            self._functions.append(functions)  # which holds the code
            self._address |= {name: functions.address(name.strip('"')) for name in missing}
        return link_records(steps, self._address, self._code.address if self._code else 0)

    def _run_range(
        self,
        records: RecordArray,
        arrays: list[Array],
        results: list[Array],
        n: int,
        start: int,
        stop: int,
    ) -> int:
        """Blocks [start, stop) on this thread; returns the error flag. Releases the GIL."""
        context = self._context(arrays, results, n)
        planes = self._take_planes()
        self._run_address(
            records.ctypes.data, len(records), context.ctypes.data, _aligned(planes), start, stop
        )
        self._idle.append(planes)
        return int(context[ContextWord.ERROR])

    def _context(self, arrays: list[Array], results: list[Array], n: int) -> npt.NDArray[np.int64]:
        context = np.zeros(self._program.context_words, np.int64)
        context[ContextWord.SAMPLES] = n
        for i, array in enumerate(arrays):
            slot = self._program.input_slot(i)
            context[slot], context[slot + 1] = array.ctypes.data, array.strides[0]
        for i, result in enumerate(results):
            context[self._program.output_slot(i)] = result.ctypes.data
        return context

    def _take_planes(self) -> npt.NDArray[np.uint8]:
        """A workspace; halos are False from the start and stay so."""
        try:
            return self._idle.pop()
        except IndexError:
            size = self._program.workspace_bytes + PLANE_BYTES
            try:
                return np.zeros(size, np.uint8)
            except MemoryError:
                raise BackendError(f"no memory for {size:,} bytes of planes a thread") from None

    def _result(self, index: int, n: int) -> Array:
        value = self.graph.values[self.graph.outputs[index]]
        if value.dtype == "bit":
            return np.empty((-(-n // BLOCK), value.size, PLANE_BYTES), np.uint8)
        return np.empty((n, *value.shape), np.float32)

    def _finish(self, index: int, result: Array, n: int) -> Array:
        value = self.graph.values[self.graph.outputs[index]]
        if value.dtype != "bit":
            return result
        bits = np.unpackbits(result, axis=-1, bitorder="little")
        return bits.transpose(0, 2, 1).reshape(len(bits) * BLOCK, *value.shape)[:n].astype(bool)

    def _explain(self, samples: list[Array]) -> NoReturn:
        for value, array in zip(self.graph.inputs, samples, strict=True):
            if value.dtype == "bit" and sample_kind(array) != "bits":
                check_bits(value, array)
            elif value.dtype == "f32":
                check_floats(value, array)
        raise InputError("the samples changed while they were read")

    def time_gates(self, samples: int, repeats: int) -> float:
        """Seconds a sample that gates alone take on one thread, without packing and scores: the
        median of `repeats` runs over `samples`, whole blocks of 512.
        """
        blocks = max(1, samples // BLOCK)
        records = self._link(self._program.logic)
        context = np.zeros(self._program.context_words, np.int64)
        context[ContextWord.SAMPLES] = blocks * BLOCK
        self._times(records, context, 1, 1, time.perf_counter)  # pages and caches are warm
        times = self._times(records, context, blocks, repeats, time.perf_counter)
        return statistics.median(times) / (blocks * BLOCK)

    def time_steps(self, kind: str | None, samples: list[Array], repeats: int = 9) -> float:
        """CPU seconds that the steps of a kind, such as "pack" or "chain", or all steps take for
        512 samples on one thread: the median of `repeats` runs over `samples`, whole blocks.
        """
        arrays = [_rows(a) for a in samples]
        n = len(arrays[0]) // BLOCK * BLOCK
        kinds = tuple(map(sample_kind, arrays))
        steps = self._program.sequence(kinds, lambda s: kind is None or kind_of(s) == kind)
        results = [self._result(i, n) for i in range(len(self.graph.outputs))]
        context = self._context(arrays, results, n)
        records = self._link(steps)
        self._times(records, context, n // BLOCK, 1, time.thread_time)  # pages and caches are warm
        times = self._times(records, context, n // BLOCK, repeats, time.thread_time)
        return statistics.median(times) / (n // BLOCK)

    def step_costs(self, samples: list[Array]) -> list[StepCost]:
        """What each step does for a block of `samples`; see `lgir.roofline`."""
        own_code = self._program.own_code
        return step_costs(self.plan, samples, ternary=self.target.ternary, own_code=own_code)

    def measure_machine(self) -> Machine:
        """The roofs of this CPU as the executable's target uses it."""
        return measure_machine(self.target)

    def _times(
        self,
        records: npt.NDArray[np.int64],
        context: npt.NDArray[np.int64],
        blocks: int,
        repeats: int,
        clock: Callable[[], float],
    ) -> list[float]:
        """Seconds of each of `repeats` runs of records over blocks, by `clock`."""
        planes = self._take_planes()
        times = []
        for _ in range(repeats):
            began = clock()
            self._run_address(
                records.ctypes.data,
                len(records),
                context.ctypes.data,
                _aligned(planes),
                0,
                blocks * BLOCK,
            )
            times.append(clock() - began)
        self._idle.append(planes)
        return times


_alive: Final[WeakValueDictionary[str, LlvmExecutable]] = WeakValueDictionary()
_restored: Final[deque[LlvmExecutable]] = deque(maxlen=4)
"""Kept alive, since a worker process is sent its executable anew with every task."""


def _restore(identity: str, graph: Graph, options: Options) -> LlvmExecutable:
    """The executable of that identity, compiled where this process, or the one that it was forked
    from, does not have it.
    """
    exe = _alive.get(identity)
    if exe is None:
        exe = LlvmExecutable(graph, options)
        exe._identity = identity
        _alive[identity] = exe
        _restored.append(exe)
    return exe


def _cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _checked(threads: int) -> int:
    if threads < 1:
        raise InputError(f"threads={threads} must be at least 1")
    return threads


def _rows(array: Array) -> Array:
    """(n, features), features adjacent; bool as bytes."""
    adjacent = np.ascontiguousarray(array) if _scattered(array) else array
    flat = adjacent.reshape(len(array), math.prod(array.shape[1:]))
    return flat.view(np.uint8) if flat.dtype == np.bool_ else flat


def _scattered(array: Array) -> bool:
    """Whether samples are not each contiguous."""
    expected = array.itemsize
    for size, stride in zip(array.shape[:0:-1], array.strides[:0:-1], strict=True):
        if size > 1 and stride != expected:
            return True
        expected *= size
    return False


def _aligned(planes: npt.NDArray[np.uint8]) -> int:
    return -(-int(planes.ctypes.data) // PLANE_BYTES) * PLANE_BYTES


@register_backend("llvm")
def compile_llvm(
    graph: Graph,
    *,
    target: str = "native",
    features: str = "",
    threads: int | None = None,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    latency: bool | None = None,
) -> LlvmExecutable:
    """Vectorised machine code for this CPU.

    Args:
        target: "native", "avx512", "avx2" or "generic" x86-64.
        features: LLVM feature flags to add, such as "-avx512f".
        threads: default number of threads per call; all available cores where None.
        cache: keep object code on disk for the next process.
        cache_dir: where, instead of the user's cache folder.
        latency: whether a call with few samples, up to a dozen or so, evaluates one after another,
            faster than a block; code for that is compiled now where True, with the first such call
            where None, and never where False.
    """
    return LlvmExecutable(graph, Options(target, features, threads, cache, cache_dir, latency))


__all__: list[Any] = ["LlvmExecutable", "compile_llvm"]
