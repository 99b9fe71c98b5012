"""A body's nets as the latency path sees them: where there are positions, nets that are copies of
each other, shifted, are one net, evaluated at every cell and read from another cell on.

So the window copies of a fused pool are one cone, and the pool an OR of one map with itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering.pools import MAX_POOL, translation_classes
from lgir.ir.body import Body
from lgir.ir.truth_tables import OR, widen_table

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Nets:
    """Gates as arrays. Ids are the body's: those below `first` are leaves, gate g is `first + g`.

    Attributes:
        fanin: (G, K) operands' ids, K >= 2, of which gate g reads `arity[g]` >= 1; of one input,
            it is there twice.
        shift: (G, K) how much further on, in bytes, an operand is read than the gate itself is.
        table: (G,) uint64 over K inputs.
        by_level: gate numbers, level by level.
        bases: (C,) the net that makes an output.
        copies: (C, m) shifts of it that are ORed, repeats allowed.
    """

    first: int
    fanin: Ints
    shift: Ints
    table: npt.NDArray[np.uint64]
    arity: Ints
    by_level: list[Ints]
    bases: Ints
    copies: Ints

    @property
    def size(self) -> int:
        """Number of nets."""
        return self.first + len(self.fanin)


def dense_nets(body: Body) -> Nets:
    """The nets as they are."""
    as_it_is, by_level = np.arange(body.num_nets), body.gates_by_level()
    return _nets(body, by_level, as_it_is, np.zeros(body.num_nets, np.int64), pools=False)


def shifted_nets(body: Body, pitch: Ints) -> Nets:
    """One net of each class of shifted copies; `pitch` (rank,) is bytes from cell to cell."""
    by_level = body.gates_by_level()
    cls, anchor = translation_classes(body, by_level)
    _, first, inverse = np.unique(cls, return_index=True, return_inverse=True)
    original = first[inverse.ravel()].astype(np.int64)
    return _nets(body, by_level, original, (anchor - anchor[original]) @ pitch, pools=True)


def _nets(body: Body, by_level: list[Ints], original: Ints, move: Ints, *, pools: bool) -> Nets:
    """The gates of `body`, each net replaced by its original, moved."""
    wide = body.widened(2)
    arity = np.maximum(body.arity().astype(np.int64), 1)
    fanin = wide.fanin.copy()
    fanin[:, 1] = np.where(arity > 1, fanin[:, 1], fanin[:, 0])
    nets = Nets(
        body.first_gate,
        original[fanin],
        move[fanin],
        wide.table.astype(np.uint64),
        arity,
        by_level,
        original[body.outputs],
        move[body.outputs, None],
    )
    return _pooled(nets) if pools else nets


def _pooled(nets: Nets) -> Nets:
    """With outputs that are ORs of copies of one net read so."""
    base, pattern = np.arange(nets.size), np.zeros(nets.size, np.int64)
    patterns: list[tuple[int, ...]] = [(0,)]
    table = widen_table(np.array([OR], np.uint8), 2, nets.fanin.shape[1])[0]
    is_or = (nets.table == table) & (nets.arity == 2)
    for gates in nets.by_level:
        gates = gates[is_or[gates]]
        left, right = nets.fanin[gates, 0], nets.fanin[gates, 1]
        same = base[left] == base[right]
        gates, left, right = gates[same], left[same], right[same]
        keys = np.column_stack(
            [pattern[left], nets.shift[gates, 0], pattern[right], nets.shift[gates, 1]]
        )
        kinds, kind = np.unique(keys, axis=0, return_inverse=True)
        for i, (p, by, q, further) in enumerate(kinds.tolist()):
            copies = {x + by for x in patterns[p]} | {x + further for x in patterns[q]}
            if len(copies) <= MAX_POOL:
                mine = kind.ravel() == i
                own = nets.first + gates[mine]
                base[own], pattern[own] = base[left[mine]], len(patterns)
                patterns.append(tuple(sorted(copies)))
    found = [patterns[p] for p in pattern[nets.bases].tolist()]
    most = max(map(len, found))
    shifts = np.array([[*p, *p[:1] * (most - len(p))] for p in found], np.int64)
    return replace(nets, bases=base[nets.bases], copies=nets.copies + shifts)
