"""Schedule a body that is evaluated once: cones, chains or gates by table, and where results go.

On dense layers the cost is cache traffic, not logic. The two-input gates of a level are evaluated
along trails, so that one plane is loaded a gate instead of two, and results take the places of
planes that were read for the last time, in cache lines that are there already. Two levels may be
fused, the gates of one evaluated in registers by the trails of the next. Where classes only count
many results, a chunk of them is counted at a time. Gates that form no long trails, and wider ones,
are grouped by truth table. Where most gates have one reader, as in the dense head of the paper's
convolutional networks, the body is a forest and whole trees are evaluated at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering import chunked_popcount
from lgir.backends.lowering.chunked_popcount import ChunkedPopcount
from lgir.backends.lowering.forest import find_forest, schedule_forest
from lgir.backends.lowering.fused_levels import THREE_ONES, FusedLevel, find_fused_levels
from lgir.backends.lowering.options import LoweringOptions
from lgir.backends.lowering.steps import (
    BUFFER,
    DUMP_PLANE,
    ChainStep,
    FusedStep,
    GateStep,
    Planes,
    Step,
)
from lgir.backends.lowering.table_keys import TableKeys, table_keys
from lgir.backends.lowering.trails import Ints, Trails, find_trails, latest_place
from lgir.ir.body import Body
from lgir.ir.sets import distinct, without
from lgir.ir.truth_tables import complement_inputs, swap_inputs
from lgir.ir.types import FIRST_TAP

MIN_TRAIL: Final = 3.0
"""Average length of trails below which gates by table are faster: a trail costs one row more."""
MIN_CHUNKS: Final = 4
"""Chunks of results from which trails count them: fewer are in the second-level cache anyway."""

_AND: Final = 0b1000
_NONE: Final = np.zeros(0, np.int64)


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
    body: Body,
    taps: Planes,
    planes: Allocator,
    options: LoweringOptions,
    classes: Ints | None = None,
) -> Scheduled:
    """Steps that evaluate `body` with its taps in the planes `taps` (T,).

    Args:
        options: which steps other than GateSteps are allowed.
        classes: (outputs,) the group that counts each output, where nothing else reads it.
    """
    return _Scheduler(body, taps, planes, options, classes).run()


@dataclass(frozen=True)
class _Stage:
    """Gates that are evaluated together: by trails the two-input ones, if long, and along these
    `inner` gates, which only they read.
    """

    gates: Ints
    trails: Trails | None
    inner: Ints


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
        self,
        body: Body,
        taps: Planes,
        planes: Allocator,
        options: LoweringOptions,
        classes: Ints | None,
    ) -> None:
        self.body = body
        self.options = options
        self.classes = classes if options.chunked_popcount else None
        self.slots = _Slots(planes)
        self.steps: list[Step] = []
        self.plane = np.empty(body.num_nets, np.int64)
        self.plane[:FIRST_TAP] = (0, 1)
        self.plane[FIRST_TAP : body.first_gate] = taps
        self.inverted = np.zeros(body.num_nets, bool)
        self.free = self.inverted
        self.counter: ChunkedPopcount | None = None
        self.counted = np.zeros(body.num_nets, bool)

    @cached_property
    def keys(self) -> TableKeys:
        return table_keys(self.body)

    def run(self) -> Scheduled:
        body = self.body
        forest = find_forest(body) if self.options.forests else []
        counts = None
        if forest:
            self.steps, counts = schedule_forest(body, forest, self.plane, self.slots, self.classes)
        else:
            counts = self._by_level()
        outputs = self.plane[body.outputs]
        # Outputs that are taps would share planes that die with their source: copy those.
        copied = np.flatnonzero((body.outputs >= FIRST_TAP) & (body.outputs < body.first_gate))
        if len(copied):
            fresh = self.slots.take(len(copied))
            self.steps.append(GateStep(1, BUFFER, np.column_stack([outputs[copied], fresh])))
            outputs[copied] = fresh
        return Scheduled(self.steps, outputs, self.slots.blocks, counts)

    def _by_level(self) -> Planes | None:
        """The count of outputs that trails counted, if any did."""
        body = self.body
        stages = self._stages()
        self.last_stage = _last_use(body, self.stage)
        self.free = self._free_polarity(stages)
        self._count_in_chunks(stages)
        for stage in stages:
            self._evaluate(stage)
        if self.counter is None:
            return None
        self.steps += self.counter.count()
        return self.counter.counts

    def _stages(self) -> list[_Stage]:
        """Two a level: the gates of the level, and those of it that are fused. Numbers `stage`."""
        body, first = self.body, self.body.first_gate
        levels = body.gates_by_level()
        if not self.options.trails:
            self.stage = body.levels()
            return [_Stage(gates, None, _NONE) for gates in levels]
        self.stage = 2 * body.levels()
        away = np.zeros(body.num_gates, bool)
        fused = [FusedLevel(_NONE, _NONE)] * len(levels)
        if self.options.fused_levels:
            fused = find_fused_levels(body, levels, self.keys.two)
        for number, found in enumerate(fused, start=1):
            for gates in (found.outer, found.inner):
                self.stage[first + gates] = 2 * number + 1
                away[gates] = True
        stages = []
        for gates, found in zip(levels, fused, strict=True):
            plain = gates[~away[gates]]
            if len(plain):
                trails = self._trails(plain)
                long = len(trails.gates) > MIN_TRAIL * trails.count
                stages.append(_Stage(plain, trails if long else None, _NONE))
            if len(found.inner):
                stages.append(_Stage(found.outer, self._trails(found.outer), found.inner))
        return stages

    def _trails(self, gates: Ints) -> Trails:
        """The trails of the two-input gates among `gates`."""
        pairs = gates[self.keys.arity[gates] == 2]
        found = find_trails(self.body.fanin[pairs, :2].astype(np.int64))
        return replace(found, gates=pairs[found.gates])

    def _free_polarity(self, stages: list[_Stage]) -> npt.NDArray[np.bool_]:
        """(num_nets,) nets that may be kept inverted: computed along trails and read along trails
        only, where operations are data and absorb it.
        """
        body = self.body
        chained = np.zeros(body.num_gates, bool)
        for stage in stages:
            if stage.trails is not None:
                chained[stage.trails.gates] = True
                chained[stage.inner] = True
        free = np.concatenate([np.zeros(body.first_gate, bool), chained])
        free[body.outputs] = False
        free[body.fanin[~chained].ravel()] = False
        return free

    def _count_in_chunks(self, stages: list[_Stage]) -> None:
        """Lets results of trails that nobody reads be `counted`, where they are many."""
        if self.classes is None:
            return
        body = self.body
        along = [stage.trails.gates for stage in stages if stage.trails is not None]
        found = np.zeros(body.num_nets, bool)
        found[body.first_gate + np.concatenate([_NONE, *along])] = True
        found &= np.isin(np.arange(body.num_nets), body.outputs)
        found[body.fanin.ravel()] = False
        if found.sum() >= MIN_CHUNKS * chunked_popcount.CHUNK:
            self.counted = found
            self.counter = ChunkedPopcount(body.outputs, self.classes, self.plane, self.slots)

    def _evaluate(self, stage: _Stage) -> None:
        first, gates, trails = self.body.first_gate, stage.gates, stage.trails
        number = int(self.stage[first + gates[0]])
        # Steps by table go first, so that what a trail replaces in place is read by nobody else.
        self._by_table(gates if trails is None else without(gates, trails.gates))
        replaced = _NONE
        if trails is not None:
            replaced = self._along(trails, stage.inner, number)
        read = distinct(self.body.fanin[np.concatenate([gates, stage.inner])])
        dying = read[(self.last_stage[read] == number) & (read >= first)]
        unread = first + gates[self.last_stage[first + gates] == number]
        gone = np.concatenate([replaced, first + stage.inner])
        self.slots.give(self.plane[np.concatenate([without(dying, gone), unread])])

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

    def _along(self, trails: Trails, inner: Ints, number: int) -> Ints:
        """Emits the trails, which evaluate `inner` gates where they meet them; returns the nets
        whose planes results have taken.
        """
        body = self.body
        own = body.first_gate + trails.gates
        fanin = body.fanin[trails.gates, :2].astype(np.int64)
        before = np.where(trails.reverse, fanin[:, 1], fanin[:, 0])
        after = np.where(trails.reverse, fanin[:, 0], fanin[:, 1])
        table = self.keys.two[trails.gates]
        table = np.where(trails.reverse, swap_inputs(table), table)
        table = complement_inputs(table, self.inverted[before], self.inverted[after])
        # Kept so that the kernel needs a mask less, where readers allow.
        self.inverted[own] = self.free[own] & (THREE_ONES[table] if len(inner) else table & 1 == 1)
        table = np.where(self.inverted[own], table ^ 0xF, table)
        # A trail begins with a row that only reads: its result goes to a plane nobody reads.
        at = np.arange(len(own)) + np.cumsum(trails.starts)
        current, tables = np.zeros(trails.rows, np.int64), np.full(trails.rows, _AND)
        current[at], tables[at] = after, table
        current[at[trails.starts] - 1] = before[trails.starts]
        operands, inner_tables = self._operands(current, inner)
        kept = ~self.counted[own]
        taken = self._place(own[kept], at[kept], operands, number)
        rows = np.column_stack([self.plane[operands], np.full(trails.rows, DUMP_PLANE)])
        rows[at[kept], -1] = self.plane[own[kept]]
        every = np.column_stack([inner_tables, tables] if len(inner) else [tables])
        self._emit(rows, every, own[~kept], at[~kept])
        return taken

    def _emit(self, rows: Planes, tables: Ints, results: Ints, at: Ints) -> None:
        """Emits the rows of trails, with tables (rows, 1 or 2), as a step that ends where
        `results`, those of the rows `at`, fill a chunk, which is then counted, and so on.
        """
        first = 0
        while first < len(rows):
            stop, again = len(rows), max(first - 1, 0)
            if self.counter is not None:
                now, results = np.split(results, [self.counter.room])
                places, at = np.split(at, [self.counter.room])
                self.counter.place(now)
                rows[places, -1] = self.plane[now]
                stop = int(places[-1]) + 1 if len(at) else stop
            part, these = rows[again:stop].copy(), tables[again:stop].copy()
            if first:  # the row before is read again, as one that begins a trail
                part[0, -1], these[0, -1] = DUMP_PLANE, _AND
            if these.shape[1] == 2:
                self.steps.append(FusedStep(part, these))
            else:
                self.steps.append(ChainStep(part, these[:, 0]))
            if self.counter is not None:
                self.steps += self.counter.count_full()
            first = stop

    def _place(self, own: Ints, at: Ints, operands: Ints, number: int) -> Ints:
        """Gives the nets `own`, results of the rows `at`, the planes of operands (rows, 1 or 2)
        that died last, and fresh ones where there are none; returns the nets that had them.
        """
        last_row = np.zeros(self.body.num_nets, np.int64)
        # Rows ascend, and the last assignment to an index stays.
        last_row[operands.ravel()] = np.repeat(np.arange(len(operands)), operands.shape[1])
        dying = distinct(operands)
        dying = dying[(self.last_stage[dying] == number) & (dying >= self.body.first_gate)]
        dying = dying[np.argsort(last_row[dying], kind="stable")]
        place = latest_place(last_row[dying], at)
        taken: Ints = dying[place[place >= 0]]
        self.plane[own[place >= 0]] = self.plane[taken]
        self.plane[own[place < 0]] = self.slots.take(int((place < 0).sum()))
        return taken

    def _operands(self, nets: Ints, inner: Ints) -> tuple[Ints, Ints]:
        """What rows read to have `nets` (rows,): themselves (rows, 1), or where there are `inner`
        gates, two nets and the tables that make one of them.
        """
        if not len(inner):
            return nets[:, None], _NONE
        first = self.body.first_gate
        is_inner = np.zeros(self.body.num_nets, bool)
        is_inner[first + inner] = True
        evaluated = np.flatnonzero(is_inner[nets])
        gates = nets[evaluated] - first
        operands = np.column_stack([nets, nets])
        operands[evaluated] = self.body.fanin[gates, :2]
        tables = np.full(len(nets), _AND)
        inverted = self.inverted[operands[evaluated]]
        tables[evaluated] = complement_inputs(self.keys.two[gates], *inverted.T)
        return operands, tables


def _last_use(body: Body, stage: npt.NDArray[np.int32]) -> Ints:
    """Stage of the last gate that reads each net, its own where none does; one past the last for
    outputs.
    """
    last = stage.astype(np.int64)
    gate_stage = last[body.first_gate :].copy()
    for column in range(body.k):
        np.maximum.at(last, body.fanin[:, column], gate_stage)
    last[body.outputs] = int(stage.max(initial=0)) + 1
    return last
