"""`lut-map`: cover bodies with look-up tables of up to k inputs, for area or for depth.

Algorithm: elimination of gates into all of their readers (`lgir.passes.kernels.elimination`),
before and after recovery of exact area over priority cuts (`lgir.passes.kernels.cover`; Mishchenko
et al., ICCAD 2007). It starts from the gates as they are, which suits the shallow random wiring of
logic gate networks, and from the cover of least area flow, which suits deep logic that reconverges.
The smaller result is kept.

Option `k`: inputs per table, 3 to 6. Option `goal`: "area" for as few tables as possible, whatever
their depth; "depth" for as few as possible among the covers whose outputs are no deeper than
priority cuts find they have to be. Option `slack`: levels that the goal of depth may be missed by.
Levels are those of one body. An inverter adds none, since tables absorb it, and only outputs that
are complements of a net have one.

Cost: linear in the gates, with up to twelve cuts per net, in kernels that numba compiles at their
first use, and a few vectorized rounds of elimination.
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

GOALS = ("area", "depth")


@register_pass("lut-map")
def lut_map(graph: Graph, k: int = 3, goal: str = "area", slack: int = 0) -> Graph:
    """Cover logic with look-up tables of at most k inputs (3 to 6), as few or as shallow as can be.

    Raises:
        PassError: k, the goal or the slack is out of range, or slack is given without that goal.
    """
    if not 3 <= k <= MAX_FANIN:
        raise PassError(f"lut-map{{k={k}}}: k must be from 3 to {MAX_FANIN}")
    if goal not in GOALS:
        raise PassError(f"lut-map{{goal={goal}}}: the goal must be area or depth")
    if slack < 0 or (slack and goal == "area"):
        raise PassError(
            f"lut-map{{goal={goal},slack={slack}}}: slack must be 0 or more levels, and needs "
            "goal=depth; goal=area lets tables be as deep as they like"
        )
    graph = clean(graph)
    map_one = partial(map_body, k=k, slack=slack if goal == "depth" else None)
    while (mapped := graph.map_bodies(map_one)) is not graph:
        graph = clean(mapped)  # Composed tables may ignore a net or equal each other.
        if goal == "depth":  # What is within the slack now must not get deeper.
            map_one = partial(map_body, k=k, slack=0)
    return graph


def map_body(body: Body, k: int, slack: int | None = None) -> Body:
    """Return the body in tables of at most k inputs; the same object if that improves nothing.

    Args:
        body: a body in the normal form that `clean` leaves.
        k: the inputs per table, 3 to 6.
        slack: levels that the outputs may be deeper than they have to be, None for any number.
    """
    # Importing numba takes a while.
    from lgir.passes.kernels.cover import CutCovers, LutCover
    from lgir.passes.kernels.elimination import eliminate

    narrow = split_wide(body, k).widened(k)
    covers = CutCovers(narrow, k, slack=slack)
    results = []
    for start in (LutCover.of_gates(narrow), covers.best()):
        # Elimination leaves no output deeper: a reader's operands were below what it absorbs.
        improved = covers.improved(eliminate(narrow, start))
        results.append(eliminate(narrow, improved))
    smallest = min(results, key=len)
    too_deep = slack is not None and covers.depth(LutCover.of_gates(narrow)) > covers.bound
    if len(smallest) < narrow.num_gates or too_deep:
        return smallest.body(narrow)
    return body if narrow.num_gates == body.num_gates else narrow
