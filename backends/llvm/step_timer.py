"""Times of the steps of a program on one thread, for benchmarks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.block_runner import BlockRunner
from lgir.backends.llvm.llvm_text import BLOCK
from lgir.backends.llvm.records import RecordArray


def time_records(
    runner: BlockRunner,
    records: RecordArray,
    context: npt.NDArray[np.int64],
    blocks: int,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the seconds that records take per block, by `clock`.

    The figure is the median of `repeats` runs over `blocks`. One block is run before, so that pages
    and caches are warm.
    """
    times = []
    with runner.workspace() as planes:
        runner.run_range(records, context, planes, 0, BLOCK)
        for _ in range(repeats):
            start = clock()
            runner.run_range(records, context, planes, 0, blocks * BLOCK)
            times.append(clock() - start)
    return statistics.median(times) / blocks
