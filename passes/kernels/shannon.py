"""Split wide gates by Shannon's expansion: two cofactors and a multiplexer."""

from __future__ import annotations

import numpy as np

from lgir.ir.body import Body
from lgir.ir.truth_tables import cofactor, drop_first_input, mux_table


def split_wide(body: Body, k: int) -> Body:
    """Return the body with gates of more than k inputs split until none is left; k is at least 3.

    The result is the same object if no gate has more than k inputs.
    """
    while (body.arity() > k).any():
        body = _split_once(body, k)
    return body


def _split_once(body: Body, k: int) -> Body:
    wide = np.flatnonzero(body.arity() > k)
    size = np.ones(body.num_gates, np.int64)
    size[wide] = 3  # A wide gate becomes its two cofactors and the multiplexer.
    position = body.first_gate + np.cumsum(size) - 1  # The new net of each old gate.
    new_id = np.arange(body.num_nets, dtype=np.int32)
    new_id[body.first_gate :] = position
    width = max(body.k, 3)
    body = body.widened(width)
    operands = new_id[body.fanin]
    fanin = np.zeros((int(size.sum()), width), np.int32)
    table = np.zeros(len(fanin), body.table.dtype)
    fanin[position - body.first_gate] = operands
    table[position - body.first_gate] = body.table
    mux = position[wide] - body.first_gate
    for value, row in ((False, mux - 2), (True, mux - 1)):
        fanin[row, :-1] = operands[wide, 1:]
        half = cofactor(body.table[wide], width, 0, value)
        table[row] = drop_first_input(half, width)
    fanin[mux] = 0
    fanin[mux, 0] = operands[wide, 0]
    fanin[mux, 1], fanin[mux, 2] = position[wide] - 2, position[wide] - 1
    table[mux] = mux_table(width)
    return Body.build(body.taps, fanin, table, new_id[body.outputs])
