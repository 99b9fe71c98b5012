"""From layers to the IR: one node per layer, or per group of layers that only feed one another.

A rolled layer is a body over its iteration space, any other a dense body. Values are stored with
channels first; who reads a layer along other axes than those it is stored by gets a copy in another
order, which is a body without gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.frontend.trace.netlist import Layer, Netlist, Words, table_bits, table_words
from lgir.frontend.trace.rolling import Layout, layouts_of
from lgir.frontend.trace.rows import Ints, sort_descending
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.types import FIRST_TAP, Value

_KINDS: Final = {
    "max_pool2d_with_indices": "pool", "max_pool2d": "pool", "max_pool1d": "pool",
    "max_pool3d_with_indices": "pool", "amax": "any", "any": "any", "all": "all",
}  # fmt: skip


@dataclass(eq=False)
class _Stored:
    """A layer in the graph.

    Attributes:
        value: as it was made.
        flat: (layer size,) the place of each element in the value's row-major order, -1 if gone.
        order: the spatial axes by which the value is stored; None for a flat one.
        views: spatial axes -> (value, channel of each element).
    """

    value: Value
    flat: Ints
    order: tuple[int, ...]
    views: dict[tuple[int, ...], Value] = field(default_factory=dict)


class Emission:
    """Builds the graph's nodes for a netlist."""

    def __init__(self, builder: GraphBuilder, netlist: Netlist, inputs: Sequence[Value]) -> None:
        self.builder = builder
        self.netlist = netlist
        self.inputs = inputs
        self._names: dict[str, int] = {}
        self._stored: dict[int, _Stored] = {}
        self.layouts: list[Layout] = []
        self.levels: dict[int, npt.NDArray[np.float32]] = {}
        self.views: dict[int, list[tuple[int, ...]]] = {}
        self._strides: dict[int, tuple[int, ...]] = {}
        self._map = np.zeros(0, np.int64)
        self._live_nets = np.zeros(0, bool)

    def emit(self, outputs: Ints) -> None:
        """Make nodes of all layers that `outputs`, nets, depend on."""
        self._join_thresholds()
        live = self._live(self.map_nets(outputs))
        self.layouts = layouts_of(self.netlist, live)
        while len(images := self._images(live)):
            live = self._live(np.concatenate([self.map_nets(outputs), images]))
            self.layouts = layouts_of(self.netlist, live)
        self._strides = {n: x.stride for n, x in enumerate(self.layouts)}
        groups = self._groups(live, self.map_nets(outputs))
        self._live_nets = live
        done: set[int] = set()
        for number, layer in enumerate(self.netlist.layers):
            if not live[layer.base : layer.base + layer.size].any() or number in done:
                continue
            if layer.kind == "gates":
                root = groups[number]
                if root != number:
                    continue
                members = [n for n, r in groups.items() if r == root]
                self._emit_group(sorted(members))
            else:
                self._emit_input(number, layer)

    def _images(self, live: npt.NDArray[np.bool_]) -> Ints:
        """Dead nets of layers that are not rolled and yet read as images, all of them needed."""
        read = {n for layout in self.layouts if layout.spatial for n in layout.reads}
        found = [
            layout.layer.all_nets
            for n, layout in enumerate(self.layouts)
            if n in read and layout.layer.kind == "gates" and not layout.spatial
        ]
        nets = np.concatenate([np.zeros(0, np.int64), *found])
        return nets if not live[nets].all() else nets[:0]

    # Thresholds

    def _join_thresholds(self) -> None:
        """Make one layer (channels, levels, ...) of all thresholds of an input."""
        netlist = self.netlist
        parts = [x for x in netlist.layers if x.kind == "threshold"]
        self._map = np.arange(netlist.size)
        if not parts:
            return
        layers: list[Layer] = []
        old_sizes = netlist.size
        rebuilt = Netlist()
        moved = np.zeros(old_sizes, np.int64)
        done: set[int] = set()
        for layer in netlist.layers:
            if layer.kind != "threshold":
                fresh = rebuilt._add(
                    layer.shape, layer.kind, layer.origin, layer.nets, layer.tables, layer.input
                )
                fresh.views, fresh.lanes = layer.views, layer.lanes
                moved[layer.base : layer.base + layer.size] = fresh.all_nets
                layers.append(fresh)
                continue
            if layer.input in done:
                continue
            done.add(layer.input)
            mine = [x for x in parts if x.input == layer.input]
            self._add_thresholds(rebuilt, mine, moved)
        netlist.layers, netlist.size = rebuilt.layers, rebuilt.size
        for layer in netlist.layers:
            if layer.kind == "gates":
                layer.nets, layer.tables = reordered(moved[layer.nets], layer.tables)
        self._map = moved

    def _add_thresholds(self, rebuilt: Netlist, parts: list[Layer], moved: Ints) -> None:
        number = parts[0].input
        shape = self._image_shape(number)
        size = int(np.prod(shape))
        element = np.concatenate([x.element for x in parts])
        level = np.concatenate([x.level for x in parts])
        old = np.concatenate([x.all_nets for x in parts])
        shared = np.unique(level)
        if len(shared) * size <= 4 * len(level):
            table = np.broadcast_to(shared, (size, len(shared)))
            column = np.searchsorted(shared, level)
        else:
            order = np.lexsort((level, element))
            rank = np.empty(len(order), np.int64)
            begin = np.searchsorted(element[order], np.arange(size))
            rank[order] = np.arange(len(order)) - begin[element[order]]
            count = int(rank.max()) + 1
            table = np.full((size, count), np.inf, np.float32)
            table[element, rank] = level
            column = rank
        levels = table.astype(np.float32).reshape(*shape, -1)
        while levels.ndim > 2 and (levels == levels.take([0], axis=levels.ndim - 2)).all():
            levels = np.asarray(levels.take(0, axis=levels.ndim - 2))
        if levels.ndim == 2 and (levels == levels[:1]).all():
            levels = levels[0]
        self.levels[number] = levels
        count = table.shape[1]
        channels, rest = shape[0], size // shape[0]
        layer = rebuilt._add(
            (channels, count, *shape[1:]), "threshold", parts[0].origin,
            np.zeros((size * count, 0), np.int64), np.zeros(size * count, np.uint64), number,
        )  # fmt: skip
        channel, place = np.divmod(element, rest)
        moved[old] = layer.base + (channel * count + column) * rest + place

    def _image_shape(self, number: int) -> tuple[int, ...]:
        """The shape in which thresholds are taken: the input's, or that of an image if it is flat
        and the module views it so.
        """
        shape = self.inputs[number].shape
        views = self.views.get(number, [])
        if len([n for n in shape if n > 1]) > 1:
            return shape
        best = max([shape, *(v[1:] for v in views if v[0] == 1 and len(v) > 1)], key=len)
        return tuple(best)

    def map_nets(self, nets: Ints) -> Ints:
        """The nets after thresholds were joined."""
        return self._map[nets]

    # Liveness and groups

    def _live(self, outputs: Ints) -> npt.NDArray[np.bool_]:
        live = np.zeros(self.netlist.size, bool)
        live[outputs] = True
        for layer in reversed(self.netlist.layers):
            alive = live[layer.base : layer.base + layer.size]
            live[layer.nets[alive].reshape(-1)] = True
        live[0] = False
        return live

    def _groups(self, live: npt.NDArray[np.bool_], outputs: Ints) -> dict[int, int]:
        """Gate layer -> the layer in whose node it is evaluated: its own, or its only reader's."""
        netlist = self.netlist
        gates = [n for n, x in enumerate(netlist.layers) if x.kind == "gates"]
        readers: dict[int, set[int]] = {n: set() for n in gates}
        for number in gates:
            layer = netlist.layers[number]
            alive = live[layer.base : layer.base + layer.size]
            for other in np.unique(netlist.layer_numbers(layer.nets[alive])):
                if int(other) in readers:
                    readers[int(other)].add(number)
        for other in np.unique(netlist.layer_numbers(outputs)):
            if int(other) in readers:
                readers[int(other)].add(-1)
        root = {n: n for n in gates}
        for number in gates:
            inner = {
                other
                for other, users in readers.items()
                if users == {number} and self._joins(other, number)
            }
            layout = self.layouts[number]
            steps = {self._strides[other] for other in inner}
            if inner and inner == set(layout.reads or inner) and len(steps) == 1:
                self._strides[number] = steps.pop()
            else:
                inner = {other for other in inner if set(self._strides[other]) <= {1}}
            for other in inner:
                for member, leader in root.items():
                    if leader == other:
                        root[member] = number
        return root

    def _joins(self, number: int, reader: int) -> bool:
        """Whether a layer is only an intermediate value of its reader, at the same position."""
        inner, outer = self.layouts[number], self.layouts[reader]
        one, other = inner.layer.origin, outer.layer.origin
        if not outer.spatial or not inner.spatial:
            return not outer.spatial and not inner.spatial and one == other
        if one.path != other.path or inner.space != outer.space:
            return False
        if set(outer.stride) != {1} or outer.reads.get(number) != inner.spatial:
            return False
        nets = outer.layer.nets[outer.template]
        channel, slot = np.nonzero((self.netlist.layer_numbers(nets) == number) & (nets != 0))
        places = inner.coordinates(nets[channel, slot] - inner.layer.base)
        return all(
            (places[axis] == outer.position[channel, i]).all()
            for i, axis in enumerate(inner.spatial)
        )

    # Nodes

    def _emit_input(self, number: int, layer: Layer) -> None:
        value = self.inputs[layer.input]
        if layer.kind == "threshold":
            shape = self._image_shape(layer.input)
            if shape != value.shape:
                value = self.builder.reshape(value, shape)
            name = "bits" if len(self.inputs) == 1 else f"{self.inputs[layer.input].name}_bits"
            value = self.builder.threshold(value, self.levels[layer.input], name)
        self._stored[number] = _Stored(value, np.arange(layer.size), ())

    def _emit_group(self, members: list[int]) -> None:
        root = members[-1]
        layouts = [self.layouts[n] for n in members]
        spatial = bool(layouts[-1].spatial)
        channels = [self._channels(layout) for layout in layouts]
        rows: list[Ints] = []
        tables: list[Words] = []
        for layout, (_, elements) in zip(layouts, channels, strict=True):
            rows.append(layout.layer.nets[elements])
            tables.append(layout.layer.tables[elements])
        width = max(1, *(r.shape[1] for r in rows))
        nets = np.concatenate([np.pad(r, ((0, 0), (0, width - r.shape[1]))) for r in rows])
        words = np.concatenate(
            [_widened(t, r.shape[1], width) for t, r in zip(tables, rows, strict=True)]
        )
        position = np.concatenate(
            [
                layout.position[keep] if spatial else np.zeros((len(elements), 0), np.int64)
                for layout, (keep, elements) in zip(layouts, channels, strict=True)
            ]
        )
        inputs, fanin, taps = self._wires(members, layouts, channels, nets, position)
        table = _ir_tables(words, width)
        count = len(channels[-1][1])
        first_gate = FIRST_TAP + len(taps)
        outputs = first_gate + len(nets) - count + np.arange(count)
        fanin = np.where(fanin >= 0, fanin, first_gate - 1 - fanin)
        body = Body.build(taps, np.where(nets != 0, fanin, 0), table, outputs,
                          rank=len(layouts[-1].space))  # fmt: skip
        name = self._name(layouts[-1])
        value = self.builder.logic(
            inputs or [self._any_bits(len(layouts[-1].space))], body, layouts[-1].space,
            self._strides[root], name,
        )  # fmt: skip
        self._store(root, layouts[-1], channels[-1], value)

    def _any_bits(self, rank: int) -> Value:
        """Some value for a node of constants to read."""
        stored = next(iter(self._stored.values()), None)
        if stored is None:
            number = next(n for n, x in enumerate(self.netlist.layers) if x.kind == "input")
            self._emit_input(number, self.netlist.layers[number])
            stored = self._stored[number]
        flat = self.builder.flatten(stored.value)
        return flat if not rank else self.builder.reshape(flat, (*flat.shape, *(1,) * rank))

    def _channels(self, layout: Layout) -> tuple[Ints, Ints]:
        """(channels, elements): the channels that are needed, and the element that stands for
        each. Without axes each element is a channel.
        """
        layer = layout.layer
        alive = self._live_nets[layer.base : layer.base + layer.size]
        if layout.spatial:
            keep = np.flatnonzero(alive[layout.grid()].any(axis=1))
            return keep, layout.template[keep]
        keep = np.flatnonzero(alive)
        return keep, keep

    def _store(
        self, number: int, layout: Layout, channels: tuple[Ints, Ints], value: Value
    ) -> None:
        flat = np.full(layout.layer.size, -1)
        keep, elements = channels
        if layout.spatial:
            grid = layout.grid()[keep]
            flat[grid.reshape(-1)] = np.arange(grid.size)
        else:
            flat[elements] = np.arange(len(elements))
        self._stored[number] = _Stored(value, flat, layout.spatial)

    def _wires(
        self,
        members: list[int],
        layouts: list[Layout],
        channels: list[tuple[Ints, Ints]],
        nets: Ints,
        position: Ints,
    ) -> tuple[list[Value], Ints, Ints]:
        """(inputs, fan-in, taps): fan-in by net id of taps, or -1 - gate for gates of the group."""
        stride = self._strides[members[-1]]
        owner = self.netlist.layer_numbers(nets)
        owner[nets == 0] = -1
        fanin = np.zeros(nets.shape, np.int64)
        first = 0
        for number, layout, (keep, _) in zip(members, layouts, channels, strict=True):
            here = owner == number
            if here.any():
                index = np.full(layout.layer.size, -1)
                if layout.spatial:
                    grid = layout.grid()[keep]
                    index[grid.reshape(-1)] = np.repeat(np.arange(len(keep)), grid.shape[1])
                else:
                    index[keep] = np.arange(len(keep))
                fanin[here] = -1 - (first + index[nets[here] - layout.layer.base])
            first += len(keep)
        inputs: list[Value] = []
        taps: list[Ints] = []
        for number in np.unique(owner[owner >= 0]):
            if int(number) in members:
                continue
            row, slot = np.nonzero(owner == number)
            element = nets[row, slot] - self.netlist.layers[int(number)].base
            path = self._path_to(int(number), members, layouts)
            value, channel = self._view(int(number), path)
            places = self.layouts[int(number)].coordinates(element)
            columns = [np.full(len(row), len(inputs)), channel[element]]
            columns += [places[axis] - position[row, i] * stride[i] for i, axis in enumerate(path)]
            rows, inverse = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
            fanin[row, slot] = FIRST_TAP + sum(len(t) for t in taps) + inverse.reshape(-1)
            taps.append(rows)
            inputs.append(value)
        rank = len(layouts[-1].space)
        return inputs, fanin, np.concatenate(taps or [np.zeros((0, 2 + rank), np.int64)])

    def _path_to(self, number: int, members: list[int], layouts: list[Layout]) -> tuple[int, ...]:
        """The axes along which a group reads a layer from outside."""
        for layout in layouts:
            if number in layout.reads and layout.spatial:
                return layout.reads[number]
        return ()

    def _view(self, number: int, spatial: tuple[int, ...]) -> tuple[Value, Ints]:
        """A stored layer as [channels, *spatial], and the channel of each element."""
        stored, layout = self._stored[number], self.layouts[number]
        if not spatial:
            if () not in stored.views:
                stored.views[()] = self.builder.flatten(stored.value)
            return stored.views[()], stored.flat
        grid = layout.grid(spatial)
        kept = np.flatnonzero((stored.flat[grid] >= 0).all(axis=1))
        channel = np.full(layout.layer.size, -1)
        channel[grid[kept].reshape(-1)] = np.repeat(np.arange(len(kept)), grid.shape[1])
        if spatial not in stored.views:
            space = tuple(layout.axes[a] for a in spatial)
            shape = (len(kept), *space)
            place = stored.flat[grid[kept]].reshape(-1)
            value = stored.value
            if len(place) != value.size or (place != np.arange(len(place))).any():
                value = select(self.builder, self.builder.flatten(value), place)
            if value.shape != shape:
                value = self.builder.reshape(value, shape)
            stored.views[spatial] = value
        return stored.views[spatial], channel

    def find(self, nets: Ints) -> tuple[list[Value], Ints, Ints]:
        """(values, number of the value, place in it) of emitted nets, values being flat."""
        mapped = self.map_nets(nets)
        owner = self.netlist.layer_numbers(mapped)
        owner[mapped == 0] = -1
        values: list[Value] = []
        which, place = np.full(len(nets), -1), np.zeros(len(nets), np.int64)
        for number in np.unique(owner[owner >= 0]):
            here = owner == number
            value, flat = self._view(int(number), ())
            which[here] = len(values)
            place[here] = flat[mapped[here] - self.netlist.layers[int(number)].base]
            values.append(value)
        return values, which, place

    def _name(self, layout: Layout) -> str:
        origin = layout.layer.origin
        kind = _KINDS.get(origin.operator, "conv" if layout.spatial else "dense")
        return self.fresh_name(origin.path, kind)

    def fresh_name(self, path: str, kind: str) -> str:
        """The module's path, or a word with a number; with a number also where it is taken."""
        if path.isdigit():  # a layer of an nn.Sequential
            path = f"{kind}_{path}"
        base = path or kind
        self._names[base] = self._names.get(base, 0) + 1
        count = self._names[base]
        if not path:
            return f"{kind}{count}"
        return base if count == 1 else f"{base}_{count}"


def select(builder: GraphBuilder, value: Value, place: Ints, name: str | None = None) -> Value:
    """Bits of a flat value in another order, by a body without gates."""
    used, index = np.unique(place, return_inverse=True)
    taps = np.stack([np.zeros_like(used), used], axis=1)
    empty = np.zeros((0, 1), np.int64)
    body = Body.build(taps, empty, np.zeros(0, np.int64), FIRST_TAP + index.reshape(-1))
    return builder.logic([value], body, name=name)


def reordered(nets: Ints, tables: Words) -> tuple[Ints, Words]:
    """Rows of nets in descending order, with tables to match."""
    width = nets.shape[1]
    if width < 2 or (nets[:, 1:] <= nets[:, :-1]).all():
        return nets, tables
    order = np.argsort(-nets, axis=1, kind="stable")
    sorted_nets = sort_descending(nets)
    wrong = np.flatnonzero((order != np.arange(width)).any(axis=1))
    bits = table_bits(tables[wrong], width)
    entry = np.arange(1 << width)
    index = np.zeros((len(wrong), 1 << width), np.int64)
    for column in range(width):
        index |= ((entry >> column) & 1)[None] << order[wrong, column, None]
    tables = tables.copy()
    tables[wrong] = table_words(np.take_along_axis(bits, index, axis=1))
    return sorted_nets, tables


def _widened(words: Words, width: int, to: int) -> Words:
    for k in range(width, to):
        words = words | words << np.uint64(1 << k)
    return words


def _ir_tables(words: Words, width: int) -> Words:
    """Tables in the IR's order of entries, in which the first input is the most significant."""
    out = np.zeros_like(words)
    for entry in range(1 << width):
        old = sum((entry >> (width - 1 - slot) & 1) << slot for slot in range(width))
        out |= (words >> np.uint64(old) & np.uint64(1)) << np.uint64(entry)
    return out
