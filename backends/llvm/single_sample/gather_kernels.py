"""Lower gathers of bytes: one by one, or by permutations of registers that hold bits.

A permutation looks up 64 bits in one instruction (AVX-512 VBMI, lanes of 8 bits) or 32 (AVX-512BW,
lanes of 16 bits), but only in the 1,024 bits that two registers hold.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.llvm_text import FunctionWriter
from lgir.backends.llvm.records import INTEGER, StepRecord
from lgir.backends.llvm.single_sample.plan import by_vector
from lgir.backends.llvm.single_sample.sample_kernels import (
    BYTES,
    PERMUTES,
    SampleKernels,
    offset_table,
    sample_layout,
    write_sign_bits,
)
from lgir.backends.llvm.single_sample.shifted_nets import Ints
from lgir.backends.llvm.single_sample.steps import LANES, LOOKUP_BITS, GatherBytes, Lookup

_COPIES_AT_ONCE: Final = 8
_VECTORS_AT_ONCE: Final = 4
"""Vectors that are looked up for one load of the bits."""

_COPY: Final = sample_layout()
"""`count` is the bytes gathered, and `rows` their offsets."""
_PERMUTE: Final = sample_layout(source=INTEGER, rounds=INTEGER, bits=INTEGER)
"""`count` is the bytes gathered, `source` the first of the bytes among which they are, and `bits`
the offset of the scratch for the bits."""


def lower_gather(step: GatherBytes, kernels: SampleKernels) -> StepRecord:
    """Return the record of a gather."""
    lookup, count = step.lookup, len(step.sources)
    if lookup is None:
        kernel = kernels.use("gather", _write_copy)
        return _COPY.record(kernel, count=count, out=step.out, rows=offset_table(step.sources))
    return _PERMUTE.record(
        kernels.use(f"permute{lookup.lane_bits}", _write_permute, lookup.lane_bits),
        count=count,
        out=step.out,
        source=lookup.first,
        rounds=lookup.rounds,
        bits=lookup.scratch,
        rows=_lookup_table(step.sources, lookup),
    )


def _lookup_table(sources: Ints, lookup: Lookup) -> npt.NDArray[Any]:
    """Return what finds the bytes at `sources`, (vectors, 3, lanes).

    The three are the word that holds the bit, the round in which it is found, and the bit's mask.
    """
    bits = lookup.lane_bits
    offsets = sources - lookup.first
    within_round = offsets % LOOKUP_BITS
    word, mask = within_round // bits, 1 << within_round % bits
    parts = np.stack([word, offsets // LOOKUP_BITS, mask], axis=1)
    return by_vector(parts.astype(np.uint8 if bits == 8 else np.uint16), 512 // bits)


def _write_copy(f: FunctionWriter) -> None:
    """Copy the bytes at the offsets of `rows` to `out`, one by one."""
    rows, out = _COPY.load(f, "rows"), f.gep("%planes", _COPY.load(f, "out"))
    with f.loop(_COPY.load(f, "count"), step=_COPIES_AT_ONCE) as i:
        row, target = f.gep(rows, f.let(f"mul i64 {i.index}, 4")), f.gep(out, i.index)
        for j in range(_COPIES_AT_ONCE):
            source = f.gep("%planes", f.load_u32(f.gep(row, str(4 * j))))
            f.store("i8", f.load("i8", source, 1), f.gep(target, str(j)), 1)


def _write_permute(f: FunctionWriter, lane_bits: int) -> None:
    """Gather by permutations of lanes of `lane_bits` bits; `rows` is the table of the lookup.

    All bytes are packed to bits first. Then every vector of lanes is looked up in each round's
    LOOKUP_BITS bits, and keeps the words of the lanes whose round it is.
    """
    lanes = 512 // lane_bits
    kind, flags = f"<{lanes} x i{lane_bits}>", f"<{lanes} x i1>"
    rows, out = _PERMUTE.load(f, "rows"), f.gep("%planes", _PERMUTE.load(f, "out"))
    rounds = _PERMUTE.load(f, "rounds")
    source = f.gep("%planes", _PERMUTE.load(f, "source"))
    packed = f.gep("%planes", _PERMUTE.load(f, "bits"))
    with f.loop(f.let(f"mul i64 {rounds}, {LOOKUP_BITS}"), step=LANES) as i:
        word = write_sign_bits(f, f.load(BYTES, f.gep(source, i.index), 1))
        f.store("i64", word, f.gep(packed, f.let(f"lshr i64 {i.index}, 3")), 8)
    vectors = range(_VECTORS_AT_ONCE)
    with f.loop(_PERMUTE.load(f, "count"), step=_VECTORS_AT_ONCE * lanes) as i:
        row = f.gep(rows, f.let(f"mul i64 {i.index}, {3 * lane_bits // 8}"))
        word_index, lookup_round, bit = (
            [f.load(kind, f.gep(row, str(64 * (3 * j + part))), 1) for j in vectors]
            for part in range(3)
        )
        with f.loop(rounds, *((kind, "zeroinitializer") for _ in vectors)) as turn:
            base = f.gep(packed, f.let(f"mul i64 {turn.index}, {LOOKUP_BITS // 8}"))
            first, second = (f.load(kind, f.gep(base, str(64 * j)), 8) for j in range(2))
            number = f.let(f"trunc i64 {turn.index} to i{lane_bits}")
            one = f.let(f"insertelement {kind} poison, i{lane_bits} {number}, i64 0")
            zeros = f"<{lanes} x i32> zeroinitializer"
            this_round = f.let(f"shufflevector {kind} {one}, {kind} poison, {zeros}")
            for j in vectors:
                args = f"{kind} {first}, {kind} {word_index[j]}, {kind} {second}"
                words = f.let(f"call {kind} {PERMUTES[lane_bits]}({args})")
                in_round = f.let(f"icmp eq {kind} {lookup_round[j]}, {this_round}")
                previous = f"{kind} {turn.carried[j]}"
                turn.next.append(f.let(f"select {flags} {in_round}, {kind} {words}, {previous}"))
        target = f.gep(out, i.index)
        for j in vectors:
            selected = f.let(f"and {kind} {turn.result[j]}, {bit[j]}")
            true = f.let(f"icmp ne {kind} {selected}, zeroinitializer")
            cells = f.let(f"sext {flags} {true} to <{lanes} x i8>")
            f.store(f"<{lanes} x i8>", cells, f.gep(target, str(lanes * j)), 1)
