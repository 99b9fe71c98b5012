"""Evaluate a dense body stage by stage, by gates of one table, chains and fused chains.

On dense layers the cost is cache traffic, not logic. The two-input gates of a level are evaluated
along trails, so that one plane is loaded per gate instead of two, and results take the places of
planes that were read for the last time, in cache lines that are there already. Gates that form no
long trails, and gates of more inputs, are grouped by truth table.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.lowering import chunked_popcount
from lgir.backends.lowering.chunked_popcount import ChunkedPopcount
from lgir.backends.lowering.fused_levels import THREE_ONES
from lgir.backends.lowering.layouts import PartialCount
from lgir.backends.lowering.options import LoweringOptions
from lgir.backends.lowering.plane_allocator import PlanePool
from lgir.backends.lowering.stages import Stage, find_stages
from lgir.backends.lowering.steps import (
    DUMP_PLANE,
    ChainStep,
    FusedStep,
    GateStep,
    Planes,
    Step,
)
from lgir.backends.lowering.table_keys import table_keys
from lgir.backends.lowering.trails import Trails, latest_places
from lgir.ir.body import Body
from lgir.ir.sets import distinct, without
from lgir.ir.truth_tables import AND, complement_inputs, swap_inputs

MIN_CHUNKS: Final = 4
"""The chunks from which results of trails are counted: fewer stay in the second-level cache."""

_NONE: Final = np.zeros(0, np.int64)

Ints = npt.NDArray[np.int64]


def schedule_levels(
    body: Body, plane: Planes, pool: PlanePool, options: LoweringOptions, groups: Ints | None
) -> tuple[list[Step], PartialCount | None]:
    """Return the steps of `body`, stage by stage, and the count of outputs that are counted.

    Args:
        plane: (num_nets,) the planes of constants and taps; those of gates are filled in.
        pool: where results take planes.
        groups: (outputs,) the group in which each output is counted, if outputs have no other use.
    """
    return _LevelScheduler(body, plane, pool, options, groups).run()


class _LevelScheduler:
    """The state while one body is scheduled: planes of live nets, and which are kept inverted."""

    def __init__(
        self,
        body: Body,
        plane: Planes,
        pool: PlanePool,
        options: LoweringOptions,
        groups: Ints | None,
    ) -> None:
        self.body = body
        self.plane = plane
        self.pool = pool
        self.keys = table_keys(body)
        self.staged = find_stages(body, self.keys, options)
        self.inverted = np.zeros(body.num_nets, bool)
        self.steps: list[Step] = []
        self.to_count = np.zeros(body.num_nets, bool)
        self.popcount: ChunkedPopcount | None = None
        if groups is not None:
            countable = _countable(body, self.staged.stages)
            if countable.sum() >= MIN_CHUNKS * chunked_popcount.CHUNK:
                self.to_count = countable
                self.popcount = ChunkedPopcount(body.outputs, groups, plane, pool)

    def run(self) -> tuple[list[Step], PartialCount | None]:
        for stage in self.staged.stages:
            self._evaluate(stage)
        if self.popcount is None:
            return self.steps, None
        last, counted = self.popcount.finish()
        return [*self.steps, *last], counted

    def _evaluate(self, stage: Stage) -> None:
        """Emit the steps of a stage, and free the planes that nothing reads after it."""
        first, gates, trails = self.body.first_gate, stage.gates, stage.trails
        last_use = self.staged.last_use
        # Steps by table go first, so that nothing else reads what a trail replaces in place.
        self._by_table(gates if trails is None else without(gates, trails.gates))
        replaced = _NONE
        if trails is not None:
            replaced = self._along(trails, stage)
        read = distinct(self.body.fanin[np.concatenate([gates, stage.inner])])
        dying = read[(last_use[read] == stage.number) & (read >= first)]
        unread = first + gates[last_use[first + gates] == stage.number]
        # Places that results have taken are not free, and inner gates have no plane.
        dying = without(dying, np.concatenate([replaced, first + stage.inner]))
        self.pool.give(self.plane[np.concatenate([dying, unread])])

    def _by_table(self, gates: Ints) -> None:
        """Emit a GateStep for each canonical table among `gates`."""
        keys, body = self.keys, self.body
        gates = gates[np.argsort(keys.key[gates], kind="stable")]
        self.plane[body.first_gate + gates] = self.pool.take(len(gates))
        boundaries = np.flatnonzero(np.diff(keys.key[gates])) + 1
        for run in np.split(gates, boundaries) if len(gates) else []:
            fanin, table = keys.describe(int(keys.key[run[0]]))
            operands = np.take_along_axis(body.fanin[run], keys.order[run], axis=1)[:, :fanin]
            rows = self.plane[np.column_stack([operands, body.first_gate + run])]
            tables = keys.tables[run] if table is None else None
            self.steps.append(GateStep(fanin, table, rows, tables))

    def _along(self, trails: Trails, stage: Stage) -> Ints:
        """Emit the trails of a stage; return the nets whose planes results have taken."""
        body, has_inner = self.body, len(stage.inner) > 0
        results = body.first_gate + trails.gates
        entered, other = trails.operands(body.fanin)
        tables = self.keys.pair_tables[trails.gates]
        tables = np.where(trails.reverse, swap_inputs(tables), tables)
        tables = complement_inputs(tables, self.inverted[entered], self.inverted[other])
        # A result is kept inverted where readers allow it and the kernel then needs one mask less.
        saves_mask = THREE_ONES[tables] if has_inner else tables & 1 == 1
        self.inverted[results] = self.staged.may_invert[results] & saves_mask
        tables = np.where(self.inverted[results], tables ^ 0xF, tables)
        # A trail begins with a row that only reads: its result goes to a plane that nothing reads.
        row = np.arange(len(results)) + np.cumsum(trails.starts)
        row_nets, row_tables = np.zeros(trails.rows, np.int64), np.full(trails.rows, AND)
        row_nets[row], row_tables[row] = other, tables
        row_nets[row[trails.starts] - 1] = entered[trails.starts]
        operands, inner_tables = self._operands(row_nets, stage.inner)
        kept = ~self.to_count[results]
        replaced = self._place(results[kept], row[kept], operands, stage.number)
        rows = np.column_stack([self.plane[operands], np.full(trails.rows, DUMP_PLANE)])
        rows[row[kept], -1] = self.plane[results[kept]]
        columns = [inner_tables, row_tables] if has_inner else [row_tables]
        self._emit(rows, np.column_stack(columns), results[~kept], row[~kept])
        return replaced

    def _operands(self, nets: Ints, inner: Ints) -> tuple[Ints, Ints]:
        """Return what rows read to have `nets`, (rows, 1 or 2), and the tables of inner gates.

        Without `inner` gates, a row reads its net. With them, it reads two nets and computes its
        own from these; a net that is not an inner gate is the AND of itself.
        """
        if not len(inner):
            return nets[:, None], _NONE
        first = self.body.first_gate
        is_inner = np.zeros(self.body.num_nets, bool)
        is_inner[first + inner] = True
        inner_rows = np.flatnonzero(is_inner[nets])
        gates = nets[inner_rows] - first
        operands = np.column_stack([nets, nets])
        operands[inner_rows] = self.body.fanin[gates, :2]
        tables = np.full(len(nets), AND)
        inverted = self.inverted[operands[inner_rows]]
        tables[inner_rows] = complement_inputs(self.keys.pair_tables[gates], *inverted.T)
        return operands, tables

    def _place(self, results: Ints, rows: Ints, operands: Ints, number: int) -> Ints:
        """Give the results of `rows` the planes of operands that died last, or else new planes.

        `operands` are those of all rows of the stage `number`, (all rows, 1 or 2). Returns the nets
        whose planes have been taken.
        """
        last_row = np.zeros(self.body.num_nets, np.int64)
        # Rows ascend, and the last assignment to an index stays.
        last_row[operands.ravel()] = np.repeat(np.arange(len(operands)), operands.shape[1])
        dying = distinct(operands)
        dying = dying[self.staged.last_use[dying] == number]
        dying = dying[dying >= self.body.first_gate]
        dying = dying[np.argsort(last_row[dying], kind="stable")]
        has_place, place = latest_places(last_row[dying], rows)
        replaced: Ints = dying[place]
        self.plane[results[has_place]] = self.plane[replaced]
        self.plane[results[~has_place]] = self.pool.take(int((~has_place).sum()))
        return replaced

    def _emit(self, rows: Planes, tables: Ints, results: Ints, result_rows: Ints) -> None:
        """Emit the rows of trails, with tables (rows, 1 or 2), as steps.

        The `results`, of the rows `result_rows`, go to a chunk to be counted. A step ends wherever
        they fill the chunk, which is counted then.
        """
        begin = 0
        while begin < len(rows):
            end, reread = len(rows), max(begin - 1, 0)
            if self.popcount is not None:
                fitting, results = np.split(results, [self.popcount.free_planes])
                fitting_rows, result_rows = np.split(result_rows, [self.popcount.free_planes])
                self.popcount.place(fitting)
                rows[fitting_rows, -1] = self.plane[fitting]
                end = int(fitting_rows[-1]) + 1 if len(result_rows) else end
            step_rows, step_tables = rows[reread:end].copy(), tables[reread:end].copy()
            if begin:  # The row before is read again, as a row that begins a trail.
                step_rows[0, -1], step_tables[0, -1] = DUMP_PLANE, AND
            if step_tables.shape[1] == 2:
                self.steps.append(FusedStep(step_rows, step_tables))
            else:
                self.steps.append(ChainStep(step_rows, step_tables[:, 0]))
            if self.popcount is not None:
                self.steps += self.popcount.count_if_full()
            begin = end


def _countable(body: Body, stages: list[Stage]) -> npt.NDArray[np.bool_]:
    """Return which nets may be counted in chunks: outputs along trails that no gate reads."""
    gates = [stage.trails.gates for stage in stages if stage.trails is not None]
    countable = np.zeros(body.num_nets, bool)
    countable[body.first_gate + np.concatenate([_NONE, *gates])] = True
    countable &= np.isin(np.arange(body.num_nets), body.outputs)
    countable[body.fanin.ravel()] = False
    return countable
