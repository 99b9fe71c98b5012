"""Split convolutions into channel groups that never meet, and order the graph group by group.

The networks of Petersen et al. (NeurIPS 2024) keep k/8 groups of channels apart until the dense
head. Evaluated layer by layer, every intermediate value of a wide network goes out to memory and
back; evaluated group by group, depth first, it stays in the second-level cache. Small groups are
bundled to fill that cache.
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
"""The planes of intermediate values that a bundle of groups may hold: about 400 KB per block."""

Ints = npt.NDArray[np.int64]


def split_groups(graph: Graph) -> Graph:
    """Return the same function with its convolutions cut into independent bundles of channels.

    Returns `graph` itself if there is only one bundle, or if something other than a convolution or
    a dense layer reads the output of a convolution.
    """
    convolutions = _splittable(graph)
    if not convolutions:
        return graph
    bundles = _bundle_channels(graph, convolutions)
    count = max(int(bundle.max()) for bundle in bundles.values()) + 1
    return _GroupSplitter(graph, convolutions, bundles, count).run() if count > 1 else graph


def _splittable(graph: Graph) -> dict[str, Logic]:
    """Return the convolutions by output, if all of their readers can be rewritten; else none."""
    convolutions = {n.output: op for n, op in graph.of_type(Logic) if len(op.space) > 0}
    users = graph.users()
    for name in convolutions:
        if name in graph.outputs:
            return {}
        for node in users[name]:
            is_flat = isinstance(node.op, Reshape) and len(node.op.shape) == 1
            feeds_dense = is_flat and all(isinstance(u.op, Logic) for u in users[node.output])
            if node.output not in convolutions and (
                not feeds_dense or node.output in graph.outputs
            ):
                return {}
    return convolutions


def _bundle_channels(graph: Graph, convolutions: dict[str, Logic]) -> dict[str, Ints]:
    """Return the bundle of each output channel, (channels,), by convolution.

    Channels that a later convolution reads together are in one bundle. Gates that depend on nothing
    but the first values connect nothing: bundles that share such gates get copies of them.
    """
    # The vertices of a convolution are its channels, then the nets of its body.
    first_vertex: dict[str, int] = {}
    num_vertices = 0
    for name, op in convolutions.items():
        first_vertex[name] = num_vertices
        num_vertices += len(op.body.outputs) + op.body.num_nets
    edges = []
    for node in graph.nodes:
        if node.output not in convolutions:
            continue
        body, first_channel = convolutions[node.output].body, first_vertex[node.output]
        first_net = first_channel + len(body.outputs)
        is_linked = np.zeros(body.num_nets, bool)
        for i, source in enumerate(node.inputs):
            if source in convolutions:
                taps = np.flatnonzero(body.taps[:, 0] == i)
                is_linked[FIRST_TAP + taps] = True
                channels = first_vertex[source] + body.taps[taps, 1].astype(np.int64)
                edges.append(np.stack([channels, first_net + FIRST_TAP + taps], axis=1))
        for gates in body.gates_by_level():
            is_linked[body.first_gate + gates] = is_linked[body.fanin[gates]].any(axis=1)
        nets = np.arange(body.first_gate, body.num_nets)
        for column in range(body.k):
            reads = is_linked[body.fanin[:, column]]
            operands = body.fanin[reads, column]
            edges.append(np.stack([first_net + nets[reads], first_net + operands], axis=1))
        channels = np.flatnonzero(is_linked[body.outputs])
        outputs = first_net + body.outputs[channels]
        edges.append(np.stack([first_channel + channels, outputs], axis=1))
    group = _connected_components(num_vertices, np.concatenate(edges))
    planes = np.zeros(num_vertices, np.int64)
    for name, op in convolutions.items():
        channels = first_vertex[name] + np.arange(len(op.body.outputs))
        np.add.at(planes, group[channels], op.positions)
    # Only vertices that stand for a group of channels have planes, and a bundle.
    groups = np.flatnonzero(planes)
    bundle = np.zeros(num_vertices, np.int64)
    bundle[groups] = (np.cumsum(planes[groups]) - planes[groups]) // BUNDLE_PLANES
    bundle[groups] = np.unique(bundle[groups], return_inverse=True)[1]
    return {
        name: bundle[group[first_vertex[name] : first_vertex[name] + len(op.body.outputs)]]
        for name, op in convolutions.items()
    }


def _connected_components(n: int, edges: Ints) -> Ints:
    """Return, for each of n vertices, the vertex that its component is named by, (n,).

    Labels are hooked to the lowest neighboring label and shortcut, round by round (Shiloach and
    Vishkin, "An O(log n) parallel connectivity algorithm", 1982). `edges` are (m, 2).
    """
    label = np.arange(n, dtype=np.int64)
    while len(edges):
        a, b = label[edges[:, 0]], label[edges[:, 1]]
        differ = a != b
        if not differ.any():
            break
        edges, low, high = edges[differ], np.minimum(a, b)[differ], np.maximum(a, b)[differ]
        np.minimum.at(label, high, low)
        while True:
            shortcut = label[label]
            if np.array_equal(shortcut, label):
                break
            label = shortcut
    return label


@dataclass(frozen=True)
class _Part:
    """The share of one bundle in a convolution: a value of its own, with `channels` of the old."""

    name: str
    channels: Ints


class _GroupSplitter:
    """Rewrites a graph so that each bundle of channels has convolutions of its own.

    Attributes:
        flattened: the convolution behind each flattened output, by the name of the Reshape.
        parts: the parts of each convolution, by bundle.
        local_channel: (channels,) the index of each channel within its part, by convolution.
    """

    def __init__(
        self,
        graph: Graph,
        convolutions: dict[str, Logic],
        bundles: dict[str, Ints],
        count: int,
    ) -> None:
        self.graph = graph
        self.convolutions = convolutions
        self.bundles = bundles
        self.count = count
        self.flattened = {
            node.output: node.inputs[0]
            for node in graph.nodes
            if isinstance(node.op, Reshape) and node.inputs[0] in convolutions
        }
        self.parts: dict[str, dict[int, _Part]] = {}
        self.local_channel: dict[str, Ints] = {}
        for name, bundle in bundles.items():
            members, self.local_channel[name] = _by_bundle(bundle, count)
            self.parts[name] = {
                b: _Part(f"{name}.{b}", channels)
                for b, channels in enumerate(members)
                if len(channels)
            }

    def run(self) -> Graph:
        """Return the graph in which the nodes of a bundle follow one another."""
        shared: list[Node] = []
        of_bundle: list[list[Node]] = [[] for _ in range(self.count)]
        for node in self.graph.nodes:
            if node.output in self.convolutions:
                for b, part in self.parts[node.output].items():
                    of_bundle[b].append(self._convolution(node, b, part))
            elif node.output in self.flattened:
                for b, part in self.parts[node.inputs[0]].items():
                    size = len(part.channels) * self.convolutions[node.inputs[0]].positions
                    of_bundle[b].append(Node(Reshape((size,)), (part.name,), f"{node.output}.{b}"))
            elif any(name in self.flattened for name in node.inputs):
                shared.append(self._dense(node))
            else:
                shared.append(node)
        # What the convolutions read is ready at once, and what reads them comes after all bundles.
        nodes = [*shared, *(node for nodes in of_bundle for node in nodes)]
        return self.graph.with_nodes(_topological_order(nodes, self.graph))

    def _convolution(self, node: Node, b: int, part: _Part) -> Node:
        """Return the convolution of bundle `b`: the gates that its channels depend on."""
        op, body = self.convolutions[node.output], self.convolutions[node.output].body
        outputs = body.outputs[part.channels]
        nets = _fanin_cone(body, outputs)
        taps = body.taps[nets[nets < body.first_gate] - FIRST_TAP].astype(np.int64)
        gates = nets[nets >= body.first_gate] - body.first_gate
        inputs: list[str] = []
        source = taps[:, 0].copy()
        for i, name in enumerate(node.inputs):
            reads = source == i
            if name not in self.convolutions:
                taps[reads, 0] = len(inputs)
                inputs.append(name)
            elif b in self.parts[name]:
                taps[reads, 0] = len(inputs)
                taps[reads, 1] = self.local_channel[name][taps[reads, 1]]
                inputs.append(self.parts[name][b].name)
        if not inputs:  # The part is constant, and any value of the right rank serves as its input.
            inputs = [next(iter(self.parts[node.inputs[0]].values())).name]
        # Constants keep their ids; the nets kept are numbered on from FIRST_TAP in their order.
        kept = np.concatenate([np.arange(FIRST_TAP), nets])
        part_body = Body.build(
            taps,
            np.searchsorted(kept, body.fanin[gates]),
            body.table[gates],
            np.searchsorted(kept, outputs),
            rank=body.rank,
        )
        return Node(Logic(part_body, op.space, op.stride), tuple(inputs), part.name)

    def _dense(self, node: Node) -> Node:
        """Return a dense node that reads the parts of flattened convolutions."""
        op = node.op
        assert isinstance(op, Logic)
        taps = op.body.taps.astype(np.int64)
        old_input = taps[:, 0].copy()
        inputs: list[str] = []
        for i, name in enumerate(node.inputs):
            reads = np.flatnonzero(old_input == i)
            if name not in self.flattened:
                taps[reads, 0] = len(inputs)
                inputs.append(name)
                continue
            source = self.flattened[name]
            positions = self.convolutions[source].positions
            channel, position = np.divmod(taps[reads, 1], positions)
            input_of_bundle = np.zeros(self.count, np.int64)
            for b in self.parts[source]:
                input_of_bundle[b] = len(inputs)
                inputs.append(f"{name}.{b}")
            taps[reads, 0] = input_of_bundle[self.bundles[source][channel]]
            taps[reads, 1] = self.local_channel[source][channel] * positions + position
        body = Body.build(taps, op.body.fanin, op.body.table, op.body.outputs, rank=op.body.rank)
        return Node(Logic(body, op.space, op.stride), tuple(inputs), node.output)


def _fanin_cone(body: Body, roots: npt.NDArray[np.integer]) -> Ints:
    """Return the taps and gates that `roots` depend on, these included, in ascending order."""
    frontier = distinct(roots[roots >= FIRST_TAP]).astype(np.int64)
    layers = [frontier]
    while len(frontier):
        gates = frontier[frontier >= body.first_gate] - body.first_gate
        operands = distinct(body.fanin[gates])
        frontier = operands[operands >= FIRST_TAP].astype(np.int64)
        layers.append(frontier)
    return distinct(np.concatenate(layers))


def _by_bundle(bundle: Ints, count: int) -> tuple[list[Ints], Ints]:
    """Return the channels of each bundle, ascending, and each channel's index in its bundle.

    `bundle` (channels,) are the bundles of the channels, of which there are `count`.
    """
    order = np.argsort(bundle, kind="stable")
    boundaries = np.searchsorted(bundle[order], np.arange(count + 1))
    members = [order[a:b] for a, b in itertools.pairwise(boundaries)]
    index = np.zeros(len(bundle), np.int64)
    for channels in members:
        index[channels] = np.arange(len(channels))
    return members, index


def _topological_order(nodes: list[Node], graph: Graph) -> list[Node]:
    """Return `nodes` in topological order, each as early as the given order allows."""
    ready = {value.name for value in graph.inputs}
    waiting, ordered = nodes, []
    while waiting:
        not_ready = []
        for node in waiting:
            if ready.issuperset(node.inputs):
                ordered.append(node)
                ready.add(node.output)
            else:
                not_ready.append(node)
        waiting = not_ready
    return ordered
