"""`fold` and `cse`: constants, buffers, inverters and ignored inputs; equal gates and channels.

Algorithm: constant propagation, inverter absorption and structural hashing as in AIG packages, on
gates of up to six inputs and across nodes (`lgir.passes.kernels.graph_normalizer`).

Options: none. Cost: linear, a few vectorized passes per level of a body, some 60 bytes per gate.
"""

from __future__ import annotations

from lgir.ir.graph import Graph
from lgir.passes.dce import dce
from lgir.passes.kernels.graph_normalizer import GraphNormalizer
from lgir.registry import register_pass


@register_pass("fold")
def fold(graph: Graph) -> Graph:
    """Fold constants, buffers, inverters and inputs that a gate ignores; bypass empty nodes.

    Inverters move into the tables of their readers. A gate that turns out to be constant, or equal
    to a net or its complement, goes; what only that gate read is left to `dce`.
    """
    return GraphNormalizer(graph, share=False).run()


@register_pass("cse")
def cse(graph: Graph) -> Graph:
    """Merge gates, taps, channels and nodes that compute the same or the complement.

    A channel that only copies another is read past, unless that would join a further value to a
    node. Structural hashing works on normalized operands, so `cse` also folds what `fold` folds.
    Taps are put in lexicographic order, which a shift of all of them preserves.
    """
    return GraphNormalizer(graph, share=True).run()


def clean(graph: Graph) -> Graph:
    """Return the graph after `fix(fold,cse,dce)`: no leftovers, and gates in normal form."""
    while True:
        cleaner: Graph = dce(cse(fold(graph)))
        if cleaner is graph:
            return graph
        graph = cleaner
