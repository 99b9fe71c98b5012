"""What a step is to the compiled code: a record of 8-byte fields, and the loop that runs them.

Every kernel has the form `void (planes, step, context)`. Rows are tables of 32-bit words, plane
offsets in bytes and masks of 0 or -1, so code depends on shapes alone and wiring is data. The
context holds the batch: sample and output pointers, the block's first sample, and an error flag.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.ir import (
    BLOCK,
    ONES,
    PLANE,
    PLANE_BYTES,
    Function,
)

PARAMS: Final = "ptr noalias %planes, ptr noalias readonly %step, ptr noalias %context"
RUN_PARAMS: Final = "ptr %steps, i64 %count, ptr %context, ptr %planes, i64 %start, i64 %stop"


RunLoop: Final = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_int64,
)
"""Steps, how many, context, planes, and the samples from where to where."""


Record = npt.NDArray[np.int64]
Tables = dict[int, npt.NDArray[Any]]


class Field(IntEnum):
    """Fields of a step record; kinds of steps share the numbers."""

    KERNEL = 0
    ROWS = 1
    COUNT = 2
    # cones
    SPACE = 3
    IN_STEP = 6
    OUT_STEP = 9
    COPIES = 12
    SHIFTS = 13
    # chains
    MASKS = 3
    # trees, which have MASKS as well: offsets of planes
    BASE = 4
    OUT = 5
    # packing: COUNT is the number of tiles
    FEATURES = 3
    LEVELS = 4
    LEVEL_TABLE = 5
    SLOT = 7
    SCRATCH = 8
    TILES_AT_ONCE = 9
    # widening: COUNT is the bytes of a sample
    WIDE_SLOT = 10
    # sums: COUNT is the number of groups; SLOT the output's place in the context
    BITS = 3
    TAU = 4
    BETA = 5
    SIZE = 32


class Context(IntEnum):
    """Fields of the context record; sample and output slots follow."""

    SAMPLES = 0
    START = 1
    ERROR = 2
    SLOTS = 3


@dataclass(frozen=True)
class StepRecord:
    """One step as the run loop reads it, before it is linked: which kernel, the numbers among its
    fields, (Field.SIZE,) int64, and the tables that other fields point to. Code that it calls is at
    `code` bytes in the program's.
    """

    kernel: str
    fields: Record
    tables: Tables = field(default_factory=dict)
    code: int | None = None


def fields_of(values: Mapping[int, int]) -> Record:
    """Numbers of a record, 0 where `values` has none."""
    fields = np.zeros(Field.SIZE, np.int64)
    fields[list(values)] = list(values.values())
    return fields


def link(steps: Sequence[StepRecord], address: Mapping[str, int], code: int = 0) -> Record:
    """Records (steps, Field.SIZE) for this process, where the program's code is at `code`; the
    steps must outlive them.
    """
    records = np.zeros((len(steps), Field.SIZE), np.int64)
    for record, step in zip(records, steps, strict=True):
        record[:] = step.fields
        record[Field.KERNEL] = address[step.kernel]
        for at, table in step.tables.items():
            record[at] = table.ctypes.data
        if step.code is not None:
            record[Field.ROWS] = code + step.code
    return records


def run_kernel() -> str:
    """`lgir_run`: for each block of samples in [start, stop), every step in order."""
    f = Function("lgir_run", RUN_PARAMS, ternary=False)
    f.store(PLANE, "zeroinitializer", "%planes", PLANE_BYTES)
    f.store(PLANE, ONES, f.at("%planes", str(PLANE_BYTES)), PLANE_BYTES)
    run_steps(f, BLOCK)
    return f.text()


def run_steps(f: Function, samples: int) -> None:
    """The rest of a function with RUN_PARAMS: every step in order, `samples` samples at a time."""
    with f.loop("%stop", step=samples, start="%start") as turn:
        f.store("i64", turn.index, f.at("%context", str(8 * Context.START)), 8)
        with f.loop("%count") as i:
            step = f.at("%steps", f.let(f"mul i64 {i.index}, {8 * Field.SIZE}"))
            kernel = f.load("ptr", step, 8)
            f.emit(f"call void {kernel}(ptr %planes, ptr {step}, ptr %context)")
    f.emit("ret void")


def call_kernel(name: str, *, ternary: bool) -> str:
    """Calls the machine code at ROWS, a function `void (planes)` in the System V convention."""
    f = Function(name, PARAMS, ternary=ternary)
    f.emit(f"call x86_64_sysvcc void {f.field('%step', Field.ROWS, 'ptr')}(ptr %planes)")
    f.emit("ret void")
    return f.text()


def mask_table(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    """A table of masks as words of 0 or -1. It begins a cache line: an entry of whole lines that
    straddled others would cost more loads.
    """
    room = np.empty(masks.size + PLANE_BYTES // 4, np.uint32)
    table = room[-room.ctypes.data % PLANE_BYTES // 4 :][: masks.size].reshape(masks.shape)
    table[:] = np.where(masks, np.uint32(0xFFFF_FFFF), np.uint32(0))
    return table
