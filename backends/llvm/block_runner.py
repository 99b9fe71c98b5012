"""Runs of a linked program over blocks of 512 samples, split between threads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.linked_program import LinkedProgram
from lgir.backends.llvm.llvm_text import BLOCK, PLANE_BYTES
from lgir.backends.llvm.records import RecordArray
from lgir.errors import BackendError
from lgir.samples import Array


class BlockRunner:
    """Runs linked records; safe to call from many threads. Each run has a workspace of its own.

    Runs release the GIL.
    """

    def __init__(self, linked: LinkedProgram) -> None:
        self._linked = linked
        self._idle: list[npt.NDArray[np.uint8]] = []

    def run(
        self, records: RecordArray, arrays: list[Array], results: list[Array], n: int, threads: int
    ) -> bool:
        """Fill `results` for `n` samples, and return whether all samples are well-formed.

        Args:
            arrays: samples as `sample_rows` returns them, one array per input.
            threads: the most threads that blocks are split between.
        """
        blocks = -(-n // BLOCK)
        parts = min(threads, blocks)
        if parts == 0:
            return True
        edges = [blocks * i // parts * BLOCK for i in range(parts + 1)]
        ranges = list(itertools.pairwise(edges))
        if parts == 1:
            return self._run_range(records, arrays, results, n, *ranges[0])
        with ThreadPoolExecutor(parts) as pool:
            jobs = [pool.submit(self._run_range, records, arrays, results, n, *r) for r in ranges]
            well_formed = [job.result() for job in jobs]
        return all(well_formed)

    def _run_range(
        self,
        records: RecordArray,
        arrays: list[Array],
        results: list[Array],
        n: int,
        start: int,
        stop: int,
    ) -> bool:
        """Run blocks [start, stop) on this thread, and return whether samples are well-formed."""
        context = self.context(arrays, results, n)
        with self.workspace() as planes:
            self.run_range(records, context, planes, start, stop)
        return not context[ContextWord.ERROR]

    def run_range(
        self,
        records: RecordArray,
        context: npt.NDArray[np.int64],
        planes: int,
        start: int,
        stop: int,
    ) -> None:
        """Run records for samples [start, stop) in the workspace at address `planes`."""
        self._linked.run_loop(
            records.ctypes.data, len(records), context.ctypes.data, planes, start, stop
        )

    def context(self, arrays: list[Array], results: list[Array], n: int) -> npt.NDArray[np.int64]:
        """Return the context of a call; see `call_context`."""
        slots = self._linked.program.slots
        context = np.zeros(slots.words, np.int64)
        context[ContextWord.SAMPLES] = n
        for i, array in enumerate(arrays):
            slot = slots.input_slot(i)
            context[slot], context[slot + 1] = array.ctypes.data, array.strides[0]
        for i, result in enumerate(results):
            context[slots.output_slot(i)] = result.ctypes.data
        return context

    @contextmanager
    def workspace(self) -> Iterator[int]:
        """Lend a workspace and give its address, that of a cache line.

        Halos are False from the start and stay so.

        Raises:
            BackendError: there is no memory for one more.
        """
        try:
            memory = self._idle.pop()
        except IndexError:
            memory = self._new_workspace()
        yield -(-int(memory.ctypes.data) // PLANE_BYTES) * PLANE_BYTES
        self._idle.append(memory)

    def _new_workspace(self) -> npt.NDArray[np.uint8]:
        size = self._linked.program.workspace_bytes + PLANE_BYTES
        try:
            return np.zeros(size, np.uint8)
        except MemoryError:
            raise BackendError(f"no memory for {size:,} bytes of planes per thread") from None
