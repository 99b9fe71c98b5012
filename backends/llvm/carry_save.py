"""Counting planes with carry-save adders (Harley and Seal).

Counts are bit-sliced: plane i of a count is worth 2**i.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lgir.backends.llvm.llvm_text import MAJORITY, PLANE, SUM, FunctionWriter
from lgir.backends.lowering.steps import ZERO_PLANE, Planes

ROUND_PLANES: Final = 16
"""Planes that one round of the adder takes in."""


def pad_to_rounds(planes: Planes) -> Planes:
    """Return planes to count (groups, bits), with False ones added up to whole rounds."""
    return np.pad(
        planes, ((0, 0), (0, -planes.shape[1] % ROUND_PLANES)), constant_values=ZERO_PLANE
    )


def count_planes(f: FunctionWriter, table: str, planes: str, width: int) -> list[str]:
    """Write a count and return its `width` planes.

    Args:
        table: a pointer to u32 offsets: those of the count to start from, then those of the planes
            to add.
        planes: the number of planes to add, an i64 that is a multiple of ROUND_PLANES.
    """
    initial = [
        (PLANE, f.load_plane("%planes", f.load_u32(f.gep(table, str(4 * i))))) for i in range(width)
    ]
    added = f.gep(table, str(4 * width))
    with f.loop(planes, *initial, step=ROUND_PLANES) as loop:
        entry = f.gep(added, f.let(f"mul i64 {loop.index}, 4"))
        layer = [
            f.load_plane("%planes", f.load_u32(f.gep(entry, str(4 * i))))
            for i in range(ROUND_PLANES)
        ]
        for bit, count in enumerate(loop.carried):
            carries = []
            while len(layer) > 1:
                a, b, layer = layer[0], layer[1], layer[2:]
                carries.append(f.ternary(a, b, count, MAJORITY))
                count = f.ternary(a, b, count, SUM)
            if layer:
                if bit + 1 < width:
                    carries.append(f.op("and", count, layer[0]))
                count = f.op("xor", count, layer[0])
            loop.next.append(count)
            layer = carries
    return loop.result


def adders_per_round(width: int) -> int:
    """Return the adders of one round, for a count of `width` planes."""
    inputs, adders = ROUND_PLANES, 0
    for _ in range(width):
        adders += max(1, inputs // 2)
        inputs //= 2
    return adders
