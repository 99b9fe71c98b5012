"""The scores of a graph's first output: which GroupSum gives them, and if counts order them."""

from __future__ import annotations

import numpy as np

from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum
from lgir.ir.simulate import group_scores


def first_sum(graph: Graph) -> tuple[GroupSum, int] | None:
    """Return the GroupSum that gives the first output and its bits per group, or None."""
    producer = graph.producer(graph.outputs[0])
    if producer is None or not isinstance(producer.op, GroupSum):
        return None
    return producer.op, graph.values[producer.inputs[0]].size // producer.op.groups


def scores_ascend(graph: Graph) -> bool:
    """Return whether a higher count always has a higher score in the first output.

    If so, the first class of the highest count is that of the highest score. It is not so if
    float32 rounds the scores of different counts to one number.
    """
    first = first_sum(graph)
    if first is None:
        return False
    op, bits = first
    scores = group_scores(np.arange(bits + 1), op)
    return bool((scores[1:] > scores[:-1]).all())  # infinite ones have no difference
