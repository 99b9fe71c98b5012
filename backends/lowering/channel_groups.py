"""Split convolutions into channel groups that never meet, and order the graph group by group.

The seed paper's networks keep k/8 groups of channels apart until the dense head. Evaluated layer by
layer, every intermediate value of a wide network goes out to memory and back; evaluated group by
group, depth first, it stays in the second-level cache. Small groups are bundled to fill that cache.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Node, Reshape
from lgir.ir.sets import distinct
from lgir.ir.types import FIRST_TAP

BUNDLE_PLANES: Final = 6_000
"""Planes of intermediate values that a bundle of groups may hold: about 400 KB a block."""

Ints = npt.NDArray[np.int64]


def split_groups(graph: Graph) -> Graph:
    """The same function with its convolutions cut into independent bundles of channels.

    Returns `graph` itself where there is only one bundle, or where something other than a
    convolution or a dense layer reads a convolution's output.
    """
    convs = _splittable(graph)
    if not convs:
        return graph
    bundles = _bundles(graph, convs)
    count = max(int(b.max()) for b in bundles.values()) + 1
    return _Splitter(graph, convs, bundles, count).run() if count > 1 else graph


def _splittable(graph: Graph) -> dict[str, Logic]:
    """The convolutions by output, if all of their readers can be rewritten; else none."""
    convs = {n.output: op for n, op in graph.of_type(Logic) if len(op.space) > 0}
    users = graph.users()
    for name in convs:
        if name in graph.outputs:
            return {}
        for node in users[name]:
            flat = isinstance(node.op, Reshape) and len(node.op.shape) == 1
            dense = flat and all(isinstance(u.op, Logic) for u in users[node.output])
            if node.output not in convs and (not dense or node.output in graph.outputs):
                return {}
    return convs


def _bundles(graph: Graph, convs: dict[str, Logic]) -> dict[str, Ints]:
    """Bundle number of each output channel, by convolution: channels that a later convolution reads
    together are in one. Gates that depend on nothing but the first values connect nothing: bundles
    that share them get copies.
    """
    first: dict[str, int] = {}
    total = 0
    for name, op in convs.items():
        first[name] = total  # the channels, then the body's nets
        total += len(op.body.outputs) + op.body.num_nets
    edges = []
    for node in graph.nodes:
        if node.output not in convs:
            continue
        body, base = convs[node.output].body, first[node.output]
        nets = base + len(body.outputs)
        linked = np.zeros(body.num_nets, bool)
        for i, source in enumerate(node.inputs):
            if source in convs:
                mine = np.flatnonzero(body.taps[:, 0] == i)
                linked[FIRST_TAP + mine] = True
                channel = first[source] + body.taps[mine, 1].astype(np.int64)
                edges.append(np.stack([channel, nets + FIRST_TAP + mine], axis=1))
        for gates in body.gates_by_level():
            linked[body.first_gate + gates] = linked[body.fanin[gates]].any(axis=1)
        own = np.arange(body.first_gate, body.num_nets)
        for column in range(body.k):
            live = linked[body.fanin[:, column]]
            edges.append(np.stack([nets + own[live], nets + body.fanin[live, column]], axis=1))
        channels = np.flatnonzero(linked[body.outputs])
        edges.append(np.stack([base + channels, nets + body.outputs[channels]], axis=1))
    label = _components(total, np.concatenate(edges))
    planes = np.zeros(total, np.int64)
    for name, op in convs.items():
        channels = first[name] + np.arange(len(op.body.outputs))
        np.add.at(planes, label[channels], op.positions)
    held = np.flatnonzero(planes)
    number = np.full(total, -1, np.int64)
    number[held] = (np.cumsum(planes[held]) - planes[held]) // BUNDLE_PLANES
    number[held] = np.unique(number[held], return_inverse=True)[1]
    return {
        name: number[label[first[name] : first[name] + len(op.body.outputs)]]
        for name, op in convs.items()
    }


def _components(n: int, edges: Ints) -> Ints:
    """Connected components: each vertex labelled by one vertex of its component.

    Labels are hooked to the lowest neighbouring label and shortcut, round by round (Shiloach and
    Vishkin, 1982).
    """
    label = np.arange(n, dtype=np.int64)
    while len(edges):
        a, b = label[edges[:, 0]], label[edges[:, 1]]
        apart = a != b
        if not apart.any():
            break
        edges, low, high = edges[apart], np.minimum(a, b)[apart], np.maximum(a, b)[apart]
        np.minimum.at(label, high, low)
        while True:
            shorter = label[label]
            if np.array_equal(shorter, label):
                break
            label = shorter
    return label


@dataclass(frozen=True)
class _Part:
    """One bundle's share of a convolution: the value's name and its original channels."""

    name: str
    channels: Ints


class _Splitter:
    def __init__(
        self, graph: Graph, convs: dict[str, Logic], bundles: dict[str, Ints], count: int
    ) -> None:
        self.graph = graph
        self.convs = convs
        self.bundles = bundles
        self.count = count
        self.flat = {
            n.output: n.inputs[0]
            for n in graph.nodes
            if isinstance(n.op, Reshape) and n.inputs[0] in convs
        }
        self.parts: dict[str, dict[int, _Part]] = {}
        self.local: dict[str, Ints] = {}
        for name, numbers in bundles.items():
            members, self.local[name] = _by_bundle(numbers, count)
            self.parts[name] = {
                b: _Part(f"{name}.{b}", channels)
                for b, channels in enumerate(members)
                if len(channels)
            }

    def run(self) -> Graph:
        rest: list[Node] = []
        chains: list[list[Node]] = [[] for _ in range(self.count)]
        for node in self.graph.nodes:
            if node.output in self.convs:
                for b, part in self.parts[node.output].items():
                    chains[b].append(self._convolution(node, b, part))
            elif node.output in self.flat:
                for b, part in self.parts[node.inputs[0]].items():
                    size = len(part.channels) * self.convs[node.inputs[0]].positions
                    chains[b].append(Node(Reshape((size,)), (part.name,), f"{node.output}.{b}"))
            elif any(name in self.flat for name in node.inputs):
                rest.append(self._dense(node))
            else:
                rest.append(node)
        # What the convolutions read is ready at once, what reads them comes after all chains.
        return self.graph.with_nodes(
            _ordered([*rest, *(n for chain in chains for n in chain)], self.graph)
        )

    def _convolution(self, node: Node, b: int, part: _Part) -> Node:
        op, body = self.convs[node.output], self.convs[node.output].body
        outputs = body.outputs[part.channels]
        nets = _cone(body, outputs)
        taps = body.taps[nets[nets < body.first_gate] - FIRST_TAP].astype(np.int64)
        gates = nets[nets >= body.first_gate] - body.first_gate
        inputs: list[str] = []
        source = taps[:, 0].copy()
        for i, name in enumerate(node.inputs):
            mine = source == i
            if name not in self.convs:
                taps[mine, 0] = len(inputs)
                inputs.append(name)
            elif b in self.parts[name]:
                taps[mine, 0], taps[mine, 1] = len(inputs), self.local[name][taps[mine, 1]]
                inputs.append(self.parts[name][b].name)
        if not inputs:  # only constants: any value of the right rank will do
            inputs = [next(iter(self.parts[node.inputs[0]].values())).name]
        # Constants keep their ids; the nets kept are numbered on from FIRST_TAP in their order.
        kept = np.concatenate([np.arange(FIRST_TAP), nets])
        cut = Body.build(
            taps,
            np.searchsorted(kept, body.fanin[gates]),
            body.table[gates],
            np.searchsorted(kept, outputs),
            rank=body.rank,
        )
        return Node(Logic(cut, op.space, op.stride), tuple(inputs), part.name)

    def _dense(self, node: Node) -> Node:
        op = node.op
        assert isinstance(op, Logic)
        taps = op.body.taps.astype(np.int64)
        original = taps[:, 0].copy()
        inputs: list[str] = []
        for i, name in enumerate(node.inputs):
            mine = np.flatnonzero(original == i)
            if name not in self.flat:
                taps[mine, 0] = len(inputs)
                inputs.append(name)
                continue
            source = self.flat[name]
            positions = self.convs[source].positions
            channel, at = np.divmod(taps[mine, 1], positions)
            slot = np.zeros(self.count, np.int64)
            for b in self.parts[source]:
                slot[b] = len(inputs)
                inputs.append(f"{name}.{b}")
            taps[mine, 0] = slot[self.bundles[source][channel]]
            taps[mine, 1] = self.local[source][channel] * positions + at
        body = Body.build(taps, op.body.fanin, op.body.table, op.body.outputs, rank=op.body.rank)
        return Node(Logic(body, op.space, op.stride), tuple(inputs), node.output)


def _cone(body: Body, roots: npt.NDArray[np.integer]) -> Ints:
    """Taps and gates that `roots` depend on, ascending, found from the roots down."""
    frontier = distinct(roots[roots >= FIRST_TAP]).astype(np.int64)
    layers = [frontier]
    while len(frontier):
        gates = frontier[frontier >= body.first_gate] - body.first_gate
        operands = distinct(body.fanin[gates])
        frontier = operands[operands >= FIRST_TAP].astype(np.int64)
        layers.append(frontier)
    return distinct(np.concatenate(layers))


def _by_bundle(numbers: Ints, count: int) -> tuple[list[Ints], Ints]:
    """Members of each bundle in ascending order, and each member's place in its bundle."""
    order = np.argsort(numbers, kind="stable")
    edges = np.searchsorted(numbers[order], np.arange(count + 1))
    members = [order[a:b] for a, b in itertools.pairwise(edges)]
    place = np.zeros(len(numbers), np.int64)
    for some in members:
        place[some] = np.arange(len(some))
    return members, place


def _ordered(nodes: list[Node], graph: Graph) -> list[Node]:
    """`nodes` in topological order, each as early as the order given allows."""
    ready = {v.name for v in graph.inputs}
    waiting, out = nodes, []
    while waiting:
        later = []
        for node in waiting:
            if ready.issuperset(node.inputs):
                out.append(node)
                ready.add(node.output)
            else:
                later.append(node)
        waiting = later
    return out
