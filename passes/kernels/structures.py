"""The smallest structures of two-input gates for every function of four inputs.

Functions fall into 222 classes under permuted and complemented inputs and a complemented output
(NPN classes). `lgir.passes.kernels.chains` holds minimal structures of a representative of each
class, several if there are several. This module derives from them the structures of all 65,536
functions.

In this module and the kernels of rewriting, a function of four inputs is 16 bits, and input j is
index bit j: the first input is the least significant, as in the tables of cuts.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lgir.passes.kernels.chains import CHAINS, MAX_GATES, OPERATIONS

Ints = npt.NDArray[np.int64]
Chain = tuple[tuple[int, int, int], ...]
"""The gates of a structure: two operands and the table of each, the last gate being the result."""

_INPUTS: Final = (0xAAAA, 0xCCCC, 0xF0F0, 0xFF00)
"""The functions that equal each input; input j is index bit j."""
_FALSE: Final = 11
"""The operand that stands for False; 0 to 3 are the inputs, and 4 + i is gate i."""


class StructureLibrary(NamedTuple):
    """NPN classes and structures as arrays.

    Attributes:
        kind: (65536,) the class of each function.
        wiring, phases: (65536, 4) and (65536,) the transform of each function f from its class's
            representative. Input j of the representative is input wiring[f, j], complemented if
            phases[f] has bit j; the result is complemented if phases[f] has bit 4.
        start: (classes + 1,) the first structure of each class.
        length: (S,) the number of gates of each structure.
        gates: (S, 7, 3) the two operands and the table of each gate. The last gate is the result;
            if there is no gate, the first operand is.
    """

    kind: Ints
    wiring: Ints
    phases: Ints
    start: Ints
    length: Ints
    gates: Ints


@cache
def structure_library(max_structures: int = 16) -> StructureLibrary:
    """Return the structures of all functions of four inputs, up to `max_structures` per class.

    They are the chains of the class's representative, also with inputs moved in ways that leave
    its function as it is.
    """
    transforms = [(p, n) for p in permutations(range(4)) for n in range(16)]
    wirings = np.array([wiring for wiring, _ in transforms])
    masks = np.array([mask for _, mask in transforms])
    source = np.array([_source(wiring, mask) for wiring, mask in transforms])  # (768, 16)
    kind = np.full(1 << 16, -1, np.int64)
    wiring, phases = np.zeros((1 << 16, 4), np.int64), np.zeros(1 << 16, np.int64)
    structures: list[list[Chain]] = []
    for function, chains in _representatives().items():
        images = (function >> source & 1) @ (1 << np.arange(16))
        for complement in (0, 1):
            image = images ^ 0xFFFF * complement
            kind[image], wiring[image], phases[image] = (
                len(structures),
                wirings,
                masks | complement << 4,
            )
        same = np.flatnonzero((images == function) | (images == function ^ 0xFFFF))
        moves = [(*transforms[i], int(images[i] != function)) for i in same]
        structures.append(_variants(chains, moves, max_structures))
    length = [len(chain) for chains in structures for chain in chains]
    gates = np.zeros((len(length), MAX_GATES, 3), np.int64)
    for row, chain in zip(gates, (chain for chains in structures for chain in chains), strict=True):
        row[: len(chain)] = np.reshape(chain, (-1, 3))
    gates[0, 0], gates[1, 0] = (_FALSE, 0, 0), (0, 0, 0)  # Constants and inputs need no gate.
    start = np.cumsum([0, *map(len, structures)])
    return StructureLibrary(kind, wiring, phases, start, np.array(length), gates)


def _representatives() -> dict[int, list[Chain]]:
    """Return the chains of each representative, by its function."""
    chains: dict[int, list[Chain]] = {0: [()], _INPUTS[0]: [()]}
    for word in CHAINS.split():
        gates = zip(word[::3], word[1::3], word[2::3], strict=True)
        chain = tuple((int(a, 16), int(b, 16), OPERATIONS[op]) for a, b, op in gates)
        chains.setdefault(chain_functions(chain)[-1], []).append(chain)
    return chains


def chain_functions(chain: Chain) -> list[int]:
    """Return the function of each gate of a chain, 16 bits each."""
    nets = list(_INPUTS)
    for a, b, table in chain:
        x, y = nets[a], nets[b]
        rows = (~x & ~y, ~x & y, x & ~y, x & y)
        nets.append(sum(row for i, row in enumerate(rows) if table >> i & 1) & 0xFFFF)
    return nets[4:]


def _source(wiring: tuple[int, ...], mask: int) -> list[int]:
    """Return the bit that each of 16 bits comes from if input j becomes input wiring[j].

    Input j is complemented if `mask` has bit j.
    """
    move = list(enumerate(wiring))
    return [sum(((i >> w & 1) ^ (mask >> j & 1)) << j for j, w in move) for i in range(16)]


def _variants(chains: list[Chain], moves: list[tuple[Any, int, int]], limit: int) -> list[Chain]:
    """Return the chains with their inputs moved in ways that leave the function as it is."""
    variants: dict[tuple[int, ...], Chain] = {}
    for wiring, mask, complement in moves:
        for chain in chains:
            moved = _moved(chain, wiring, mask, complement)
            # Two chains are the same if their gates compute the same up to complements.
            key = tuple(sorted(min(f, f ^ 0xFFFF) for f in chain_functions(moved)))
            variants.setdefault(key, moved)
            if len(variants) == limit:
                return list(variants.values())
    return list(variants.values())


def _moved(chain: Chain, wiring: tuple[int, ...], mask: int, complement: int) -> Chain:
    """Return the chain with input j fed by input wiring[j], complemented if `mask` has bit j.

    `complement` says whether its result is complemented too.
    """
    gates = []
    for a, b, table in chain:
        if a < 4 and mask >> a & 1:
            table = table >> 2 | (table & 3) << 2
        if b < 4 and mask >> b & 1:
            table = (table & 10) >> 1 | (table & 5) << 1
        gates.append((wiring[a] if a < 4 else a, wiring[b] if b < 4 else b, table))
    if complement and gates:
        gates[-1] = (*gates[-1][:2], gates[-1][2] ^ 15)
    return tuple(gates)
