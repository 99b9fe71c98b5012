"""The kernels of gates, one function per template: single gates, chains and cones."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.llvm_text import (
    AND_OR,
    AND_XOR,
    OR_XOR,
    PLANE,
    XOR_AND,
    FunctionWriter,
)
from lgir.backends.llvm.records import KERNEL_PARAMS, Field, mask_table
from lgir.backends.lowering.cones import ConeExpr

CHAIN_ROWS: Final = 4
"""Rows of a chain in one round of its loop."""
_ROWS_AT_ONCE: Final = 4
_ENTRY_SHIFT: Final = {True: 2, False: 3}
"""Where a chain's row holds its operation: 16 operations, or 8 of them without a constant term."""


def gate_kernel(name: str, fanin: int, table: int | None, *, ternary: bool) -> str:
    """Rows (operand offsets..., output offset): single gates of one table, or, for wide gates,
    rows that end in the table's two halves, evaluated as a multiplexer tree over its bits.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, count = f.load_field("%step", Field.ROWS, "ptr"), f.load_field("%step", Field.COUNT)
    words = fanin + 1 + (0 if table is not None else 2)
    at_once = _ROWS_AT_ONCE if table is not None else 1
    whole = f.let(f"and i64 {count}, {-at_once}")
    for start, stop, batch in (("0", whole, at_once), (whole, count, 1)):
        with f.loop(stop, step=batch, start=start) as loop:
            row = f.gep(rows, f.let(f"mul i64 {loop.index}, {4 * words}"))
            results = []
            for r in range(batch):
                offsets = [f.load_u32(f.gep(row, str(4 * (r * words + c)))) for c in range(words)]
                inputs = [f.load_plane("%planes", offsets[c]) for c in range(fanin)]
                if table is not None:
                    value = f.lut(table, inputs)
                else:
                    high = f.let(f"shl i64 {offsets[fanin + 2]}, 32")
                    value = _wide_lut(f, f.let(f"or i64 {offsets[fanin + 1]}, {high}"), inputs)
                results.append((value, offsets[fanin]))
            for value, offset in results:
                f.store_plane(value, "%planes", offset)
        if batch == at_once == 1:
            break
    f.emit("ret void")
    return f.text()


def _wide_lut(f: FunctionWriter, table: str, inputs: list[str]) -> str:
    """The multiplexer tree of a table held in an i64: bit i as a mask is bit i moved to the sign
    and spread by an arithmetic shift.
    """
    one = f.let(f"insertelement {PLANE} poison, i64 {table}, i64 0")
    spread = f.let(f"shufflevector {PLANE} {one}, {PLANE} poison, <8 x i32> zeroinitializer")
    layer = []
    for i in range(1 << len(inputs)):
        top = f.op("shl", spread, f"splat (i64 {63 - i})")
        layer.append(f.op("ashr", top, "splat (i64 63)"))
    for x in reversed(inputs):
        layer = [f.select(x, layer[i + 1], layer[i]) for i in range(0, len(layer), 2)]
    return layer[0]


def chain_kernel(name: str, constant: bool, *, ternary: bool) -> str:
    """Rows (offset of the current plane, output offset): gates that share an operand with the row
    before, of any operation, COUNT being a multiple of CHAIN_ROWS.

    The low six bits of an offset are free and name the operation: an entry of the table at MASKS,
    64 bytes that repeat four masks of its algebraic normal form, f = ab(1-m1) + a(m1+m3) + b m2 +
    m4. Without `constant`, m4 is 0 in every row and left out. Loads of whole vectors are what
    limits, so two masks are taken from one load by shuffles.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    rows, count = f.load_field("%step", Field.ROWS, "ptr"), f.load_field("%step", Field.COUNT)
    masks = f.load_field("%step", Field.MASKS, "ptr")
    shift = _ENTRY_SHIFT[constant]
    with f.loop(count, (PLANE, "zeroinitializer"), step=CHAIN_ROWS) as loop:
        row = f.gep(rows, f.let(f"mul i64 {loop.index}, 8"))
        (before,) = loop.carried
        for r in range(CHAIN_ROWS):
            word = f.load_u32(f.gep(row, str(8 * r)))
            low = f.let(f"and i64 {word}, {63 >> shift << shift}")
            entry = f.gep(masks, f.let(f"shl i64 {low}, {6 - shift}"))
            m1, m2 = f.splats(entry, 2)
            m3, m4 = (f.broadcast(f.load("i32", f.gep(entry, str(4 * i)), 4)) for i in (2, 3))
            current = f.load_plane("%planes", f.let(f"and i64 {word}, -64"))
            value = f.ternary(before, current, m1, AND_OR)
            value = f.ternary(value, current, m2, XOR_AND)
            value = f.ternary(value, before, m3, XOR_AND)
            out = f.load_u32(f.gep(row, str(8 * r + 4)))
            f.store_plane(f.op("xor", value, m4) if constant else value, "%planes", out)
            before = current
        loop.next = [before]
    f.emit("ret void")
    return f.text()


def chain_words(
    offsets: npt.NDArray[np.uint32], tables: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32], bool]:
    """Rows of a chain, (n, 2) offsets with their operations in the low bits; the mask table, 64
    bytes an entry; and whether any gate has a constant term, see `chain_kernel`.
    """
    constant = bool((tables & 1).any())
    entries = np.arange(16) if constant else np.arange(0, 16, 2)
    words = offsets.copy()
    index = tables if constant else tables >> 1
    words[: len(tables), 0] |= (index << _ENTRY_SHIFT[constant]).astype(np.uint32)
    f0, f1, f2, f3 = ((entries >> i & 1).astype(bool) for i in range(4))
    single = ~(f0 ^ f1 ^ f2 ^ f3)
    masks = np.stack([single, f0 ^ f1, f0 ^ f2 ^ single, f0] * 4, axis=1)
    return words, mask_table(masks), constant


def cone_kernel(name: str, expr: ConeExpr, *, ternary: bool) -> str:
    """Rows (leaf offsets..., output offset, masks...): a tree looped over positions, and at each
    over the shifted copies that a pool ORs.

    Leaf pointers and masks are loaded once a row. The copies are a loop and not unrolled: with the
    loads of several trees in flight, LLVM's scheduler spills masks to the stack.
    """
    f = FunctionWriter(name, KERNEL_PARAMS, ternary=ternary)
    kinds, masks = expr.leaves(), expr.num_masks() + 1
    words = len(kinds) + 1 + masks
    rows, count = f.load_field("%step", Field.ROWS, "ptr"), f.load_field("%step", Field.COUNT)
    space = [f.load_field("%step", Field.SPACE + i) for i in range(3)]
    in_step = [f.load_field("%step", Field.IN_STEP + i) for i in range(3)]
    out_step = [f.load_field("%step", Field.OUT_STEP + i) for i in range(3)]
    copies = f.load_field("%step", Field.COPIES)
    shifts = f.gep("%step", str(8 * Field.SHIFTS))
    with f.loop(count) as row_loop:
        row = f.gep(rows, f.let(f"mul i64 {row_loop.index}, {4 * words}"))
        word = [f.gep(row, str(4 * i)) for i in range(words)]
        leaves = [f.gep("%planes", f.load_u32(word[i])) for i in range(len(kinds))]
        out = f.gep("%planes", f.load_u32(word[len(kinds)]))
        mask = [f.broadcast(f.load("i32", w, 4)) for w in word[len(kinds) + 1 :]]
        with f.loop(space[0]) as z, f.loop(space[1]) as y:
            in_row = _walk(f, in_step[0], z.index, in_step[1], y.index)
            out_row = _walk(f, out_step[0], z.index, out_step[1], y.index)
            with f.loop(space[2], ("i64", in_row), ("i64", out_row)) as x:
                at_in, at_out = x.carried
                with f.loop(copies, (PLANE, "zeroinitializer")) as copy:
                    shift = f.load("i64", f.gep(shifts, f.let(f"mul i64 {copy.index}, 8")), 8)
                    place = {"tap": f.let(f"add i64 {at_in}, {shift}"), "cut": at_out}
                    pending = list(zip(kinds, leaves, strict=True))
                    value = evaluate_tree(f, expr, pending, list(mask), place)
                    copy.next = [f.ternary(copy.carried[0], value, mask[-1], OR_XOR)]
                f.store_plane(copy.result[0], out, at_out)
                x.next = [
                    f.let(f"add i64 {at_in}, {in_step[2]}"),
                    f.let(f"add i64 {at_out}, {out_step[2]}"),
                ]
    f.emit("ret void")
    return f.text()


def _walk(f: FunctionWriter, step_a: str, a: str, step_b: str, b: str) -> str:
    return f.let(f"add i64 {f.let(f'mul i64 {step_a}, {a}')}, {f.let(f'mul i64 {step_b}, {b}')}")


def evaluate_tree(
    f: FunctionWriter,
    expr: ConeExpr,
    leaves: list[tuple[str, str]],
    masks: list[str],
    position: dict[str, str],
) -> str:
    """Consumes leaves and masks in the template's order; see `ConeExpr.num_masks`."""
    if not expr.args:
        kind, pointer = leaves.pop(0)
        return f.load_plane(pointer, position[kind])
    inputs = [evaluate_tree(f, a, leaves, masks, position) for a in expr.args]
    if expr.kind == "xor":
        return f.op("xor", *inputs)
    if expr.kind == "and":
        a, b = inputs
        m1, m2 = masks.pop(0), masks.pop(0)
        return f.ternary(f.ternary(a, b, m1, AND_XOR), b, m2, XOR_AND)
    layer = [masks.pop(0) for _ in range(1 << len(inputs))]
    for x in reversed(inputs):
        layer = [f.select(x, layer[i + 1], layer[i]) for i in range(0, len(layer), 2)]
    return layer[0]
