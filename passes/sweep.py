"""`sweep`, or `fraig`: merge nets that are equal for every input, however they are built.

Algorithm: SAT sweeping with simulation (fraiging), Mishchenko, Chatterjee, Jiang, Brayton, "FRAIGs:
a unifying representation for logic synthesis and verification", ERL Technical Report, 2005. Random
simulation guesses classes of equal nets; truth tables of windows, or SAT, prove the guesses. The
engine is `lgir.equivalence.sweeping`.

The engine runs on each body with its taps as free inputs, except that thresholds of one number
imply each other. What is equal for everything that taps can read is equal at every position, so
convolutions stay rolled.

Cost: a simulation of 2,048 samples, then truth tables, and SAT for what these leave open; at most
`seconds`. Needs python-sat.
"""

from __future__ import annotations

import contextlib
import time

import numpy as np

from lgir.equivalence.arrays import Index, Literals
from lgir.equivalence.effort import Effort, TimeUp
from lgir.equivalence.implications import Implications
from lgir.equivalence.pair_solver import solver_class
from lgir.equivalence.sweeping import Sweep, sort_by_level
from lgir.errors import LgirError, PassError
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import full_mask, variable_table
from lgir.ir.types import FALSE, FIRST_TAP
from lgir.passes.dce import dce
from lgir.passes.kernels.bodies import map_named_bodies
from lgir.passes.simplify import cse, fold
from lgir.passes.thermometer import ThresholdOrder, tap_orders
from lgir.registry import register_pass


@register_pass("fraig")
@register_pass("sweep")
def sweep(graph: Graph, conflicts: int = 1000, seconds: float = 60.0, seed: int = 0) -> Graph:
    """Merge nets that are equal or complementary for every input, proved by SAT (python-sat).

    Args:
        conflicts: conflicts of the solver per pair of nets that look equal, after which both stay.
        seconds: time after which what is proved is merged and the rest is left as it is.
        seed: seed of the simulated samples that nets are compared on first.

    Raises:
        PassError: python-sat is not installed, or an option is out of range.
    """
    for name, value in (("conflicts", conflicts), ("seconds", seconds)):
        if not value > 0:
            raise PassError(f"sweep{{{name}={value}}}: {name} must be more than 0")
    try:
        solver_class()
    except LgirError as error:
        raise PassError(f"sweep: {error}") from error
    effort = Effort(conflicts, deadline=time.monotonic() + seconds, seed=seed)
    orders = tap_orders(graph)
    swept = map_named_bodies(graph, lambda name, body: sweep_body(body, orders.get(name), effort))
    if swept is graph:
        return graph
    result: Graph = dce(cse(fold(swept)))
    return graph if result == graph else result


def sweep_body(body: Body, order: ThresholdOrder | None, effort: Effort) -> Body:
    """Return the body with gates that equal an earlier net as buffers or inverters of that net.

    The result is the same object if no gate equals an earlier net. `order` says which nets imply
    each other, None if none do.
    """
    if not body.num_gates:
        return body
    implications = Implications.none(body.num_taps)
    if order is not None:
        taps = slice(FIRST_TAP, body.first_gate)
        implications = Implications.build(order.group[taps], order.rank[taps])
    levelized = sort_by_level(body)
    engine = Sweep(levelized, implications, effort)
    with contextlib.suppress(TimeUp):  # What was proved before the time ran out holds.
        engine.run()
    literal = engine.literal[body.first_gate :]
    merged = np.flatnonzero(literal != 2 * np.arange(body.first_gate, body.num_nets))
    return _with_buffers(levelized, merged, literal[merged]) if len(merged) else body


def _with_buffers(body: Body, gates: Index, literal: Literals) -> Body:
    """Return the body with the given gates as buffers or inverters of the nets of `literal`."""
    buffer, full = variable_table(body.k, 0), full_mask(body.k)
    fanin, table = body.fanin.copy(), body.table.copy()
    fanin[gates] = FALSE
    fanin[gates, 0] = literal >> 1
    table[gates] = np.where(literal & 1, full ^ buffer, buffer).astype(table.dtype)
    return Body.build(body.taps, fanin, table, body.outputs)
