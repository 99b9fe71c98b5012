"""Normalize the bodies of a graph, node by node: the kernel of `fold` and `cse`.

Nodes are visited in topological order and hand on what is known of their channels to their readers
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
from lgir.passes.kernels.facts import (
    CONST_FALSE,
    CONST_TRUE,
    ChannelCopies,
    copied_channels,
    logic_facts,
    no_facts,
    reshape_facts,
    tap_reach,
    threshold_facts,
)
from lgir.passes.kernels.literals import Literals
from lgir.passes.kernels.normalize import normalize


class GraphNormalizer:
    """One visit of the nodes of a graph; with `share`, equal gates, taps and nodes are merged."""

    def __init__(self, graph: Graph, share: bool) -> None:
        self._graph = graph
        self._share = share
        self._facts: dict[str, Literals] = {v.name: no_facts(v) for v in graph.inputs}
        self._copies: dict[str, ChannelCopies] = {}
        self._alias: dict[str, str] = {}  # A value that is bypassed -> the value that it equals.
        self._reshape_source: dict[str, str] = {}  # The output of a Reshape -> what it reads.
        self._known: dict[tuple[str, tuple[str, ...]], list[tuple[Op, str]]] = {}

    def run(self) -> Graph:
        """Return the normalized graph; the same object if nothing changed."""
        graph = self._graph
        nodes = []
        for old in graph.nodes:
            inputs = tuple(self._alias.get(name, name) for name in old.inputs)
            node = old if inputs == old.inputs else replace(old, inputs=inputs)
            node = self._visit(node)
            source = self._same_as(node)
            if source is not None and node.output not in graph.outputs:
                self._alias[node.output] = source
            else:
                nodes.append(node)
        if len(nodes) == len(graph.nodes) and all(
            new is old for new, old in zip(nodes, graph.nodes, strict=True)
        ):
            return graph
        return graph.with_nodes(nodes)

    def _value(self, name: str) -> Value:
        return self._graph.values[name]

    def _visit(self, node: Node) -> Node:
        """Return the node in normal form, and note the facts of its output."""
        op, value = node.op, self._value(node.output)
        if isinstance(op, Logic):
            return self._visit_logic(node, op)
        if isinstance(op, Threshold):
            self._facts[node.output] = threshold_facts(op, self._value(node.inputs[0]))
        elif isinstance(op, Reshape):
            source = self._reshape_source.get(node.inputs[0])
            if source is not None:
                node = replace(node, inputs=(source,))
            self._reshape_source[node.output] = node.inputs[0]
            before = self._value(node.inputs[0]).shape
            self._facts[node.output] = reshape_facts(self._facts[node.inputs[0]], before, op.shape)
        else:
            self._facts[node.output] = no_facts(value)
        return node

    def _visit_logic(self, node: Node, op: Logic) -> Node:
        node, body, taps = self._known_taps(node, op)
        result = normalize(body, taps, self._share)
        while self._share and not result.settled:
            body = result.body
            identity = 2 * np.arange(FIRST_TAP, body.first_gate, dtype=np.int32)
            result = normalize(body, identity, share=True)
        self._facts[node.output] = logic_facts(result.outputs)
        if result.body is not op.body:
            node = replace(node, op=replace(op, body=result.body))
        if self._share:
            shapes = [self._value(name).shape for name in node.inputs]
            new = replace(op, body=result.body)
            self._copies[node.output] = copied_channels(node.inputs, new, shapes, result.outputs)
        return node

    def _known_taps(self, node: Node, op: Logic) -> tuple[Node, Body, Literals]:
        """Return the node, its body, and the literal that each tap equals.

        With sharing, taps are led to the first of equal channels and sorted, and the node may get
        further inputs.
        """
        body = op.body
        if not body.num_taps:
            return node, body, np.zeros(0, np.int32)
        shapes = [self._value(name).shape for name in node.inputs]
        never_outside, always_outside = tap_reach(op, shapes)
        source, channel = body.taps[:, 0], body.taps[:, 1]
        first = np.cumsum([0, *(shape[0] for shape in shapes)])
        facts = np.concatenate([self._facts[name] for name in node.inputs])
        fact = facts[first[source] + channel]
        false = always_outside | (fact == CONST_FALSE)
        true = never_outside & ~always_outside & (fact == CONST_TRUE)
        complemented = np.zeros(body.num_taps, bool)
        root = np.arange(body.num_taps)
        if self._share:
            is_output = np.zeros(body.num_nets, bool)
            is_output[body.outputs] = True
            # A complement may be used only inside, and an output needs the tap itself.
            may_complement = never_outside & ~is_output[FIRST_TAP : body.first_gate]
            known = (fact >= 0) & ((fact & 1 == 0) | may_complement)
            taps = body.taps.copy()
            taps[:, 0] = np.array([node.inputs.index(name) for name in node.inputs])[source]
            taps[:, 1] = np.where(known, fact >> 1, channel)
            complemented = known & (fact & 1 == 1)
            node = self._read_past_copies(node, taps, complemented, may_complement)
            order = _lexicographic_order(taps)
            body = _with_taps(body, taps, order)
            false, true, complemented = false[order], true[order], complemented[order]
            start = np.concatenate([[True], (body.taps[1:] != body.taps[:-1]).any(axis=1)])
            root = np.flatnonzero(start)[np.cumsum(start) - 1]
        literals = 2 * (root + FIRST_TAP) + complemented
        literals[false], literals[true] = 0, 1
        return node, body, literals.astype(np.int32)

    def _read_past_copies(
        self, node: Node, taps: IntArray, complemented: Mask, may_complement: Mask
    ) -> Node:
        """Lead taps, in place, to what the channels that they read are copies of.

        A tap is led on only if the node reads that value already, or if all of its taps on this
        value are copies of that one. Another input would keep `merge` and `fuse-pool` from joining
        the nodes.
        """
        inputs = list(node.inputs)
        moved = True
        while moved:  # A copy may be of a copy.
            moved = False
            for name in tuple(dict.fromkeys(inputs)):
                rows = np.flatnonzero(taps[:, 0] == inputs.index(name))
                copies = self._copies.get(name)
                if copies is None or not len(rows):
                    continue
                source, literal = copies.source[taps[rows, 1]], copies.literal[taps[rows, 1]]
                known = (source >= 0) & ((literal & 1 == 0) | may_complement[rows])
                for i in distinct(source[known]).tolist():
                    target = copies.inputs[i]
                    if target not in inputs:
                        if not known.all():
                            continue
                        inputs.append(target)
                    led = known & (source == i)
                    taps[rows[led], 0] = inputs.index(target)
                    taps[rows[led], 1] = literal[led] >> 1
                    complemented[rows[led]] ^= literal[led] & 1 == 1
                    moved = True
        return node if len(inputs) == len(node.inputs) else replace(node, inputs=tuple(inputs))

    def _same_as(self, node: Node) -> str | None:
        """Return the name of a value that `node` computes again, None if there is none."""
        op = node.op
        if isinstance(op, Reshape) and op.shape == self._value(node.inputs[0]).shape:
            return node.inputs[0]
        if isinstance(op, Logic):
            source = self._copied_input(node, op)
            if source is not None:
                return source
        if not self._share:
            return None
        candidates = self._known.setdefault((node.op_type, node.inputs), [])
        for other, name in candidates:
            if other == op:
                return name
        candidates.append((op, node.output))
        return None

    def _copied_input(self, node: Node, op: Logic) -> str | None:
        """Return the input that a Logic node copies as a whole, None if it does more than that."""
        body = op.body
        if (body.outputs < FIRST_TAP).any() or (body.outputs >= body.first_gate).any():
            return None
        taps = body.taps[body.outputs - FIRST_TAP]
        name = node.inputs[int(taps[0, 0])]
        identity = np.zeros_like(taps)
        identity[:, 0] = taps[0, 0]
        identity[:, 1] = np.arange(len(taps))
        same_shape = self._value(name).shape == self._value(node.output).shape
        no_stride = all(s == 1 or n == 1 for s, n in zip(op.stride, op.space, strict=True))
        return name if same_shape and no_stride and np.array_equal(taps, identity) else None


def _lexicographic_order(taps: IntArray) -> npt.NDArray[np.intp]:
    """Return the order that sorts the rows, without sorting if they are sorted already."""
    greater, equal = np.zeros(len(taps) - 1, bool), np.ones(len(taps) - 1, bool)
    for column in taps.T:
        greater |= equal & (column[1:] > column[:-1])
        equal &= column[1:] == column[:-1]
    if (greater | equal).all():
        return np.arange(len(taps))
    return np.lexsort(taps.T[::-1])


def _with_taps(body: Body, taps: npt.NDArray[np.int32], order: npt.NDArray[np.intp]) -> Body:
    """Return the body with `taps` in place of its own, row by row, and then put in `order`."""
    if np.array_equal(taps, body.taps) and np.array_equal(order, np.arange(len(order))):
        return body
    new_id = np.arange(body.num_nets, dtype=np.int32)
    new_id[FIRST_TAP + order] = np.arange(FIRST_TAP, body.first_gate, dtype=np.int32)
    return Body.build(taps[order], new_id[body.fanin], body.table, new_id[body.outputs])
