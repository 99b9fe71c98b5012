"""`rewrite`: small cones of two-input gates become smaller ones, wherever that saves gates.

Cuts of up to four leaves and the exact structures of all their functions
(`lgir.passes.kernels.resynthesis`). For patterns of one's own see `lgir.passes.rules`.
"""

from __future__ import annotations

from lgir.ir.graph import Graph
from lgir.passes.simplify import clean, map_bodies
from lgir.registry import register_pass


@register_pass("rewrite")
def rewrite(graph: Graph) -> Graph:
    """Replace small cones by the smallest gates for their function, sharing what is there."""
    from lgir.passes.kernels.resynthesis import resynthesise  # numba takes a while to import

    graph = clean(graph)
    while (smaller := map_bodies(graph, resynthesise)) is not graph:
        graph = clean(smaller)  # a cone that became a net may make others equal
    return graph
