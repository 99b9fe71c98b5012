"""Recover convolutions: axes along which all elements of a layer are shifts of one another.

A layer's element along a spatial axis reads what its neighbor reads, moved by a constant. The axes
and moves are guessed from the most frequent differences, also for an axis that holds the positions
of an image in row-major order, and then every element is compared with the shifted template of its
channel: at an edge, with the template in which reads outside are False. So a guess cannot be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from lgir.frontend.trace.functions import simplified, widened
from lgir.frontend.trace.netlist import Layer, Netlist, table_bits, table_words
from lgir.frontend.trace.rows import Ints, number_rows

Mask = npt.NDArray[np.bool_]

_MAX_RANK: Final = 3
_LINES: Final = 64
_WEAK: Final = 20
_MISSING: Final = np.iinfo(np.int64).min
_CHUNK: Final = 1 << 21


@dataclass(eq=False)
class Layout:
    """How a layer's elements are stored.

    Attributes:
        layer: whose.
        axes: sizes of the axes along which elements are found. They are the layer's own without
            those of one, split where one enumerates the positions of an image, and joined where
            several enumerate one axis of it.
        order: (layer size,) the elements in row-major order of `axes`; None if that is their own.
        spatial: axes of the iteration space, in the order of its coordinates; () if not rolled.
        stride: per spatial axis.
        reads: for each layer that is read, the axis of it that each spatial axis moves along.
        template: (channels,) the element that stands for each channel.
        position: (channels, rank) its position.
    """

    layer: Layer
    axes: tuple[int, ...]
    order: Ints | None = None
    spatial: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    reads: dict[int, tuple[int, ...]] = field(default_factory=dict)
    template: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    position: Ints = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    @property
    def space(self) -> tuple[int, ...]:
        return tuple(self.axes[a] for a in self.spatial)

    def grid(self, spatial: tuple[int, ...] | None = None) -> Ints:
        """(channels, positions) elements of the layer, for its own or other spatial axes."""
        spatial = self.spatial if spatial is None else spatial
        channels = [a for a in range(len(self.axes)) if a not in spatial]
        elements = self._elements().reshape(self.axes).transpose(*channels, *spatial)
        count = int(np.prod([self.axes[a] for a in channels], dtype=np.int64))
        return elements.reshape(count, -1)

    def coordinates(self, element: Ints) -> list[Ints]:
        """The element's place along each axis."""
        if self.order is not None:
            place = np.empty(self.layer.size, np.int64)
            place[self.order] = np.arange(self.layer.size)
            element = place[element]
        return [np.asarray(c) for c in np.unravel_index(element, self.axes)]

    def element(self, coordinates: list[Ints]) -> Ints:
        """The element at a place along each axis."""
        flat = np.ravel_multi_index(coordinates, self.axes)
        return flat if self.order is None else self.order[flat]

    def _elements(self) -> Ints:
        return np.arange(self.layer.size) if self.order is None else self.order


def layouts_of(netlist: Netlist, live: Mask) -> list[Layout]:
    """A layout for each layer, rolled where elements are shifts of one another."""
    found: list[Layout] = []
    for layer in netlist.layers:
        layout = Layout(layer, _axes_of(layer))
        if layer.kind == "gates":
            _roll(layout, found, netlist, live)
        found.append(layout)
    return found


def _axes_of(layer: Layer) -> tuple[int, ...]:
    """The layer's axes, or those of the view with most axes in which the module reads it.

    Inputs keep axes of one, so that their first axis is that of channels.
    """
    if layer.kind != "gates":
        views = [v[1:] for v in layer.views if v[0] == 1 and len(v) > 1]
        return layer.shape if len(layer.shape) > 1 else max([layer.shape, *views], key=len)
    return tuple(n for n in layer.shape if n != 1) or (1,)


def _roll(layout: Layout, known: list[Layout], netlist: Netlist, live: Mask) -> None:
    """Find spatial axes and the templates, if the layer has any."""
    layer = layout.layer
    alive = live[layer.base : layer.base + layer.size]
    if not layer.nets.shape[1] or not alive.any():
        return
    owner = netlist.layer_numbers(layer.nets)
    encoded = _encode(layer.nets, owner, known)
    axes: list[_Axis] = []
    sizes: list[int] = []
    inner = layer.size
    lanes = [n for n in layer.shape[len(layer.shape) - layer.lanes :] if n != 1]
    for place, size in enumerate(layout.axes):
        inner //= size
        if place >= len(layout.axes) - len(lanes):
            sizes.append(size)
            continue
        factors = _factors(layer, owner, encoded, alive, size, inner, known)
        for n, moves, weight in factors:
            if n > 1 and moves:
                axes.append(_Axis(len(sizes), n, moves, weight))
            sizes.append(n)
    axes = _joined(layout, tuple(sizes), axes)
    _choose(layout, axes, known, netlist, alive)


def _joined(layout: Layout, sizes: tuple[int, ...], axes: list[_Axis]) -> list[_Axis]:
    """Join candidates that move along one axis in steps that nest: a pool's windows and the places
    in them are one axis of the image. Sets the layout's axes.
    """
    groups: list[list[_Axis]] = []
    strongest = max((a.weight for a in axes), default=0.0)
    axes = [a for a in axes if a.weight * _WEAK >= strongest]
    for axis in sorted(axes, key=lambda a: (-max(m[1] for m in a.moves.values()), -a.weight)):
        for group in groups:
            last = group[-1]
            if last.moves.keys() == axis.moves.keys() and all(
                last.moves[u] == (target, step * axis.size)
                for u, (target, step) in axis.moves.items()
            ):
                group.append(axis)
                break
        else:
            groups.append([axis])
    inner = {a.place for group in groups for a in group[1:]}
    members = {group[0].place: group for group in groups}
    order: list[int] = []
    joined: list[int] = []
    found: list[_Axis] = []
    for place, size in enumerate(sizes):
        if place in inner:
            continue
        group = members.get(place, [])
        total = size
        for axis in group[1:]:
            total *= axis.size
        if group:
            weight = min(a.weight for a in group)
            found.append(_Axis(len(joined), total, group[-1].moves, weight))
        order += [place, *(a.place for a in group[1:])]
        joined.append(total)
    layout.axes = tuple(joined)
    if order != sorted(order):
        elements = np.arange(layout.layer.size).reshape(sizes)
        layout.order = elements.transpose(order).reshape(-1)
    return found


@dataclass(frozen=True)
class _Axis:
    """A candidate: its place, its size, layer -> (axis, stride) that it moves along, and how many
    neighbors bear it out per step.
    """

    place: int
    size: int
    moves: dict[int, tuple[int, int]]
    weight: float


def _encode(nets: Ints, owner: Ints, known: list[Layout]) -> Ints:
    """Places of nets as numbers whose differences tell coordinate differences apart."""
    code = np.zeros(nets.shape, np.int64)
    for number in np.unique(owner[nets != 0]):
        here = (owner == number) & (nets != 0)
        layout = known[int(number)]
        places = layout.coordinates(nets[here] - layout.layer.base)
        total = np.zeros(len(places[0]), np.int64)
        for place, radix in zip(places, _radices(layout.axes), strict=True):
            total += place * radix
        code[here] = total
    return code


def _radices(axes: tuple[int, ...]) -> list[int]:
    radices = [1]
    for size in reversed(axes[1:]):
        radices.insert(0, radices[0] * 2 * size)
    return radices


def _decode(move: int, axes: tuple[int, ...]) -> list[int]:
    """Signed coordinate differences of an encoded difference."""
    vector = []
    for radix in _radices(axes):
        digit = round(move / radix)
        vector.append(digit)
        move -= digit * radix
    return vector


def _factors(
    layer: Layer,
    owner: Ints,
    encoded: Ints,
    alive: Mask,
    size: int,
    inner: int,
    known: list[Layout],
) -> list[tuple[int, dict[int, tuple[int, int]], float]]:
    """An axis as one or several: (size, layer -> (axis, stride), evidence); {} if not spatial."""
    plain: list[tuple[int, dict[int, tuple[int, int]], float]] = [(size, {}, 0.0)]
    if size < 2:
        return plain
    rows = _lines(alive, size, inner)  # (lines, size) elements
    look = _Looks(layer, owner, encoded, alive, rows)
    per_layer: dict[int, list[tuple[int, int]]] = {}
    evidence = 0
    for number in look.numbers(1):
        found, agreeing = _nested(look, number, size)
        if found is None:
            return plain
        evidence += agreeing
        per_layer[number] = found
    shapes = {tuple(n for n, _ in factors) for factors in per_layer.values()}
    finest = max(shapes, key=len, default=())
    if not finest:
        return plain
    result = []
    for place, n in enumerate(finest):
        moves: dict[int, tuple[int, int]] = {}
        for number, factors in per_layer.items():
            step = _refined(factors, finest)[place]
            vector = _decode(step, known[number].axes)
            axes = [a for a, d in enumerate(vector) if d]
            if len(axes) != 1 or vector[axes[0]] < 1:
                return plain
            moves[number] = (axes[0], vector[axes[0]])
        result.append((n, moves, evidence / (size - 1)))
    return result


def _refined(factors: list[tuple[int, int]], finest: tuple[int, ...]) -> list[int]:
    """The steps of `factors` for axes of `finest`, which splits them."""
    steps: list[int] = []
    left = list(factors)
    for n in reversed(finest):
        size, step = left[-1]
        steps.insert(0, step)
        if size == n:
            left.pop()
        else:
            left[-1] = (size // n, step * n)
    return steps


def _lines(alive: Mask, size: int, inner: int) -> Ints:
    """Some lines of elements along an axis, (lines, size), those with living elements first."""
    outer = len(alive) // (size * inner)
    count = alive.reshape(outer, size, inner).sum(axis=1).reshape(-1)
    order = np.flatnonzero(count)
    if len(order) > _LINES:
        order = order[np.linspace(0, len(order) - 1, _LINES).astype(np.int64)]
    start = order // inner * (size * inner) + order % inner
    return start[:, None] + np.arange(size) * inner


class _Looks:
    """What elements some steps apart on the same lines read, if they look alike."""

    def __init__(self, layer: Layer, owner: Ints, encoded: Ints, alive: Mask, rows: Ints) -> None:
        nets = layer.nets[rows]
        self._used = nets != 0
        self._owner = owner[rows]
        self._encoded = encoded[rows]
        self._tables = layer.tables[rows]
        # At an edge two elements may look alike by what they lack; those that lack nothing do not.
        reads = self._used.sum(axis=2)
        self._whole = (reads == reads.max(axis=1, keepdims=True)) & alive[rows]

    def _valid(self, lag: int) -> Mask:
        """(lines, places, columns) of pairs `lag` apart that are alike."""
        same = (
            self._whole[:, lag:]
            & self._whole[:, :-lag]
            & (self._tables[:, lag:] == self._tables[:, :-lag])
            & (self._used[:, lag:] == self._used[:, :-lag]).all(axis=2)
            & (self._owner[:, lag:] == self._owner[:, :-lag]).all(axis=2)
        )
        valid: Mask = same[:, :, None] & self._used[:, lag:]
        return valid

    def numbers(self, lag: int) -> list[int]:
        """The layers that such pairs read."""
        return [int(n) for n in np.unique(self._owner[:, lag:][self._valid(lag)])]

    def modes(self, number: int, lag: int) -> tuple[Ints, int, int]:
        """The most frequent move of what is read of a layer, for each block of `lag` places; how
        many pairs agree with it, and of how many.
        """
        places = self._whole.shape[1] - lag
        modal = np.full(-(-places // lag), _MISSING)
        line, place, slot = np.nonzero(self._valid(lag) & (self._owner[:, lag:] == number))
        if not len(line):
            return modal, 0, 0
        moved = self._encoded[line, place + lag, slot] - self._encoded[line, place, slot]
        step = place // lag
        ids, first = number_rows([step, moved])
        order = np.argsort(np.bincount(ids), kind="stable")  # the most frequent is written last
        modal[step[first[order]]] = moved[first[order]]
        return modal, int((modal[step] == moved).sum()), len(moved)


def _nested(look: _Looks, number: int, size: int) -> tuple[list[tuple[int, int]] | None, int]:
    """Return (size, move) of the axes that places on a line enumerate, major first, and how many
    neighbors bear that out; None if there are none.
    """
    factors: list[tuple[int, int]] = []
    lag, left, evidence = 1, size, 0
    while left > 1:
        modal, agreeing, total = look.modes(number, lag)
        if not total or agreeing * 2 < total:
            return None, 0
        evidence = evidence or agreeing
        width = _width(modal, left)
        if width is None:
            return None, 0
        factors.insert(0, (width, int(modal[modal != _MISSING][0])))
        lag *= width
        left //= width
    return factors, evidence


def _width(modal: Ints, size: int) -> int | None:
    """Return the size of the innermost axis: moves are equal along it, and other or unknown where
    it ends.
    """
    seen = modal != _MISSING
    first = modal[seen][0]
    place = np.arange(len(modal))
    for width in range(2, size + 1):
        if size % width:
            continue
        ends = place % width == width - 1
        if (modal[seen & ~ends] == first).all() and (modal[ends] != first).all():
            return width
    return None


def _choose(
    layout: Layout, axes: list[_Axis], known: list[Layout], netlist: Netlist, alive: Mask
) -> None:
    """Take the largest set of candidates that every element bears out."""
    axes = [a for a in axes if all(_allowed(known[u], m[0]) for u, m in a.moves.items())]
    axes = _leave_a_channel(axes, layout, known)
    axes.sort(key=lambda a: -a.weight)
    for count in range(min(len(axes), _MAX_RANK), 0, -1):
        if _try(layout, axes[:count], known, netlist, alive):
            return


def _allowed(layout: Layout, axis: int) -> bool:
    """Whether a layer may be read along an axis: an image's, not a dense layer's only one."""
    layer = layout.layer
    if layer.kind == "gates":
        return axis in layout.spatial if layout.spatial else axis > 0
    return layer.kind != "threshold" or axis != 1


def _leave_a_channel(axes: list[_Axis], layout: Layout, known: list[Layout]) -> list[_Axis]:
    """Drop the axis along an input's first one unless that is an image's height.

    Channels come first, so the first axis is spatial only if the next one is as well, and another,
    the last, is left for channels.
    """
    spread = [n for i, n in enumerate(layout.axes) if i not in {a.place for a in axes}]
    for number in {u for a in axes for u in a.moves}:
        other = known[number]
        if other.layer.kind == "gates":
            continue
        whole = set(range(len(other.axes))) - ({1} if other.layer.kind == "threshold" else set())
        taken = {a.moves[number][0] for a in axes if number in a.moves}
        following = min(whole - {0}, default=None)
        alone = following is None and max(spread, default=1) == 1
        if alone or (following is not None and (taken == whole or following not in taken)):
            axes = [a for a in axes if a.moves.get(number, (1, 1))[0] != 0]
    return axes


def _try(
    layout: Layout, axes: list[_Axis], known: list[Layout], netlist: Netlist, alive: Mask
) -> bool:
    """Roll the layer along these axes if every living element fits its channel's template."""
    numbers = {u for a in axes for u in a.moves}
    reads = np.unique(netlist.layer_numbers(layout.layer.nets[alive]))
    if not set(reads[reads >= 0].tolist()) <= set.intersection(*(set(a.moves) for a in axes)):
        return False
    lead = min(numbers)
    axes = sorted(axes, key=lambda a: a.moves[lead][0])
    strides = [{m[1] for m in a.moves.values()} for a in axes]
    moved = [[a.moves[u][0] for a in axes] for u in numbers]
    if any(len(s) > 1 for s in strides) or any(len(set(m)) < len(m) for m in moved):
        return False
    spatial = tuple(a.place for a in axes)
    stride = tuple(next(iter(s)) for s in strides)
    paths = {u: tuple(a.moves[u][0] for a in axes) for u in numbers}
    layer = layout.layer
    grid = layout.grid(spatial)
    used = (layer.nets != 0).sum(axis=1)
    score = np.where(alive, used, -1)[grid]
    best = score.argmax(axis=1)
    template = grid[np.arange(len(grid)), best]
    space = tuple(layout.axes[a] for a in spatial)
    position = np.stack(np.unravel_index(best, space), axis=1)
    step = max(1, _CHUNK // max(1, grid.shape[1] * layer.nets.shape[1]))
    for start in range(0, len(grid), step):
        part = slice(start, start + step)
        if not _fits(
            layer, grid[part], template[part], position[part], space, stride, paths, known,
            netlist, alive,
        ):  # fmt: skip
            return False
    layout.spatial, layout.stride, layout.reads = spatial, stride, paths
    layout.template, layout.position = template, position
    return True


def _fits(
    layer: Layer,
    grid: Ints,
    template: Ints,
    position: Ints,
    space: tuple[int, ...],
    stride: tuple[int, ...],
    paths: dict[int, tuple[int, ...]],
    known: list[Layout],
    netlist: Netlist,
    alive: Mask,
) -> bool:
    """Whether all elements (channels, positions) are their templates, shifted."""
    channels, positions = grid.shape
    width = layer.nets.shape[1]
    nets = layer.nets[template]
    owner = netlist.layer_numbers(nets)
    at = np.stack(np.unravel_index(np.arange(positions), space), axis=1)
    shift = (at[None] - position[:, None]) * np.array(stride)  # (channels, positions, rank)
    expected = np.zeros((channels, positions, width), np.int64)
    for number, path in paths.items():
        other = known[number]
        channel, slot = np.nonzero((owner == number) & (nets != 0))
        places = other.coordinates(nets[channel, slot] - other.layer.base)
        moved = [np.broadcast_to(p[:, None], (len(channel), positions)) for p in places]
        inside = np.ones((len(channel), positions), bool)
        for axis, target in enumerate(path):
            moved[target] = moved[target] + shift[channel, :, axis]
            inside &= (moved[target] >= 0) & (moved[target] < other.axes[target])
        clipped = [np.clip(m, 0, n - 1) for m, n in zip(moved, other.axes, strict=True)]
        flat = other.element(clipped) + other.layer.base
        expected[channel, :, slot] = np.where(inside, flat, 0)
    rows = expected.reshape(-1, width)
    tables = np.repeat(layer.tables[template], positions)
    outside = (rows == 0) & np.repeat(nets != 0, positions, axis=0)
    code = (outside << np.arange(width)).sum(axis=1)
    living = np.flatnonzero(alive[grid.reshape(-1)])
    rows, tables, code = rows[living], tables[living], code[living]
    ids, first = number_rows([tables.view(np.int64), code, (rows != 0) @ (1 << np.arange(width))])
    bits = table_bits(tables[first], width)
    entry = np.arange(1 << width)[None] & ~code[first][:, None]
    cut = torch.from_numpy(np.take_along_axis(bits, entry, axis=1))
    found = simplified((len(rows),), rows, ids, cut, rows[first] != 0, layer.origin)
    element = grid.reshape(-1)[living]
    words = table_words(widened(found.tables, found.width, width).numpy())[found.number]
    actual = layer.nets[element]
    return bool(
        (words == layer.tables[element]).all()
        and (found.nets == actual[:, : found.width]).all()
        and not actual[:, found.width :].any()
    )
