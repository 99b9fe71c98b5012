"""`sweep`: nets that are equal for every input are merged, however differently they are built.

The engine of `lgir.equivalence.sweeping` (fraiging: guessed by simulation, proved by truth tables
or SAT) runs on each body with its taps as free inputs, thresholds of one number implying each
other. What is equal for all that taps can read is equal at every position, so convolutions stay
rolled.
"""

from __future__ import annotations

import contextlib
import time

import numpy as np

from lgir.equivalence.sweeping import Effort, Index, Literals, Sweep, TimeUp, by_level, solver_class
from lgir.equivalence.windows import Chains
from lgir.errors import LgirError, PassError
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import full_mask, variable_table
from lgir.ir.types import FALSE
from lgir.passes.dce import dce
from lgir.passes.simplify import cse, fold, map_named_bodies
from lgir.passes.thermometer import Order, tap_orders
from lgir.registry import register_pass


@register_pass("fraig")
@register_pass("sweep")
def sweep(graph: Graph, conflicts: int = 1000, seconds: float = 60.0, seed: int = 0) -> Graph:
    """Merge nets that are equal or complementary for every input, proved by SAT (python-sat).

    Args:
        conflicts: of the solver for each pair of nets that look equal, after which both stay.
        seconds: after which what is proved is merged and the rest left as it is.
        seed: of the simulated samples that nets are compared on first.

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
    swept = _sweep_bodies(graph, effort)
    if swept is graph:
        return graph
    result: Graph = dce(cse(fold(swept)))
    return result


def _sweep_bodies(graph: Graph, effort: Effort) -> Graph:
    orders = tap_orders(graph)
    return map_named_bodies(graph, lambda name, body: swept_body(body, orders.get(name), effort))


def swept_body(body: Body, order: Order | None, effort: Effort) -> Body:
    """The body with gates that equal an earlier net as buffers or inverters of it.

    The same object where there are none. `order` says which nets imply each other.
    """
    if not body.num_gates:
        return body
    chains = Chains.none(body.num_taps)
    if order is not None:
        taps = slice(2, body.first_gate)
        chains = Chains.build(order.group[taps], order.rank[taps])
    ordered = by_level(body)
    engine = Sweep(ordered, chains, effort)
    with contextlib.suppress(TimeUp):  # what was proved by then holds
        engine.run()
    own = engine.literal[body.first_gate :]
    merged = np.flatnonzero(own != 2 * np.arange(body.first_gate, body.num_nets))
    return _substituted(ordered, merged, own[merged]) if len(merged) else body


def _substituted(body: Body, merged: Index, literal: Literals) -> Body:
    buffer, full = variable_table(body.k, 0), full_mask(body.k)
    fanin, table = body.fanin.copy(), body.table.copy()
    fanin[merged] = FALSE
    fanin[merged, 0] = literal >> 1
    table[merged] = np.where(literal & 1, full ^ buffer, buffer).astype(table.dtype)
    return Body.build(body.taps, fanin, table, body.outputs)
