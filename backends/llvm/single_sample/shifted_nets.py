"""Merge the nets of a convolution body that are shifted copies of each other.

Two nets that compute the same function of taps at a constant offset are one net, which is evaluated
at every cell and read at another cell. So the window copies of a fused pool become one cone, and
the pool becomes the OR of one map with itself, read at several shifts.
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
class ShiftedNets:
    """The gates of a body as arrays. Net ids are the body's.

    Nets below `first_gate` are constants and taps; gate g computes net `first_gate + g`.

    Attributes:
        first_gate: the number of constants and taps.
        fanin: (G, K) the operands' net ids, K >= 2. Gate g reads the first `arity[g]` >= 1 of
            them; a gate of one input has its operand twice.
        shift: (G, K) the shift of each operand: how many bytes further on than the gate's own
            cell it is read.
        table: (G,) uint64 truth tables over K inputs.
        arity: (G,) the number of operands of each gate.
        by_level: the gate numbers of each level, in topological order.
        outputs: (C,) the net of each output.
        output_shifts: (C, m) the shifts of that net of which the OR is the output; a shift may be
            repeated.
    """

    first_gate: int
    fanin: Ints
    shift: Ints
    table: npt.NDArray[np.uint64]
    arity: Ints
    by_level: list[Ints]
    outputs: Ints
    output_shifts: Ints

    @property
    def num_nets(self) -> int:
        """The number of net ids: constants, taps and gates."""
        return self.first_gate + len(self.fanin)


def dense_nets(body: Body) -> ShiftedNets:
    """Return the nets of a body that is evaluated at one position. No net is merged."""
    identity, by_level = np.arange(body.num_nets), body.gates_by_level()
    return _replace_nets(body, by_level, identity, np.zeros(body.num_nets, np.int64))


def convolution_nets(body: Body, pitch: Ints) -> ShiftedNets:
    """Return one net per class of shifted copies, with OR pools as outputs of several shifts.

    `pitch` (rank,) is the number of bytes from cell to cell along each axis.
    """
    by_level = body.gates_by_level()
    cls, anchor = translation_classes(body, by_level)
    _, first, inverse = np.unique(cls, return_index=True, return_inverse=True)
    original = first[inverse.ravel()].astype(np.int64)
    nets = _replace_nets(body, by_level, original, (anchor - anchor[original]) @ pitch)
    return _absorb_pools(nets)


def _replace_nets(body: Body, by_level: list[Ints], original: Ints, shift: Ints) -> ShiftedNets:
    """Return the gates of `body` with each net n replaced by `original[n]` at `shift[n]`."""
    two_inputs = body.widened(2)
    arity = np.maximum(body.arity().astype(np.int64), 1)
    fanin = two_inputs.fanin.copy()
    fanin[:, 1] = np.where(arity > 1, fanin[:, 1], fanin[:, 0])
    return ShiftedNets(
        body.first_gate,
        original[fanin],
        shift[fanin],
        two_inputs.table.astype(np.uint64),
        arity,
        by_level,
        original[body.outputs],
        shift[body.outputs, None],
    )


def _absorb_pools(nets: ShiftedNets) -> ShiftedNets:
    """Replace every output that is an OR of shifted copies of one net by that net and its shifts.

    `base[n]` is the net of which n is an OR, and `patterns[pattern[n]]` are the shifts.
    """
    base, pattern = np.arange(nets.num_nets), np.zeros(nets.num_nets, np.int64)
    patterns: list[tuple[int, ...]] = [(0,)]
    or_table = widen_table(np.array([OR], np.uint8), 2, nets.fanin.shape[1])[0]
    is_or = (nets.table == or_table) & (nets.arity == 2)
    for level in nets.by_level:
        gates = level[is_or[level]]
        left, right = nets.fanin[gates, 0], nets.fanin[gates, 1]
        same_base = base[left] == base[right]
        gates, left, right = gates[same_base], left[same_base], right[same_base]
        keys = np.column_stack(
            [pattern[left], nets.shift[gates, 0], pattern[right], nets.shift[gates, 1]]
        )
        distinct_keys, key_of_gate = np.unique(keys, axis=0, return_inverse=True)
        for i, (p, p_shift, q, q_shift) in enumerate(distinct_keys.tolist()):
            shifts = {s + p_shift for s in patterns[p]} | {s + q_shift for s in patterns[q]}
            if len(shifts) <= MAX_POOL:
                members = key_of_gate.ravel() == i
                pooled = nets.first_gate + gates[members]
                base[pooled], pattern[pooled] = base[left[members]], len(patterns)
                patterns.append(tuple(sorted(shifts)))
    output_patterns = [patterns[p] for p in pattern[nets.outputs].tolist()]
    most = max(map(len, output_patterns))
    shifts_by_output = np.array([[*p, *p[:1] * (most - len(p))] for p in output_patterns], np.int64)
    return replace(
        nets, outputs=base[nets.outputs], output_shifts=nets.output_shifts + shifts_by_output
    )
