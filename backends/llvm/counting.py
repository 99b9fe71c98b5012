"""Counting planes with carry-save adders (Harley and Seal): counts are bit-sliced, plane i of one
being worth 2**i.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lgir.backends.llvm.llvm_text import MAJORITY, PLANE, SUM, FunctionWriter
from lgir.backends.llvm.records import KERNEL_PARAMS, Field
from lgir.backends.lowering.steps import ZERO_PLANE, Planes

ADDER: Final = 16
"""Planes that one round of the adder takes in."""


def whole_rounds(planes: Planes) -> Planes:
    """(groups, bits) planes to count, with as many False ones as make whole rounds of the adder."""
    return np.pad(planes, ((0, 0), (0, -planes.shape[1] % ADDER)), constant_values=ZERO_PLANE)


def add_planes(f: FunctionWriter, table: str, planes: str, width: int) -> list[str]:
    """The count of planes, in `width` planes, from a table of offsets: those of the count to start
    from, then those of `planes` planes to add, an i64, a multiple of ADDER.
    """
    start = [
        (PLANE, f.load_plane("%planes", f.load_u32(f.gep(table, str(4 * i))))) for i in range(width)
    ]
    added = f.gep(table, str(4 * width))
    with f.loop(planes, *start, step=ADDER) as loop:
        entry = f.gep(added, f.let(f"mul i64 {loop.index}, 4"))
        layer = [
            f.load_plane("%planes", f.load_u32(f.gep(entry, str(4 * i)))) for i in range(ADDER)
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


def count_kernel(name: str, width: int, *, ternary: bool) -> str:
    """A row a group: the offsets of the count to start from, of the planes to add, and of the count
    that results.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, groups = f.load_field("%step", Field.ROWS, "ptr"), f.load_field("%step", Field.COUNT)
    planes = f.load_field("%step", Field.BITS)
    words = f.let(f"add i64 {planes}, {2 * width}")
    with f.loop(groups) as g:
        table = f.gep(rows, f.let(f"mul i64 {f.let(f'mul i64 {g.index}, {words}')}, 4"))
        count = add_planes(f, table, planes, width)
        out = f.gep(table, f.let(f"mul i64 {f.let(f'add i64 {planes}, {width}')}, 4"))
        for i, plane in enumerate(count):
            f.store_plane(plane, "%planes", f.load_u32(f.gep(out, str(4 * i))))
    f.emit("ret void")
    return f.text()
