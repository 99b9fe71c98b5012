"""`lut-map`: cover bodies with look-up tables of up to k inputs, as few as possible.

Algorithm: elimination of gates into all of their readers (`lgir.passes.kernels.elimination`),
before and after recovery of exact area over priority cuts (`lgir.passes.kernels.cover`; Mishchenko
et al., ICCAD 2007). It starts from the gates as they are, which suits the shallow random wiring of
logic gate networks, and from the cover of least area flow, which suits deep logic that reconverges.
The smaller result is kept.

Option `k`: inputs per table, 3 to 6. Cost: linear in the gates, with up to twelve cuts per net, in
kernels that numba compiles at their first use, and a few vectorized rounds of elimination.
"""

from __future__ import annotations

from functools import partial

from lgir.errors import PassError
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import MAX_FANIN
from lgir.passes.kernels.shannon import split_wide
from lgir.passes.simplify import clean
from lgir.registry import register_pass


@register_pass("lut-map")
def lut_map(graph: Graph, k: int = 3) -> Graph:
    """Cover logic with look-up tables of at most k inputs (3 to 6), as few as possible.

    Raises:
        PassError: k is out of range.
    """
    if not 3 <= k <= MAX_FANIN:
        raise PassError(f"lut-map{{k={k}}}: k must be from 3 to {MAX_FANIN}")
    graph = clean(graph)
    while (mapped := graph.map_bodies(partial(map_body, k=k))) is not graph:
        graph = clean(mapped)  # Composed tables may ignore a net or equal each other.
    return graph


def map_body(body: Body, k: int) -> Body:
    """Return the body in tables of at most k inputs; the same object if that saves nothing."""
    # Importing numba takes a while.
    from lgir.passes.kernels.cover import CutCovers, LutCover
    from lgir.passes.kernels.elimination import eliminate

    narrow = split_wide(body, k).widened(k)
    covers = CutCovers(narrow, k)
    results = []
    for start in (LutCover.of_gates(narrow), covers.best()):
        improved = covers.improved(eliminate(narrow, start))
        results.append(eliminate(narrow, improved))
    smallest = min(results, key=len)
    if len(smallest) < narrow.num_gates:
        return smallest.body(narrow)
    return body if narrow.num_gates == body.num_gates else narrow
