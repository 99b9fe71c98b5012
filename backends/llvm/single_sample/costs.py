"""The cycles of blocks and of single-sample steps, from which the crossover is estimated.

The figures are rough measurements on Zen 4; docs/design/single-sample.md says what they decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class CycleCosts:
    """Estimated cycles of parts of the two programs.

    The figures of the block program are for 512-bit registers and hold for any number of samples
    up to a block. "Per gate" means per two-input gate; a wider gate counts as several.

    Attributes:
        block_call: a block call, beyond a single-sample call.
        block_python_call: a block call from Python, beyond one from C: it allocates arrays for a
            block and for the words that it packs.
        block_position_gate: per gate and position of a convolution.
        block_machine_code_gate: the same if trees have machine code of their own (AVX-512).
        block_dense_gate: per gate of a dense layer, which moves lines between caches.
        block_number: per number that is packed and per bit that is counted.
        block_output_bit: per bit of a graph output.
        block_slowdown: the factor of the block figures but those of calls, by the bits of the
            widest registers.
        step: a single-sample step that has nothing to do.
        streamed_byte: per number of a sample that is loaded, byte that is counted, and bit that is
            exported; these are read in vectors.
        compared_row: per row of numbers and threshold.
        compared_vector: per vector of numbers of such a row.
        gathered_byte: per byte that is gathered one by one.
        lookup_round: per LOOKUP_BITS bytes that are packed to bits for permutations.
        lookup_vector: per vector that is gathered by permutations.
        lookup_vector_round: per such vector and round.
        dense_leaf: per vector of dense trees and leaf.
        dense_mask: per vector of dense trees and mask.
        map_mask: per mask that is broadcast for one tree over a map.
        map_operand: per vector and per leaf or mask of a tree over a map.
        map_operand_ternary: the same if the target has three-input instructions (AVX-512).
        moved_map: per map that is moved.
        moved_row: per row of such a map.
        moved_vector: per vector of cells that is read from such a row.
        counted_range: per range of bytes that is counted.
    """

    block_call: float = 20_000
    block_python_call: float = 60_000
    block_position_gate: float = 1.5
    block_machine_code_gate: float = 0.9
    block_dense_gate: float = 2.5
    block_number: float = 8
    block_output_bit: float = 100
    block_slowdown: Mapping[int, float] = field(
        default_factory=lambda: MappingProxyType({512: 1.0, 256: 1.8, 128: 3.2})
    )
    step: float = 200
    streamed_byte: float = 1 / 16
    compared_row: float = 4
    compared_vector: float = 2
    gathered_byte: float = 1.25
    lookup_round: float = 30
    lookup_vector: float = 2
    lookup_vector_round: float = 2
    dense_leaf: float = 1
    dense_mask: float = 2.6
    map_mask: float = 0.6
    map_operand: float = 0.5
    map_operand_ternary: float = 0.25
    moved_map: float = 3
    moved_row: float = 1
    moved_vector: float = 1
    counted_range: float = 15


ZEN4: Final = CycleCosts()
