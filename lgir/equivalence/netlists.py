"""Netlists of chosen elements of an `Atlas`, down to variables and to what both graphs share.

`at_positions` unrolls elements where they stand. `at_any_position` unrolls one position of a
convolution, the same for all: its variables are reads at an offset, True or False alike, which
covers reads outside the image too. So what is equal there is equal at every position.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.equivalence.sweeping import Literals, by_level
from lgir.equivalence.value_map import Atlas, Codes, Made
from lgir.equivalence.windows import Chains
from lgir.ir.body import Body
from lgir.ir.nodes import Logic, Threshold
from lgir.ir.sets import distinct
from lgir.ir.simulate import tap_index
from lgir.ir.types import FALSE, FIRST_TAP, Shape

Nets = npt.NDArray[np.int64]

MAX_GATES: Final = 1 << 24

_NOT: Final = 0b01


@dataclass(frozen=True)
class Netlist:
    """Gates, in order of level, over variables; `body.outputs` are the nets of the roots.

    `odd` (roots,) says which roots are the complements of their nets. `variables` are the elements
    that the taps stand for, where the netlist is of elements.
    """

    body: Body
    odd: Literals
    chains: Chains
    variables: Codes

    def roots(self, literal: Literals) -> Literals:
        """(roots,) their literals, from those of all nets."""
        found: Literals = literal[self.body.outputs] ^ self.odd
        return found


class _Gates:
    """A body under construction. Nets are numbered for good as they are added."""

    def __init__(self, num_taps: int, k: int) -> None:
        self.k = k
        self.num_taps = num_taps
        self.next_net = FIRST_TAP + num_taps
        self._fanin: list[Nets] = [np.zeros((0, k), np.int64)]
        self._table: list[npt.NDArray[np.unsignedinteger]] = []

    def copies(self, body: Body, taps: Nets) -> Nets:
        """Adds a copy of `body` for each column of its taps' nets (T, n); all its nets (N, n)."""
        body, count = body.widened(self.k), taps.shape[1]
        nets = np.empty((body.num_nets, count), np.int64)
        nets[:FIRST_TAP] = np.arange(FIRST_TAP)[:, None]
        nets[FIRST_TAP : body.first_gate] = taps
        size = body.num_gates * count
        nets[body.first_gate :] = self._new(size).reshape(-1, count)
        self._fanin.append(nets[body.fanin].transpose(0, 2, 1).reshape(-1, self.k))
        self._table.append(np.repeat(body.table, count))
        return nets

    def inverted(self, nets: Nets, odd: npt.NDArray[np.bool_]) -> Nets:
        """The nets (any shape), with an inverter for each of those that are odd."""
        if not odd.any():
            return nets
        source, place = np.unique(nets[odd], return_inverse=True)
        inverter = Body.build([[0, 0]], [[FIRST_TAP]], [_NOT], [FIRST_TAP + 1])
        out = nets.copy()
        out[odd] = self.copies(inverter, source[None])[-1][place.ravel()]
        return out

    def netlist(self, roots: Nets, odd: Literals, chains: Chains, variables: Codes) -> Netlist:
        taps = np.zeros((self.num_taps, 2), np.int32)
        taps[:, 1] = np.arange(self.num_taps)
        table = np.concatenate(self._table) if self._table else np.zeros(0, np.uint8)
        body = Body.build(taps, np.concatenate(self._fanin), table, roots)
        return Netlist(by_level(_without_dead(body)), odd, chains, variables)

    def _new(self, count: int) -> Nets:
        self.next_net += count
        return np.arange(self.next_net - count, self.next_net)


def _without_dead(body: Body) -> Body:
    """The body without the gates that no output needs; all taps stay."""
    live = np.zeros(body.num_nets, bool)
    live[: body.first_gate] = True
    live[body.outputs] = True
    for gates in reversed(body.gates_by_level()):
        live[body.fanin[gates[live[body.first_gate + gates]]]] = True
    return body.restricted(live)


class TooLarge(Exception):
    """A netlist of more gates than fit."""

    def __init__(self, gates: int) -> None:
        super().__init__(f"{gates:,} gates")
        self.gates = gates


def _widest(atlas: Atlas) -> int:
    return max([made.op.body.k for made in atlas.made], default=1)


def at_positions(atlas: Atlas, roots: Codes, cut: int = 0, limit: int = MAX_GATES) -> Netlist:
    """The netlist of elements (n,), given as literals.

    Args:
        cut: stop at elements that both graphs are proved to share and that belong to the first
            `cut` values of the atlas, and at the inputs.
        limit: number of gates beyond which TooLarge is raised.
    """
    elements = roots >> 1
    needed = [np.zeros(made.op.positions, bool) for made in atlas.made]
    leaves: list[Codes] = [elements[atlas.owners(elements) < 0]]

    def need(elements: Codes) -> None:
        owner = atlas.owners(elements)
        for i in distinct(owner[owner >= 0]).tolist():
            made = atlas.made[i]
            needed[i][(elements[owner == i] - made.first) % made.op.positions] = True

    def is_leaf(elements: Codes) -> npt.NDArray[np.bool_]:
        owner = atlas.owners(elements)
        leaf: npt.NDArray[np.bool_] = owner < 0
        for i in set(owner[(owner >= 0) & (owner < cut)].tolist()) - compared:
            made, mine = atlas.made[i], owner == i
            leaf[mine] = made.shared[(elements[mine] - made.first) // made.op.positions]
        return leaf

    compared = set(atlas.owners(elements).tolist())  # what is compared is not cut off
    need(elements)
    reads: dict[int, Codes] = {}
    for i, made in reversed(list(enumerate(atlas.made))):
        at = np.flatnonzero(needed[i])
        if len(at):
            reads[i] = _codes_read(atlas, made, at)
            found = distinct(reads[i] >> 1)
            leaf = is_leaf(found)
            leaves.append(found[leaf])
            need(found[~leaf])
    total = sum(x.shape[1] * atlas.made[i].op.body.num_gates for i, x in reads.items())
    if total > limit:
        raise TooLarge(total)
    variables = distinct(np.concatenate(leaves))
    variables = variables[variables > 0]
    gates = _Gates(len(variables), _widest(atlas))
    read_net = np.zeros(atlas.num_elements, np.int64)  # what readers of an element find
    read_net[variables] = FIRST_TAP + np.arange(len(variables))
    root_net = read_net.copy()
    for i in sorted(reads):
        made, at, codes = atlas.made[i], np.flatnonzero(needed[i]), reads[i]
        odd = (codes & 1).astype(bool)
        taps = read_net[codes >> 1]
        taps[codes == 1] = 1
        taps = gates.inverted(taps, odd & (codes > 1))
        nets = gates.copies(made.op.body, taps)[made.op.body.outputs]
        own = made.own[:, at] >> 1
        root_net[own] = nets
        inner = read_net[own] == FALSE
        read_net[own[inner]] = nets[inner]
    odd = (roots & 1).astype(np.int32)
    chains = Chains.build(*atlas.chains(variables))
    return gates.netlist(root_net[elements], odd, chains, variables)


def _codes_read(atlas: Atlas, made: Made, at: Nets) -> Codes:
    """(T, n) what the taps of a Logic node read at some positions."""
    names = made.node.inputs
    planes = [atlas.codes(made.graph, name).ravel() for name in names]
    shapes = [atlas.shape(made.graph, name) for name in names]
    found: Codes = np.concatenate([*planes, [0]])[tap_index(made.op, shapes)[:, at]]
    return found


@dataclass(frozen=True)
class _Read:
    """One channel of one value at an address: element `position * scale + offset` for any position.

    `row` tells channels of equal elements by equal keys; of a Logic node's channels, `inner` gives
    node and channel. `edge` marks reads that may fall outside and of which that would not be False.
    """

    row: object
    scale: Shape
    offset: Shape
    inner: tuple[int, int] | None = None
    edge: bool = False


Address = tuple[Shape, Shape]


class _Anywhere:
    """Builds the netlist of `at_any_position`."""

    def __init__(self, atlas: Atlas, extent: Shape) -> None:
        self.atlas = atlas
        self.extent = extent
        self.number = {(m.graph, m.name): i for i, m in enumerate(atlas.made)}
        self.rows: dict[tuple[int, str], list[tuple[object, int, tuple[int, int] | None]]] = {}
        self.elements: dict[object, Codes] = {}  # of rows of inputs and thresholds
        self.variables: dict[_Read, int] = {}
        self.compared: set[int] = set()

    def build(self, roots: list[Made]) -> Netlist:
        one, zero = tuple(1 for _ in self.extent), tuple(0 for _ in self.extent)
        needed: list[dict[Address, list[tuple[_Read | None, int]]]] = [{} for _ in self.atlas.made]
        self.compared = {self.number[made.graph, made.name] for made in roots}
        for i in self.compared:
            needed[i][one, zero] = []
        for i, made in reversed(list(enumerate(self.atlas.made))):
            for address, reads in needed[i].items():
                reads += self._reads(made, *address)
                for read, _ in reads:
                    if read is None:
                        continue
                    if read.inner is not None:
                        needed[read.inner[0]].setdefault((read.scale, read.offset), [])
                    else:
                        self.variables.setdefault(read, FIRST_TAP + len(self.variables))
        gates = _Gates(len(self.variables), _widest(self.atlas))
        nets: dict[tuple[int, Address], Nets] = {}
        for i, made in enumerate(self.atlas.made):
            for address, reads in needed[i].items():
                taps, odd = np.zeros(len(reads), np.int64), np.zeros(len(reads), bool)
                for t, (read, complement) in enumerate(reads):
                    odd[t] = complement
                    if read is None:
                        taps[t], odd[t] = complement, False
                    elif read.inner is None:
                        taps[t] = self.variables[read]
                    else:
                        at = read.inner[0], (read.scale, read.offset)
                        taps[t] = nets[at][read.inner[1]]
                own = gates.copies(made.op.body, gates.inverted(taps, odd)[:, None])
                nets[i, address] = own[made.op.body.outputs, 0]
        found = [nets[self.number[m.graph, m.name], (one, zero)] for m in roots]
        count = sum(len(x) for x in found)
        none = np.zeros(0, np.int64)
        return gates.netlist(np.concatenate(found), np.zeros(count, np.int32), self._chains(), none)

    def _reads(self, made: Made, scale: Shape, offset: Shape) -> list[tuple[_Read | None, int]]:
        """What each tap reads, and whether complemented; None for a constant."""
        places: dict[tuple[int, ...], tuple[Shape, Shape, bool, bool]] = {}
        found: list[tuple[_Read | None, int]] = []
        stride = made.op.stride
        for source, channel, *shift in made.op.body.taps.tolist():
            name = made.node.inputs[source]
            place = places.get((source, *shift))
            if place is None:
                to_scale = tuple(a * s for a, s in zip(scale, stride, strict=True))
                to_offset = tuple(b * s + d for b, s, d in zip(offset, stride, shift, strict=True))
                size = self.atlas.shape(made.graph, name)[1:]
                place = (to_scale, to_offset, *_reach(to_scale, to_offset, self.extent, size))
                places[source, *shift] = place
            to_scale, to_offset, inside, outside = place
            row, odd, inner = self._rows(made.graph, name)[channel]
            if outside:
                found.append((None, 0))
            elif row is None and (inside or not odd):
                found.append((None, odd))
            elif inside or (not odd and inner is None):
                found.append((_Read(row, to_scale, to_offset, inner), odd))
            else:  # inside an inner row or its complement, outside False: one more variable
                found.append((_Read((row, odd), to_scale, to_offset, None, edge=True), 0))
        return found

    def _rows(self, graph: int, name: str) -> list[tuple[object, int, tuple[int, int] | None]]:
        """Of each channel of a value: a key of its elements up to complement (None for a constant),
        whether they are complements, and node and channel of what is not cut off here.
        """
        known = self.rows.get((graph, name))
        if known is not None:
            return known
        codes = self.atlas.codes(graph, name)
        odd = codes[:, :1] & 1
        plain = codes ^ odd
        made = self.atlas.maker(graph, name)
        found: list[tuple[object, int, tuple[int, int] | None]] = []
        owner = self.atlas.owners(plain[:, 0] >> 1)
        for c, row in enumerate(plain):
            key: object = int(row[0])
            inner = None
            if made is None:
                key = None if not row.any() else (row.shape, row.tobytes())
                self.elements[key] = row >> 1
            elif key == 0:
                key = None
            else:
                home = self.atlas.made[owner[c]]
                channel = (int(row[0]) // 2 - home.first) // home.op.positions
                cut = home.shared[channel] and int(owner[c]) not in self.compared
                inner = None if cut else (int(owner[c]), channel)
            found.append((key, int(odd[c, 0]), inner))
        self.rows[graph, name] = found
        return found

    def _chains(self) -> Chains:
        """Thresholds of the same numbers at the same offset imply each other."""
        count, ends = len(self.variables), self.atlas.first_made
        element = np.concatenate([[-1], self.atlas.space.elements()])
        groups: dict[object, list[tuple[int, Codes]]] = {}
        for read, net in self.variables.items():
            ids = self.elements.get(read.row)
            if ids is not None and ids.min() > 0 and ids.max() < ends and not read.edge:
                key = element[ids].tobytes(), read.scale, read.offset
                groups.setdefault(key, []).append((net - FIRST_TAP, ids))
        group, rank = np.arange(count), np.zeros(count, np.int64)
        for members in groups.values():
            members.sort(key=lambda member: int(member[1][0]))
            if all((low <= high).all() for (_, low), (_, high) in pairwise(members)):
                for place, (variable, _) in enumerate(members):
                    group[variable], rank[variable] = members[0][0], place
        return Chains.build(group, rank)


def _reach(scale: Shape, offset: Shape, extent: Shape, size: Shape) -> tuple[bool, bool]:
    """Whether reads from any of `extent` positions always fall inside `size`, and whether never."""
    always, never = True, False
    for a, b, n, length in zip(scale, offset, extent, size, strict=True):
        inside = [0 <= a * p + b < length for p in range(n)]
        always &= all(inside)
        never |= not any(inside)
    return always, never


def at_any_position(atlas: Atlas, roots: list[Made]) -> Netlist:
    """The netlist of all channels of some values over one iteration space, at any one position.

    It stops at the inputs and at what both graphs are proved to share.
    """
    return _Anywhere(atlas, roots[0].op.space).build(roots)


def position_classes(atlas: Atlas, roots: list[Made], cut: int) -> Nets:
    """Positions (flat) that stand for all: each other position has one among them at which the
    same reads, direct or through values that are not cut off, fall outside.

    `cut` is that of `at_positions`. All positions where reads do not move in step, or where the
    inputs differ between positions.
    """
    space = roots[0].op.space
    everywhere = np.arange(roots[0].op.positions)
    if not space:
        return everywhere
    one, zero = tuple(1 for _ in space), tuple(0 for _ in space)
    conditions: list[set[tuple[int, int, int]]] = [set() for _ in space]
    scales: dict[Shape, Shape] = {}
    seen = set()
    todo = [(made, one, zero) for made in roots]
    while todo:
        made, scale, offset = todo.pop()
        stride = made.op.stride
        for source, *shift in np.unique(np.delete(made.op.body.taps, 1, axis=1), axis=0).tolist():
            name = made.node.inputs[source]
            size = atlas.shape(made.graph, name)[1:]
            to_scale = tuple(a * s for a, s in zip(scale, stride, strict=True))
            to_offset = tuple(b * s + d for b, s, d in zip(offset, stride, shift, strict=True))
            for axis in range(len(space)):
                conditions[axis].add((to_scale[axis], to_offset[axis], size[axis]))
            in_step = scales.setdefault(size, to_scale) == to_scale
            if not in_step or not _is_uniform(atlas, made.graph, name):
                return everywhere
            owner = distinct(atlas.owners(atlas.codes(made.graph, name)[:, 0] >> 1))
            for i in owner[owner >= 0].tolist():
                step = (i, to_scale, to_offset)
                home = atlas.made[i]
                leaf = i < cut and home.shared.all() and home not in roots
                if step not in seen and not leaf:
                    seen.add(step)
                    todo.append((home, to_scale, to_offset))
    chosen = []
    for axis, n in enumerate(space):
        kinds: dict[tuple[bool, ...], int] = {}
        for p in range(n):
            kinds.setdefault(tuple(0 <= a * p + b < m for a, b, m in sorted(conditions[axis])), p)
        chosen.append(list(kinds.values()))
    return np.ravel_multi_index(np.meshgrid(*chosen, indexing="ij"), space).ravel()


def _is_uniform(atlas: Atlas, graph: int, name: str) -> bool:
    """Whether the value relates to others in the same way at every position."""
    node = atlas.producer(graph, name)
    if node is None or isinstance(node.op, Logic):
        return True
    return isinstance(node.op, Threshold) and node.op.levels.ndim <= 2
