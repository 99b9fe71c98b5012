"""Schedule a body that is evaluated once: cones, chains or gates by table, and where results go.

On dense layers the cost is cache traffic, not logic. Taken as edges between the planes they read,
the two-input gates of a level decompose into trails; along a trail each gate shares an operand with
the one before, so that one plane is loaded a gate instead of two, and where the shared operand is
read for the last time the result takes its place, in a cache line that is there already. Gates that
form no long trails, and wider ones, are grouped by truth table. Where most gates have one reader,
as in the dense head of the paper's convolutional networks, the body is a forest and whole trees are
evaluated at once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from lgir.backends.forest import find_forest, schedule_forest
from lgir.backends.steps import (
    BUFFER,
    DUMP_PLANE,
    ChainStep,
    GateStep,
    Planes,
    Step,
)
from lgir.body import FIRST_TAP, Body
from lgir.ops import swap_inputs

MIN_TRAIL: Final = 3.0
"""Average length of trails below which gates by table are faster: a trail costs one row more."""

Ints = npt.NDArray[np.int64]


class Allocator(Protocol):
    """Hands out ranges of planes."""

    def take(self, count: int) -> int: ...


@dataclass(frozen=True)
class Scheduled:
    """The steps of a body, the plane of each output, -1 where it is counted in `counts`, and the
    ranges of planes that all of these hold.
    """

    steps: list[Step]
    outputs: Planes
    blocks: list[tuple[int, int]]
    counts: Planes | None = None


def schedule_gates(
    body: Body, taps: Planes, planes: Allocator, *, chains: bool, classes: Ints | None = None
) -> Scheduled:
    """Steps that evaluate `body` with its taps in the planes `taps` (T,).

    Args:
        chains: allow ChainSteps and forests; without it, every step is a GateStep.
        classes: (outputs,) the group that counts each output, where nothing else reads it.
    """
    return _Scheduler(body, taps, planes, chains, classes).run()


class _Slots:
    """Single planes owned by the body, taken lowest first."""

    def __init__(self, planes: Allocator) -> None:
        self._planes = planes
        self._free = np.zeros(0, np.int64)
        self.blocks: list[tuple[int, int]] = []

    def take(self, count: int) -> Planes:
        missing = count - len(self._free)
        if missing > 0:
            base = self._planes.take(missing)
            self.blocks.append((base, missing))
            self._free = np.concatenate([self._free, np.arange(base, base + missing)])
        taken, self._free = self._free[:count], self._free[count:]
        return taken

    def give(self, planes: Planes) -> None:
        self._free = np.sort(np.concatenate([self._free, planes]))


class _Scheduler:
    def __init__(
        self, body: Body, taps: Planes, planes: Allocator, chains: bool, classes: Ints | None
    ) -> None:
        self.body = body
        self.chains = chains
        self.classes = classes
        self.slots = _Slots(planes)
        self.steps: list[Step] = []
        self.plane = np.empty(body.num_nets, np.int64)
        self.plane[:FIRST_TAP] = (0, 1)
        self.plane[FIRST_TAP : body.first_gate] = taps
        self.inverted = np.zeros(body.num_nets, bool)
        self.free = self.inverted
        self.level = body.levels()
        self.last_level = _last_use(body, self.level)
        self.keys = table_keys(body)

    def run(self) -> Scheduled:
        body = self.body
        forest = find_forest(body) if self.chains else []
        counts = None
        if forest:
            self.steps, counts = schedule_forest(body, forest, self.plane, self.slots, self.classes)
        else:
            self._by_level()
        outputs = self.plane[body.outputs]
        # Outputs that are taps would share planes that die with their source: copy those.
        copied = np.flatnonzero((body.outputs >= FIRST_TAP) & (body.outputs < body.first_gate))
        if len(copied):
            fresh = self.slots.take(len(copied))
            self.steps.append(GateStep(1, BUFFER, np.column_stack([outputs[copied], fresh])))
            outputs[copied] = fresh
        return Scheduled(self.steps, outputs, self.slots.blocks, counts)

    def _by_level(self) -> None:
        levels = self.body.gates_by_level()
        trails = [self._trails(gates) for gates in levels]
        self.free = self._free_polarity(levels, trails)
        for gates, found in zip(levels, trails, strict=True):
            self._level(gates, found)

    def _trails(self, gates: Ints) -> Trails | None:
        """The trails of a level's two-input gates, where they are long enough to be worth it."""
        if not self.chains:
            return None
        found = find_trails(self.body.fanin[self._pairs(gates), :2].astype(np.int64))
        return found if len(found.gates) > MIN_TRAIL * found.count else None

    def _pairs(self, gates: Ints) -> Ints:
        pairs: Ints = gates[self.keys.arity[gates] == 2]
        return pairs

    def _free_polarity(
        self, levels: list[Ints], trails: list[Trails | None]
    ) -> npt.NDArray[np.bool_]:
        """(num_nets,) nets that may be kept inverted: computed in a chain and read by chains only,
        whose operations are data and absorb it.
        """
        body = self.body
        chained = np.zeros(body.num_gates, bool)
        for gates, found in zip(levels, trails, strict=True):
            if found is not None:
                chained[self._pairs(gates)] = True
        free = np.concatenate([np.zeros(body.first_gate, bool), chained])
        free[body.outputs] = False
        free[body.fanin[~chained].ravel()] = False
        return free

    def _level(self, gates: Ints, trails: Trails | None) -> None:
        level = int(self.level[self.body.first_gate + gates[0]])
        # Steps by table go first, so that what a chain replaces in place is read by nobody else.
        rest = gates if trails is None else gates[self.keys.arity[gates] != 2]
        self._by_table(rest)
        replaced = np.zeros(0, np.int64)
        if trails is not None:
            replaced = self._chain(self._pairs(gates), trails, level)
        read = np.unique(self.body.fanin[gates])
        dying = read[(self.last_level[read] == level) & (read >= self.body.first_gate)]
        own = self.body.first_gate + gates
        unread = own[self.last_level[own] == level]
        dead = np.concatenate([np.setdiff1d(dying, replaced), unread])
        self.slots.give(self.plane[dead])

    def _by_table(self, gates: Ints) -> None:
        keys, body = self.keys, self.body
        gates = gates[np.argsort(keys.key[gates], kind="stable")]
        self.plane[body.first_gate + gates] = self.slots.take(len(gates))
        edges = np.flatnonzero(np.diff(keys.key[gates])) + 1
        for run in np.split(gates, edges) if len(gates) else []:
            fanin, table = keys.describe(int(keys.key[run[0]]))
            operands = np.take_along_axis(body.fanin[run], keys.order[run], axis=1)[:, :fanin]
            rows = np.column_stack([self.plane[operands], self.plane[body.first_gate + run]])
            tables = keys.wide[run] if table is None else None
            self.steps.append(GateStep(fanin, table, rows, tables))

    def _chain(self, gates: Ints, trails: Trails, level: int) -> Ints:
        """Emits the trails as one step; returns the nets whose planes results have taken."""
        body = self.body
        ordered = gates[trails.gates]
        fanin = body.fanin[ordered, :2].astype(np.int64)
        before = np.where(trails.reverse, fanin[:, 1], fanin[:, 0])
        after = np.where(trails.reverse, fanin[:, 0], fanin[:, 1])
        table = self.keys.two[ordered]
        table = np.where(trails.reverse, swap_inputs(table), table)
        table = invert_inputs(table, self.inverted[before], self.inverted[after])
        # Kept so that inputs of 0 give 0 where readers allow: such chains need one mask less.
        own = body.first_gate + ordered
        self.inverted[own] = self.free[own] & (table & 1 == 1)
        table = np.where(self.inverted[own], table ^ 0xF, table)
        rows = np.arange(len(ordered))
        last_row = np.full(body.num_nets, -1, np.int64)
        last_row[before] = rows  # rows ascend, and the last assignment to an index stays
        np.maximum.at(last_row, after, rows)
        dies = (self.last_level == level) & (np.arange(body.num_nets) >= body.first_gate)
        place = np.where(dies[before] & (last_row[before] == rows), before, -1)
        second = dies[after] & (last_row[after] == rows)
        place = np.where((place < 0) & second, after, place)
        fresh = np.flatnonzero(place < 0)
        out = np.where(place < 0, 0, self.plane[np.maximum(place, 0)])
        out[fresh] = self.slots.take(len(fresh))
        # A trail begins with a row that only loads: its result goes to a plane nobody reads.
        at = np.arange(len(ordered)) + np.cumsum(trails.starts)
        total = len(ordered) + trails.count
        current, result = np.zeros(total, np.int64), np.full(total, DUMP_PLANE, np.int64)
        tables = np.zeros(total, np.int64)
        current[at], result[at], tables[at] = self.plane[after], out, table
        current[at[trails.starts] - 1] = self.plane[before[trails.starts]]
        self.steps.append(ChainStep(np.column_stack([current, result]), tables, len(ordered)))
        self.plane[own] = out
        return place[place >= 0]


@dataclass(frozen=True)
class Trails:
    """Gates in an order where each but the first of a trail shares an operand with the one before.

    `gates` (n,) indices, `reverse` (n,) whether the gate is entered by its second operand, `starts`
    (n,) whether it begins a trail, `count` the number of trails.
    """

    gates: Ints
    reverse: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.bool_]
    count: int


def find_trails(ends: Ints) -> Trails:
    """Decompose gates, seen as edges (n, 2) between the nets they read, into trails.

    At every net the ends that meet there are paired two by two (as in Hierholzer's algorithm, but
    without joining the circuits that result); following the pairs gives trails, which begin and
    end at nets of odd degree, and closed ones.
    """
    n = len(ends)
    flat = ends.ravel()
    order = np.argsort(flat, kind="stable")
    nets = flat[order]
    first = np.concatenate([[True], nets[1:] != nets[:-1]]) if n else np.zeros(0, bool)
    start = np.maximum.accumulate(np.where(first, np.arange(2 * n), 0))
    even = (np.arange(2 * n) - start) % 2 == 0
    left = np.flatnonzero(even[:-1] & ~first[1:]) if n else np.zeros(0, np.int64)
    partner = np.full(2 * n, -1, np.int64)
    partner[order[left]], partner[order[left + 1]] = order[left + 1], order[left]
    follow = partner.tolist()
    seen = bytearray(n)
    path: list[int] = []
    starts: list[int] = []
    for entry in itertools.chain(np.flatnonzero(partner < 0).tolist(), range(0, 2 * n, 2)):
        if seen[entry >> 1]:
            continue
        starts.append(len(path))
        end = entry
        while end >= 0 and not seen[end >> 1]:
            seen[end >> 1] = 1
            path.append(end)
            end = follow[end ^ 1]
    entered = np.array(path, np.int64)
    begins = np.zeros(n, bool)
    begins[starts] = True
    return Trails(entered >> 1, (entered & 1).astype(bool), begins, len(starts))


def invert_inputs(table: Ints, a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> Ints:
    """Two-input tables of functions of the complements of their inputs, where a and b say so."""
    table = np.where(a, (table & 0b0011) << 2 | table >> 2, table)
    return np.where(b, (table & 0b0101) << 1 | (table >> 1) & 0b0101, table)


@dataclass(frozen=True)
class TableKeys:
    """Per gate: a sort key that names its fan-in and canonical table, the operand order that makes
    the table canonical, the table over its own fan-in as uint64, and for two inputs that table
    before canonisation.
    """

    arity: Ints
    key: Ints
    order: Ints
    wide: npt.NDArray[np.uint64]
    two: Ints

    @staticmethod
    def describe(key: int) -> tuple[int, int | None]:
        """(fan-in, table) of a key; wide gates have no table of their own."""
        fanin, table = key >> 32, key & 0xFFFF_FFFF
        return fanin, table if fanin <= 3 else None


def table_keys(body: Body) -> TableKeys:
    """Keys of all gates of `body`."""
    arity = np.maximum(body.arity().astype(np.int64), 1)
    order = np.tile(np.arange(body.k), (body.num_gates, 1))
    wide = body.table.astype(np.uint64)
    key = np.zeros(body.num_gates, np.int64)
    for k in range(1, body.k + 1):
        mine = np.flatnonzero(arity == k)
        spread = 1 << (body.k - k)
        narrow = np.zeros(len(mine), np.uint64)
        for i in range(1 << k):
            bit = (wide[mine] >> np.uint64(i * spread)) & np.uint64(1)
            narrow |= bit << np.uint64(i)
        wide[mine] = narrow
        if k > 3:
            key[mine] = k << 32
            continue
        best = narrow.copy()
        for permutation in list(itertools.permutations(range(k)))[1:]:
            other = _permute(narrow, permutation)
            better = other < best
            best[better] = other[better]
            order[mine[better], :k] = permutation
        key[mine] = (k << 32) | best.astype(np.int64)
    two = np.where(arity == 2, wide & np.uint64(0xF), 0).astype(np.int64)
    return TableKeys(arity, key, order, wide, two)


def _permute(table: npt.NDArray[np.uint64], order: tuple[int, ...]) -> npt.NDArray[np.uint64]:
    """Tables after reordering operands: new operand c is old operand order[c]."""
    k = len(order)
    out = np.zeros_like(table)
    for i in range(1 << k):
        old = 0
        for c, source in enumerate(order):
            old |= (i >> (k - 1 - c) & 1) << (k - 1 - source)
        out |= ((table >> np.uint64(old)) & np.uint64(1)) << np.uint64(i)
    return out


def _last_use(body: Body, level: npt.NDArray[np.int32]) -> Ints:
    """Level of the last gate that reads each net, its own where none does; one past the deepest
    for outputs.
    """
    last = level.astype(np.int64)
    gate_level = last[body.first_gate :].copy()
    for column in range(body.k):
        np.maximum.at(last, body.fanin[:, column], gate_level)
    last[body.outputs] = int(level.max(initial=0)) + 1
    return last
