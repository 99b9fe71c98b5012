"""Outputs of two graphs, as literals that are compared bit by bit or as sums."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lgir.equivalence.arrays import ElementLiterals
from lgir.equivalence.value_map import ValueMap
from lgir.ir.nodes import GroupSum, Reshape


@dataclass
class OutputBits:
    """One output of one graph.

    Attributes:
        bits: the literals of its bits, or of those that `op` sums, (n,).
        op: the GroupSum that sums them, or None.
        raw: the name of the graph input that the output hands on as numbers, or None.
    """

    bits: ElementLiterals
    op: GroupSum | None = None
    raw: str | None = None

    @staticmethod
    def of(values: ValueMap, graph: int, name: str) -> OutputBits:
        """Return the output `name` of a graph, looking through reshapes."""
        node = values.producer(graph, name)
        while node is not None and isinstance(node.op, Reshape):
            name = node.inputs[0]
            node = values.producer(graph, name)
        if node is not None and isinstance(node.op, GroupSum):
            return OutputBits(values.literals(graph, node.inputs[0]).ravel(), node.op)
        if values.graphs[graph].values[name].dtype == "bit":
            return OutputBits(values.literals(graph, name).ravel())
        return OutputBits(np.zeros(0, np.int64), raw=name)

    @property
    def groups(self) -> int:
        """Return the number of groups; without a sum, each bit is one."""
        return len(self.bits) if self.op is None else self.op.groups

    def group_bits(self, group: int) -> ElementLiterals:
        """Return the literals of one group."""
        result: ElementLiterals = self.bits.reshape(self.groups, -1)[group]
        return result

    def linear_form(self, group: int) -> tuple[dict[int, int], int]:
        """Return a group's sum: the multiple of each net, and a constant.

        A complemented bit x counts as 1 - x.
        """
        bits = self.group_bits(group)
        nets, place = np.unique(bits >> 1, return_inverse=True)
        complements = np.bincount(place, bits & 1)
        multiples = np.bincount(place) - 2 * complements
        constant = int(complements.sum())
        form = dict(zip(nets.tolist(), multiples.astype(int).tolist(), strict=True))
        form.pop(0, None)
        return {net: n for net, n in form.items() if n}, constant


@dataclass
class OutputPair:
    """The outputs of two graphs that must be equal."""

    name: str
    left: OutputBits
    right: OutputBits

    def is_equal(self) -> bool:
        """Return whether all groups are seen to be equal."""
        return not self.unequal_groups()

    def unequal_groups(self) -> list[int]:
        """Return the groups that are not seen to be equal; without sums, each bit is a group."""
        left, right = self.left, self.right
        if left.op is None and right.op is None:
            return np.flatnonzero(left.bits != right.bits).tolist()
        return [g for g in range(left.groups) if not self._has_same_score(g)]

    def _has_same_score(self, group: int) -> bool:
        left_form, left_constant = self.left.linear_form(group)
        right_form, right_constant = self.right.linear_form(group)
        if left_form != right_form or self.left.op is None or self.right.op is None:
            return False
        low, high = (sum(n for n in left_form.values() if n * sign > 0) for sign in (-1, 1))
        counts = np.arange(low, high + 1)
        left_scores = _score_bits(self.left.op, counts + left_constant)
        return np.array_equal(left_scores, _score_bits(self.right.op, counts + right_constant))

    def restricted_to(self, groups: list[int]) -> OutputPair:
        """Return the pair of some of the groups alone."""
        left, right = (
            OutputBits(
                x.bits.reshape(x.groups, -1)[groups].ravel(),
                None if x.op is None else replace(x.op, groups=len(groups)),
            )
            for x in (self.left, self.right)
        )
        return OutputPair(self.name, left, right)

    def unmatched_bits(self) -> list[tuple[int, int]]:
        """Return pairs of literals of which one side of a group has the first, the other not."""
        pairs: list[tuple[int, int]] = []
        for group in self.unequal_groups():
            left, right = (Counter(x.group_bits(group).tolist()) for x in (self.left, self.right))
            pairs += zip((left - right).elements(), (right - left).elements(), strict=False)
        return pairs

    def merge(self, literal: int, equal: int) -> None:
        """Replace, on both sides, `equal` by `literal`, which it was proved to be the same as."""
        for x in (self.left, self.right):
            phase = (x.bits ^ equal) & 1
            x.bits = np.where(x.bits >> 1 == equal >> 1, literal ^ phase, x.bits)


def _score_bits(op: GroupSum, counts: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """Return the scores of some counts, as bits, so that 0.0 and -0.0 differ."""
    scores = (counts.astype(np.float32) + np.float32(op.beta)) / np.float32(op.tau)
    return scores.view(np.int32)
