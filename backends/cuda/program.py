"""A plan as a program for the GPU: launches of kernels over tables of rows.

Gates that do not wait for each other share a launch whatever their operations; each row carries its
table. What is written out as source, and what a process launches itself, are this one list.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.cuda.ends import ADDER, export_kernel, pack_kernel, place_kernel, sum_kernel
from lgir.backends.cuda.kernels import QUAD, Kernel, copy_kernel, gate_kernel, wide_gate_kernel
from lgir.backends.cuda.launch import (
    LANES,
    WORD_BITS,
    Arg,
    Count,
    Launch,
    Packed,
    Pitch,
    Results,
    Samples,
    Table,
    View,
)
from lgir.backends.cuda.trees import Tree, cone_kernel, cone_kernel_name
from lgir.backends.lowering.cones import ConeExpr
from lgir.backends.lowering.options import LoweringOptions
from lgir.backends.lowering.steps import (
    BUFFER,
    ZERO_PLANE,
    ConeStep,
    ExportStep,
    GateStep,
    PackStep,
    Plan,
    Step,
    SumStep,
)
from lgir.errors import BackendError
from lgir.ir.sets import distinct
from lgir.ir.thresholds import byte_levels
from lgir.ir.truth_tables import widen_table

Ints = npt.NDArray[np.int64]

LOWERING_OPTIONS: Final = LoweringOptions()
"""No option: each saves traffic of a CPU's caches, at the price of steps that depend on others."""


class Program:
    """Kernels, tables and launches of a plan.

    Attributes:
        kernels: by name, in order of first use.
        tables: in order of first use.
        trees: templates of cones, numbered in order of first use.
        launches: in order. Those that pack samples have a `packed` alternative.
        packed_planes: planes of each graph input that is packed by the caller.
    """

    def __init__(self, plan: Plan) -> None:
        if plan.num_planes * LANES >= 1 << 32:
            raise BackendError(
                f"the network needs {plan.num_planes:,} planes at once; at most "
                f"{(1 << 32) // LANES - 1:,} can be addressed"
            )
        self.plan = plan
        self.index_dtype = np.dtype(np.uint16 if plan.num_planes <= 1 << 16 else np.uint32)
        self.kernels: dict[str, Kernel] = {}
        self.tables: list[Table] = []
        self.launches: list[Launch] = []
        self.packed_planes = [0] * len(plan.graph.inputs)
        self._shared: dict[bytes, Table] = {}
        self.trees: dict[ConeExpr, Tree] = {}
        self._trees_of: dict[str, dict[ConeExpr, Tree]] = {}
        for step in plan.steps:
            if isinstance(step, ConeStep):
                tree = self.trees.setdefault(step.expr, Tree(len(self.trees), step.expr))
                self._trees_of.setdefault(_cone_kernel(step), {})[step.expr] = tree
        gates = [s for s in plan.steps if isinstance(s, GateStep) and s.fanin <= 3]
        self._tables_of = {k: _quad_tables(gates, k) for k in (2, 3)}
        for part in parts(plan):
            if isinstance(part, list):
                gates = [s for s in part if isinstance(s, GateStep)]
                cones = [s for s in part if isinstance(s, ConeStep)]
                self._gates(gates)
                self._cones(cones)
            elif isinstance(part, PackStep):
                self._pack(part)
            elif isinstance(part, SumStep):
                self._sum(part)
            elif isinstance(part, ExportStep):
                self._export(part)
            else:
                raise BackendError(f"the cuda backend lowers no {type(part).__name__}")

    # -- tables ----------------------------------------------------------------------------------

    def _table(self, name: str, kind: str, data: npt.NDArray[np.generic]) -> Table:
        """A new table, or an older one of the same content."""
        dtype = {
            "plane_t": self.index_dtype,
            "uint32_t": np.dtype(np.uint32),
            "uint64_t": np.dtype(np.uint64),
            "uint8_t": np.dtype(np.uint8),
            "int16_t": np.dtype(np.int16),
            "float": np.dtype(np.float32),
        }[kind]
        array = np.ascontiguousarray(data.reshape(len(data), -1), dtype=dtype)
        key = f"{kind}{array.shape}".encode() + array.tobytes()
        if key not in self._shared:
            self._shared[key] = Table(f"t{len(self.tables)}_{name}", kind, array)
            self.tables.append(self._shared[key])
        return self._shared[key]

    def _indices(self, name: str, planes: Ints) -> View:
        return View(self._table(name, "plane_t", planes), "plane_t")

    def _use(self, kernel: Kernel) -> str:
        return self.kernels.setdefault(kernel.name, kernel).name

    # -- packing ---------------------------------------------------------------------------------

    def _pack(self, step: PackStep) -> None:
        count, features = step.planes.shape
        rows = self._indices("pack_rows", step.planes)
        element = "float" if step.dtype == "f32" else "uint8_t"
        args: list[Arg] = [Samples(step.input, element, features), Count(), features, rows]
        if step.levels is not None:
            if step.dtype == "u8":  # x > t is x > floor(t); -1 holds for every byte, 255 for none
                kind, levels = "int16_t", byte_levels(step.levels)
            else:
                kind, levels = "float", step.levels
            args += [View(self._table("levels", kind, levels), kind), count]
        first = self.packed_planes[step.input]
        total = count * features
        self.packed_planes[step.input] += total
        kernel = self._use(pack_kernel(step.dtype))
        note = f"input {step.input}: {features:,} elements, {count} bits each"
        ready = (Packed(step.input, first), Pitch(), rows, total)
        placed = Launch(self._use(place_kernel()), "rows", total, ready, note)
        self.launches.append(Launch(kernel, "tiles", features, tuple(args), note, packed=placed))

    # -- gates -----------------------------------------------------------------------------------

    def _gates(self, steps: list[GateStep]) -> None:
        """Independent gate steps: a launch for each number of inputs."""
        copies = [s for s in steps if s.fanin == 1 and s.table == BUFFER]
        if copies:
            rows = self._indices("copy_rows", np.concatenate([s.rows for s in copies]))
            size = len(rows.table.data)
            kernel = self._use(copy_kernel())
            self.launches.append(
                Launch(kernel, "rows", size, (rows, size), f"{size:,} planes copied")
            )
        for fanin in (2, 3):
            some = [s for s in steps if _quad_fanin(s) == fanin]
            if some:
                self._quads(fanin, some)
        for fanin in (4, 5, 6):
            wide = [s for s in steps if s.fanin == fanin]
            if wide:
                rows = self._indices("gate_rows", np.concatenate([s.rows for s in wide]))
                tables = np.concatenate([s.tables for s in wide if s.tables is not None])
                bits = View(self._table("tables", "uint64_t", tables), "uint64_t")
                kernel = self._use(wide_gate_kernel(fanin))
                note = f"{len(tables):,} gates of {fanin} inputs"
                self.launches.append(
                    Launch(kernel, "rows", len(tables), (rows, bits, len(tables)), note)
                )

    def _quads(self, fanin: int, steps: list[GateStep]) -> None:
        """Gates by fours of one table, (operand and output columns, 4); a last four that is not
        full repeats its last gate.
        """
        rows, tables = [], []
        for step in steps:
            planes = step.rows
            if step.fanin < fanin:  # one input: the table ignores the second
                planes = planes[:, [0, 0, 1]]
            fours = -(-len(planes) // QUAD)
            index = np.minimum(np.arange(fours * QUAD), len(planes) - 1).reshape(fours, QUAD)
            rows.append(planes[index].transpose(0, 2, 1).reshape(fours, -1))
            tables.append(np.full(fours, _quad_table(step, fanin)))
        size, gates = sum(map(len, rows)), sum(len(s.rows) for s in steps)
        args = (
            View(self._table("gate_rows", "plane_t", np.concatenate(rows)), "Four"),
            View(self._table("tables", "uint8_t", np.concatenate(tables)), "uint8_t"),
            size,
        )
        kernel = self._use(gate_kernel(fanin, self._tables_of[fanin]))
        note = f"{gates:,} gates of {fanin} inputs, {len(steps)} operations"
        self.launches.append(Launch(kernel, "rows", size, args, note))

    # -- cones -----------------------------------------------------------------------------------

    def _cones(self, steps: list[ConeStep]) -> None:
        """Independent cones over the same positions: a launch for each kernel and its shifts."""
        calls: dict[tuple[str, bytes], list[ConeStep]] = {}
        for step in steps:
            calls.setdefault((_cone_kernel(step), step.shifts.tobytes()), []).append(step)
        for (name, _), some in calls.items():
            self._cone_launch(name, some)

    def _cone_launch(self, name: str, steps: list[ConeStep]) -> None:
        first, copies = steps[0], len(steps[0].shifts)
        heads, rows, masks = [], [], []
        row_at = mask_at = 0
        for step in steps:
            planes, words = np.column_stack([step.leaves, step.out]), _mask_words(step.masks)
            n = np.arange(len(planes))[:, None]
            tree = np.full((len(n), 1), self.trees[step.expr].number)
            at = (row_at + n * planes.shape[1], mask_at + n * words.shape[1])
            heads.append(np.concatenate([tree, *at, 0 * n], axis=1))
            rows.append(planes.ravel())
            masks.append(words.ravel())
            row_at, mask_at = row_at + planes.size, mask_at + words.size
        where = self._table("positions", "uint32_t", walk(first))
        positions, cones = len(where.data), sum(map(len, heads))
        args: list[Arg] = [
            View(self._table("cones", "uint32_t", np.concatenate(heads)), "Cone"),
            self._indices("cone_rows", np.concatenate(rows)),
            View(self._table("masks", "uint32_t", np.concatenate(masks)), "uint32_t"),
            View(where, "Position"),
            positions,
        ]
        if copies > 1:
            args += [int(shift) & 0xFFFF_FFFF for shift in first.shifts]
        trees = list(self._trees_of[name].values())
        self._use(cone_kernel(name, copies, trees))
        note = f"{cones:,} trees of {len(steps)} shapes at {positions:,} positions"
        note += f", pooled over {copies}" if copies > 1 else ""
        self.launches.append(Launch(name, "positions", cones, tuple(args), note, positions))

    # -- results ---------------------------------------------------------------------------------

    def _sum(self, step: SumStep) -> None:
        groups, bits = step.planes.shape
        rounds = -(-bits // ADDER)
        planes = np.full((groups, rounds * ADDER), ZERO_PLANE, np.int64)
        planes[:, :bits] = step.planes
        args = (
            Results(step.output, "float", groups),
            Count(),
            groups,
            self._indices("sum_rows", planes),
            rounds,
            float(np.float32(step.tau)),
            float(np.float32(step.beta)),
        )
        kernel = self._use(sum_kernel(bits.bit_length()))
        note = f"output {step.output}: {groups:,} groups of {bits:,} bits"
        self.launches.append(Launch(kernel, "groups", groups, args, note))

    def _export(self, step: ExportStep) -> None:
        count = len(step.planes)
        rows = self._indices("bit_rows", step.planes)
        args = (Results(step.output, "uint8_t", count), Count(), count, rows)
        note = f"output {step.output}: {count:,} bits"
        self.launches.append(Launch(self._use(export_kernel()), "tiles", count, args, note))


def parts(plan: Plan) -> Iterator[list[GateStep | ConeStep] | Step]:
    """Steps in order; together those that evaluate gates over the same positions and do not touch
    each other's planes.
    """
    written = np.zeros(plan.num_planes, np.int32)
    read = np.zeros(plan.num_planes, np.int32)
    group: list[GateStep | ConeStep] = []
    stamp = 1
    for step in plan.steps:
        if not isinstance(step, (GateStep, ConeStep)):
            if group:
                yield group
            group, stamp = [], stamp + 1
            yield step
            continue
        inputs, out = touched(step)
        clash = (written[inputs] == stamp).any() or (written[out] == stamp).any()
        clash = clash or (read[out] == stamp).any()
        if group and (clash or _geometry(group[0]) != _geometry(step)):
            yield group
            group, stamp = [], stamp + 1
        group.append(step)
        read[inputs], written[out] = stamp, stamp
    if group:
        yield group


def touched(step: GateStep | ConeStep) -> tuple[Ints, Ints]:
    """Planes that a step reads and writes."""
    if isinstance(step, GateStep):
        return step.rows[:, :-1], step.rows[:, -1]
    walk_in, walk_out = walk(step).T
    is_tap = np.array([kind == "tap" for kind in step.expr.leaves()])
    taps = distinct(step.leaves[:, is_tap])
    window = distinct(walk_in[:, None] + step.shifts)
    cuts = distinct(step.leaves[:, ~is_tap])
    reads = np.concatenate([(taps[:, None] + window).ravel(), (cuts[:, None] + walk_out).ravel()])
    return reads, (step.out[:, None] + walk_out).ravel()


def _geometry(step: GateStep | ConeStep) -> tuple[object, ...]:
    if isinstance(step, GateStep):
        return ()
    return step.space, step.in_step, step.out_step


def _cone_kernel(step: ConeStep) -> str:
    return cone_kernel_name(len(step.expr.leaves()), len(step.shifts))


def _quad_fanin(step: GateStep) -> int | None:
    """Inputs of the kernel that evaluates the step's gates by fours, if one does."""
    if step.fanin > 3 or (step.fanin == 1 and step.table == BUFFER):
        return None
    return max(step.fanin, 2)


def _quad_table(step: GateStep, fanin: int) -> int:
    assert step.table is not None
    return int(widen_table(np.array([step.table], np.uint8), step.fanin, fanin)[0])


def _quad_tables(steps: list[GateStep], fanin: int) -> list[int]:
    return sorted({_quad_table(s, fanin) for s in steps if _quad_fanin(s) == fanin})


def _mask_words(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    """(n, M) masks as (n, ceil(M / 32)) words, the first the lowest bit."""
    padded = np.zeros((len(masks), -(-masks.shape[1] // WORD_BITS) * WORD_BITS), bool)
    padded[:, : masks.shape[1]] = masks
    words: npt.NDArray[np.uint32] = np.packbits(padded, axis=1, bitorder="little").view(np.uint32)
    return words


def walk(step: ConeStep) -> Ints:
    """(positions, 2) planes to advance, for reading and for writing."""
    grid = np.indices(step.space).reshape(3, -1).T
    return np.stack([grid @ np.array(step.in_step), grid @ np.array(step.out_step)], axis=1)
