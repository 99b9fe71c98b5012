"""The executable of the LLVM backend: machine code in this process.

A batch is evaluated in blocks of 512 samples, split between threads, or, if it is small, sample by
sample.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np

from lgir.backends.llvm.block_program import BlockProgram
from lgir.backends.llvm.block_runner import BlockRunner
from lgir.backends.llvm.call_arrays import (
    empty_result,
    finished_result,
    sample_kind,
    sample_rows,
)
from lgir.backends.llvm.costs import step_costs
from lgir.backends.llvm.jit import assembly
from lgir.backends.llvm.linked_program import LinkedProgram
from lgir.backends.llvm.live_executables import LiveExecutables
from lgir.backends.llvm.llvm_text import BLOCK
from lgir.backends.llvm.options import LOWERING_OPTIONS, LlvmOptions
from lgir.backends.llvm.probe import measure_machine
from lgir.backends.llvm.single_sample.crossover import MAX_SAMPLES
from lgir.backends.llvm.step_timer import time_records
from lgir.backends.llvm.steps.step_kind import CallForm
from lgir.backends.llvm.target import resolve_target
from lgir.backends.lowering.plan import make_plan
from lgir.errors import BackendError, InputError
from lgir.executable import Executable
from lgir.ir.graph import Graph
from lgir.ir.scores import scores_ascend
from lgir.registry import register_backend
from lgir.roofline import Machine, StepCost
from lgir.samples import Array, refuse_samples

if TYPE_CHECKING:
    from lgir.backends.llvm.single_sample.runner import SingleSampleRunner


class LlvmExecutable(Executable):
    """Machine code in this process. One executable may be called from many threads at once.

    It pickles as its graph and options, and is compiled where it is loaded, for the CPU there if
    the target is "native". A process that has it already does not compile it again.

    Attributes:
        options: what was asked for.
        target: the CPU that code is generated for.
        threads: the default number of threads per call.
        plan: the steps of a block.
        compiled_kernels: the number of kernels that it began with and the cache did not have.
    """

    backend = "llvm"
    takes_packed = True

    def __init__(self, graph: Graph, options: LlvmOptions, identity: str | None = None) -> None:
        super().__init__(graph)
        self.options = options
        self.target = resolve_target(options.target, options.features)
        self.threads = _available_cores() if options.threads is None else _checked(options.threads)
        self.plan = make_plan(graph, LOWERING_OPTIONS)
        tree_code = self.target.ternary and os.name == "posix"
        self._program = BlockProgram(self.plan, ternary=self.target.ternary, tree_code=tree_code)
        self._cache = options.object_cache()
        # Most calls need this form; the others are compiled when a call first asks for them.
        usual = CallForm(tuple("f32" if v.dtype == "f32" else "u8" for v in graph.inputs))
        self._linked = LinkedProgram(self._program, self.target, self._cache, usual)
        self.compiled_kernels = self._linked.compiled_kernels
        self._runner = BlockRunner(self._linked)
        self._single_samples: SingleSampleRunner | None = None
        self._crossover = 0 if options.latency is False else MAX_SAMPLES
        if options.latency:
            self._prepare_single_samples()
        self._identity = identity or secrets.token_hex(16)
        _LIVE.add(self._identity, self)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _restore, (self._identity, self.graph, self.options)

    @property
    def asm(self) -> dict[str, str]:
        """Return the text of each stage.

        They are "llvm" as generated, "asm" for the target, and "code": the machine code of trees
        that have their own, in hexadecimal digits.
        """
        text, code = self._program.kernels.text, self._program.code
        return {"llvm": text, "asm": assembly(text, self.target), "code": code.tobytes().hex()}

    @property
    def crossover(self) -> int:
        """The largest batch that is evaluated sample by sample and not as a block.

        Before the first small batch, if code for it is not compiled yet, this is the largest that
        it can be.
        """
        return self._crossover

    # -- calls -----------------------------------------------------------------------------------

    def _run(self, samples: list[Array], n: int, threads: int | None) -> list[Array]:
        threads = self._threads(threads)
        if 0 < n <= self._crossover:
            if self._single_samples is None:
                self._prepare_single_samples()
            if self._single_samples is not None and n <= self._crossover:
                return self._single_samples(samples, n) or self._refuse(samples)
        values = [self.graph.values[name] for name in self.graph.outputs]
        results = [empty_result(value, n) for value in values]
        self._run_blocks(samples, results, n, threads, "scores")
        return [finished_result(v, r, n) for v, r in zip(values, results, strict=True)]

    def _labels(self, samples: list[Array], n: int, threads: int | None) -> Array:
        if n <= self._crossover or not self._scores_ascend:
            return super()._labels(samples, n, threads)
        labels = np.empty(n, np.int64)
        self._run_blocks(samples, [labels], n, self._threads(threads), "labels")
        return labels

    @cached_property
    def _scores_ascend(self) -> bool:
        return scores_ascend(self.graph)

    def _counts(self, samples: list[Array], n: int, threads: int | None) -> Array:
        counts = np.empty((n, *self.graph.values[self.graph.outputs[0]].shape), np.int32)
        self._run_blocks(samples, [counts], n, self._threads(threads), "counts")
        return counts

    def _run_blocks(
        self, samples: list[Array], results: list[Array], n: int, threads: int, result: str
    ) -> None:
        """Fill `results`, which are as `CallForm` says of `result`."""
        rows = [sample_rows(a) for a in samples]
        records = self._linked.records(CallForm(tuple(map(sample_kind, rows)), result))
        if not self._runner.run(records, rows, results, n, threads):
            self._refuse(samples)

    def _threads(self, threads: int | None) -> int:
        return self.threads if threads is None else _checked(threads)

    def _prepare_single_samples(self) -> None:
        """Compile code for small batches. Threads may do this side by side; one result is kept."""
        # Few processes run small batches, so only they pay for importing what compiles them.
        from lgir.backends.llvm.single_sample.runner import SingleSampleRunner

        try:
            runner = SingleSampleRunner(self.graph, self.target, self._cache)
        except BackendError:  # the network is too large for it
            self._crossover = 0
            return
        self._single_samples = runner
        self._crossover = runner.crossover

    def _refuse(self, samples: list[Array]) -> NoReturn:
        refuse_samples(self.graph.inputs, samples)

    # -- profile ---------------------------------------------------------------------------------

    def time_gates(self, samples: int, repeats: int) -> float:
        """Return the seconds per sample that gates alone take on one thread.

        Packing and scores are left out. The figure is the median of `repeats` runs over `samples`,
        in whole blocks of 512.
        """
        blocks = max(1, samples // BLOCK)
        records = self._linked.link(self._program.gate_records)
        context = self._runner.context([], [], blocks * BLOCK)
        return time_records(self._runner, records, context, blocks, repeats) / BLOCK

    def time_steps(self, kind: str | None, samples: list[Array], repeats: int = 9) -> float:
        """Return the CPU seconds that steps take for 512 samples on one thread.

        Args:
            kind: a kind of steps, such as "pack" or "chain"; all steps if None.
            samples: one array (N, *shape) per input, of which whole blocks are read.
            repeats: runs over the samples, of which the median is returned.
        """
        rows = [sample_rows(a) for a in samples]
        blocks = len(rows[0]) // BLOCK
        n = blocks * BLOCK
        steps = self._program.sequence(CallForm(tuple(map(sample_kind, rows))), kind)
        records = self._linked.link(steps)
        results = [empty_result(self.graph.values[name], n) for name in self.graph.outputs]
        context = self._runner.context(rows, results, n)
        return time_records(self._runner, records, context, blocks, repeats, time.thread_time)

    def step_costs(self, samples: list[Array]) -> list[StepCost]:
        """Return what each step does for a block of `samples`; see `lgir.roofline`."""
        return step_costs(
            self.plan, samples, ternary=self.target.ternary, tree_code=self._program.tree_code
        )

    def measure_machine(self) -> Machine:
        """Measure the roofs of this CPU as the executable's target uses it."""
        return measure_machine(self.target)


_LIVE: Final[LiveExecutables[LlvmExecutable]] = LiveExecutables()


def _restore(identity: str, graph: Graph, options: LlvmOptions) -> LlvmExecutable:
    """Return the executable of that identity, compiled if this process does not have it."""
    return _LIVE.restore(identity, lambda: LlvmExecutable(graph, options, identity))


def _available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _checked(threads: int) -> int:
    if threads < 1:
        raise InputError(f"threads={threads} must be at least 1")
    return threads


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
    """Compile vectorized machine code for this CPU.

    Args:
        target: "native", "avx512", "avx2" or "generic" x86-64.
        features: LLVM feature flags to add, such as "-avx512f".
        threads: the default number of threads per call; all available cores if None.
        cache: keep object code on disk for the next process.
        cache_dir: the folder of object code, instead of the user's cache folder.
        latency: evaluate batches of up to a dozen or so samples one after another, faster than a
            block. Code for that is compiled now if True, with the first such call if None, and
            never if False.
    """
    return LlvmExecutable(graph, LlvmOptions(target, features, threads, cache, cache_dir, latency))
