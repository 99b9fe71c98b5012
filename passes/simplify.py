"""`fold` and `cse`: the normalizing sweep of `passes.kernels.normalize` over a graph's bodies.

Nodes are visited in topological order and carry what is known of their channels to their readers
(`lgir.passes.kernels.facts`), so constants and equal channels cross nodes, thresholds and reshapes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body, IntArray, Mask
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Node, Op, Reshape, Threshold
from lgir.ir.sets import distinct
from lgir.ir.types import FIRST_TAP, Value
from lgir.passes.dce import dce
from lgir.passes.kernels.facts import (
    CONST_FALSE,
    CONST_TRUE,
    Copies,
    copied_channels,
    logic_facts,
    no_facts,
    reshape_facts,
    tap_reach,
    threshold_facts,
)
from lgir.passes.kernels.literals import Literals
from lgir.passes.kernels.normalize import normalize
from lgir.registry import register_pass


@register_pass("fold")
def fold(graph: Graph) -> Graph:
    """Fold constants, buffers, inverters and inputs that a gate ignores; bypass empty nodes.

    Inverters move into the tables of their readers. A gate that turns out to be constant or equal
    to a net or its complement goes; what it alone read is left to `dce`.
    """
    return _Sweep(graph, share=False).run()


@register_pass("cse")
def cse(graph: Graph) -> Graph:
    """Merge gates, taps, channels and nodes that compute the same or the complement.

    A channel that only hands on another is read past, where that joins no further value to a node.
    Structural hashing on normalised operands: folds as `fold` does on the way. Taps are put in
    lexicographic order, which a shift of all of them preserves.
    """
    return _Sweep(graph, share=True).run()


def clean(graph: Graph) -> Graph:
    """The graph after `fix(fold,cse,dce)`: what passes leave behind is gone, gates are normal."""
    while True:
        cleaner: Graph = dce(cse(fold(graph)))
        if cleaner is graph:
            return graph
        graph = cleaner


class _Sweep:
    """One pass over the nodes of a graph."""

    def __init__(self, graph: Graph, share: bool) -> None:
        self.graph = graph
        self.share = share
        self.facts: dict[str, Literals] = {v.name: no_facts(v) for v in graph.inputs}
        self.copies: dict[str, Copies] = {}
        self.alias: dict[str, str] = {}
        self.reshaped: dict[str, str] = {}  # output of a Reshape -> what it reads
        self.seen: dict[tuple[str, tuple[str, ...]], list[tuple[Op, str]]] = {}

    def run(self) -> Graph:
        nodes = []
        for old in self.graph.nodes:
            inputs = tuple(self.alias.get(name, name) for name in old.inputs)
            node = old if inputs == old.inputs else replace(old, inputs=inputs)
            node = self._visit(node)
            source = self._same_as(node)
            if source is not None and node.output not in self.graph.outputs:
                self.alias[node.output] = source
            else:
                nodes.append(node)
        if len(nodes) == len(self.graph.nodes) and all(
            new is old for new, old in zip(nodes, self.graph.nodes, strict=True)
        ):
            return self.graph
        return self.graph.with_nodes(nodes)

    def _value(self, name: str) -> Value:
        return self.graph.values[name]

    def _visit(self, node: Node) -> Node:
        op, value = node.op, self._value(node.output)
        if isinstance(op, Logic):
            return self._visit_logic(node, op)
        if isinstance(op, Threshold):
            self.facts[node.output] = threshold_facts(op, self._value(node.inputs[0]))
        elif isinstance(op, Reshape):
            source = self.reshaped.get(node.inputs[0])
            if source is not None:
                node = replace(node, inputs=(source,))
            self.reshaped[node.output] = node.inputs[0]
            before = self._value(node.inputs[0]).shape
            self.facts[node.output] = reshape_facts(self.facts[node.inputs[0]], before, op.shape)
        else:
            self.facts[node.output] = no_facts(value)
        return node

    def _visit_logic(self, node: Node, op: Logic) -> Node:
        node, body, taps = self._known_taps(node, op)
        result = normalize(body, taps, self.share)
        while self.share and not result.settled:
            body = result.body
            own = 2 * np.arange(FIRST_TAP, body.first_gate, dtype=np.int32)
            result = normalize(body, own, share=True)
        self.facts[node.output] = logic_facts(result.outputs)
        if result.body is not op.body:
            node = replace(node, op=replace(op, body=result.body))
        if self.share:
            shapes = [self._value(name).shape for name in node.inputs]
            new = replace(op, body=result.body)
            self.copies[node.output] = copied_channels(node.inputs, new, shapes, result.outputs)
        return node

    def _known_taps(self, node: Node, op: Logic) -> tuple[Node, Body, Literals]:
        """The node, whose inputs may be more, its body with taps led to the first of equal
        channels, and a literal for each tap.
        """
        body = op.body
        if not body.num_taps:
            return node, body, np.zeros(0, np.int32)
        shapes = [self._value(name).shape for name in node.inputs]
        never, always = tap_reach(op, shapes)
        source, channel = body.taps[:, 0], body.taps[:, 1]
        first = np.cumsum([0, *(shape[0] for shape in shapes)])
        fact = np.concatenate([self.facts[name] for name in node.inputs])[first[source] + channel]
        false = always | (fact == CONST_FALSE)
        true = never & ~always & (fact == CONST_TRUE)
        odd = np.zeros(body.num_taps, bool)
        root = np.arange(body.num_taps)
        if self.share:
            is_output = np.zeros(body.num_nets, bool)
            is_output[body.outputs] = True
            free = never & ~is_output[FIRST_TAP : body.first_gate]
            known = (fact >= 0) & ((fact & 1 == 0) | free)
            taps = body.taps.copy()
            taps[:, 0] = np.array([node.inputs.index(name) for name in node.inputs])[source]
            taps[:, 1] = np.where(known, fact >> 1, channel)
            odd = known & (fact & 1 == 1)
            node = self._past_copies(node, taps, odd, free)
            order = _lexicographic(taps)
            body = _with_taps(body, taps, order)
            false, true, odd = false[order], true[order], odd[order]
            start = np.concatenate([[True], (body.taps[1:] != body.taps[:-1]).any(axis=1)])
            root = np.flatnonzero(start)[np.cumsum(start) - 1]
        literals = 2 * (root + FIRST_TAP) + odd
        literals[false], literals[true] = 0, 1
        return node, body, literals.astype(np.int32)

    def _past_copies(self, node: Node, taps: IntArray, odd: Mask, free: Mask) -> Node:
        """Lead taps, in place, to what the channels that they read are copies of.

        Only where the node reads that value already, or the copies alone of this one: another
        input would keep `merge` and `fuse-pool` from joining the nodes.
        """
        inputs = list(node.inputs)
        moved = True
        while moved:  # a copy may be of a copy
            moved = False
            for name in tuple(dict.fromkeys(inputs)):
                rows = np.flatnonzero(taps[:, 0] == inputs.index(name))
                copies = self.copies.get(name)
                if copies is None or not len(rows):
                    continue
                source, literal = copies.source[taps[rows, 1]], copies.literal[taps[rows, 1]]
                known = (source >= 0) & ((literal & 1 == 0) | free[rows])
                for i in distinct(source[known]).tolist():
                    target = copies.inputs[i]
                    if target not in inputs:
                        if not known.all():
                            continue
                        inputs.append(target)
                    mine = known & (source == i)
                    taps[rows[mine], 0] = inputs.index(target)
                    taps[rows[mine], 1] = literal[mine] >> 1
                    odd[rows[mine]] ^= literal[mine] & 1 == 1
                    moved = True
        return node if len(inputs) == len(node.inputs) else replace(node, inputs=tuple(inputs))

    def _same_as(self, node: Node) -> str | None:
        """The name of a value that `node` computes again, if there is one."""
        op = node.op
        if isinstance(op, Reshape) and op.shape == self._value(node.inputs[0]).shape:
            return node.inputs[0]
        if isinstance(op, Logic):
            source = self._forwarded(node, op)
            if source is not None:
                return source
        if not self.share:
            return None
        known = self.seen.setdefault((node.op_type, node.inputs), [])
        for other, name in known:
            if other == op:
                return name
        known.append((op, node.output))
        return None

    def _forwarded(self, node: Node, op: Logic) -> str | None:
        """The input that a Logic node hands on unchanged, if it does no more than that."""
        body = op.body
        if (body.outputs < FIRST_TAP).any() or (body.outputs >= body.first_gate).any():
            return None
        taps = body.taps[body.outputs - FIRST_TAP]
        name = node.inputs[int(taps[0, 0])]
        expected = np.zeros_like(taps)
        expected[:, 0] = taps[0, 0]
        expected[:, 1] = np.arange(len(taps))
        whole = self._value(name).shape == self._value(node.output).shape
        steps = all(s == 1 or n == 1 for s, n in zip(op.stride, op.space, strict=True))
        return name if whole and steps and np.array_equal(taps, expected) else None


def _lexicographic(taps: IntArray) -> npt.NDArray[np.intp]:
    """The order that sorts the rows; quick where they are sorted."""
    above, level = np.zeros(len(taps) - 1, bool), np.ones(len(taps) - 1, bool)
    for column in taps.T:
        above |= level & (column[1:] > column[:-1])
        level &= column[1:] == column[:-1]
    if (above | level).all():
        return np.arange(len(taps))
    return np.lexsort(taps.T[::-1])


def _with_taps(body: Body, taps: npt.NDArray[np.int32], order: npt.NDArray[np.intp]) -> Body:
    """The body reading `taps` instead of its own, row by row, and then put in `order`."""
    if np.array_equal(taps, body.taps) and np.array_equal(order, np.arange(len(order))):
        return body
    new_id = np.arange(body.num_nets, dtype=np.int32)
    new_id[FIRST_TAP + order] = np.arange(FIRST_TAP, body.first_gate, dtype=np.int32)
    return Body.build(taps[order], new_id[body.fanin], body.table, new_id[body.outputs])
