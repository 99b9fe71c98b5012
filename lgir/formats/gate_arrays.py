"""Gates of mixed fan-in, as readers collect them one by one, into the arrays of a body."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lgir.ir.truth_tables import table_dtype, widen_table


def gate_arrays(
    tables: Sequence[int], arity: Sequence[int], operands: Sequence[int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.unsignedinteger]]:
    """Return the fan-in int32 (G, K) and tables (G,) of gates, padded to the widest.

    Args:
        tables: truth table of each gate over its own operands.
        arity: number of operands of each gate, at most 6.
        operands: net ids of the operands of all gates, one gate after another.
    """
    counts = np.array(arity, dtype=np.int64)
    k = max(1, int(counts.max(initial=0)))
    fanin = np.zeros((len(counts), k), np.int32)
    fanin[np.arange(k) < counts[:, None]] = operands
    narrow = np.array(tables, dtype=np.uint64)
    table = np.zeros(len(counts), table_dtype(k))
    for n in np.unique(counts):
        table[counts == n] = widen_table(narrow[counts == n], int(n), k)
    return fanin, table
