"""`rewrite`: replace small cones of two-input gates by smaller ones that compute the same.

Algorithm: DAG-aware rewriting over cuts of up to four leaves, Mishchenko, Chatterjee, Brayton,
"DAG-aware AIG rewriting", DAC 2006, with minimal structures for all 222 NPN classes of four inputs
(`lgir.passes.kernels.resynthesis`). `lgir.passes.rules` applies patterns of one's own.

Options: none. Cost: linear in the gates, with up to eight cuts per net and sixteen structures per
cut, in kernels that numba compiles at their first use (some ten seconds, then kept on disk).
"""

from __future__ import annotations

from lgir.ir.graph import Graph
from lgir.passes.simplify import clean
from lgir.registry import register_pass


@register_pass("rewrite")
def rewrite(graph: Graph) -> Graph:
    """Replace small cones by the smallest gates for their function, sharing existing gates."""
    from lgir.passes.kernels.resynthesis import resynthesize  # Importing numba takes a while.

    graph = clean(graph)
    while (smaller := graph.map_bodies(resynthesize)) is not graph:
        graph = clean(smaller)  # A cone that became a net may make other gates equal.
    return graph
