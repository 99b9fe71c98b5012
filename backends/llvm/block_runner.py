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
        slots = linked.program.slots
        # Looked up once, since a call for one block takes some tens of microseconds.
        self._context_words = slots.words
        self._input_slots = [slots.input_slot(i) for i in range(slots.inputs)]
        self._output_slots = [slots.output_slot(i) for i in range(slots.outputs)]
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
        workspace = self._take_workspace()
        self.run_range(records, context, _line_address(workspace), start, stop)
        self._idle.append(workspace)
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
        """Return the context of a call, without arrays that the call does not use."""
        context = np.zeros(self._context_words, np.int64)
        context[ContextWord.SAMPLES] = n
        for slot, array in zip(self._input_slots, arrays, strict=False):
            context[slot], context[slot + 1] = array.ctypes.data, array.strides[0]
        for slot, result in zip(self._output_slots, results, strict=False):
            context[slot] = result.ctypes.data
        return context

    @contextmanager
    def workspace(self) -> Iterator[int]:
        """Yield the address of a workspace that serves several runs in turn."""
        workspace = self._take_workspace()
        yield _line_address(workspace)
        self._idle.append(workspace)

    def _take_workspace(self) -> npt.NDArray[np.uint8]:
        """Return a workspace that no other run uses; its halos are False and stay so.

        Raises:
            BackendError: there is no memory for one more.
        """
        try:
            return self._idle.pop()
        except IndexError:
            size = self._linked.program.workspace_bytes + PLANE_BYTES
        try:
            return np.zeros(size, np.uint8)
        except MemoryError:
            raise BackendError(f"no memory for {size:,} bytes of planes per thread") from None


def _line_address(workspace: npt.NDArray[np.uint8]) -> int:
    """Return the address of the first whole cache line."""
    return -(-int(workspace.ctypes.data) // PLANE_BYTES) * PLANE_BYTES
