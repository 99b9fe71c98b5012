"""A plan as a program: kernels' text for the templates it needs, and step records with row tables.

The program is data that the fixed loop `lgir_run` interprets, so that compiling a network costs
what its distinct templates cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.avx512.register_allocation import MAX_PLANES
from lgir.backends.llvm.avx512.tree_functions import tree_geometry, write_tree_functions
from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.counting import count_kernel, whole_rounds
from lgir.backends.llvm.fused import FUSED_ROWS, fused_kernel, fused_words
from lgir.backends.llvm.kernels import (
    CHAIN_ROWS,
    chain_kernel,
    chain_words,
    cone_kernel,
    gate_kernel,
)
from lgir.backends.llvm.llvm_text import BLOCK, PLANE_BYTES, module_text
from lgir.backends.llvm.packing import (
    TILE,
    TILE_BYTES,
    pack_kernel,
    pack_words_kernel,
    widen_kernel,
)
from lgir.backends.llvm.records import Field, StepRecord, Tables, call_kernel, fields_of
from lgir.backends.llvm.run_loop import run_loop_kernel
from lgir.backends.llvm.scoring import (
    export_bytes_kernel,
    export_kernel,
    label_kernel,
    sum_bytes,
    sum_kernel,
)
from lgir.backends.llvm.trees import mask_runs, tree_kernel, tree_rows
from lgir.backends.lowering.options import LoweringOptions
from lgir.backends.lowering.steps import (
    BUFFER,
    DUMP_PLANE,
    ONE_PLANE,
    ZERO_PLANE,
    ChainStep,
    ConeStep,
    CountStep,
    ExportStep,
    FusedStep,
    GateStep,
    PackStep,
    Plan,
    Step,
    SumStep,
)
from lgir.errors import BackendError
from lgir.ir.thresholds import byte_levels

LOWERING_OPTIONS: Final = LoweringOptions(
    trails=True, fused_levels=True, forests=True, channel_groups=True, chunked_popcount=True
)
"""Everything that reduces cache traffic, which is what limits a CPU."""
_TILES_AT_ONCE: Final = 192
"""Tiles times levels whose bits are held at once while packing, 780 KiB: mostly whole rows."""

_ENDS: Final = (PackStep, SumStep, ExportStep)
"""Steps whose form depends on the call."""

Offsets = npt.NDArray[np.uint32]


class Program:
    """Kernels and records of a plan, without an address in them: `link` or an object file gives
    those.

    Samples come in kinds: "u8" and "f32" are arrays of bytes and floats (either for a bit input),
    "bits" are samples packed to rows of 64-bit words, see `lgir.packed`. Kernels for inputs and
    outputs are added when a sequence first needs them.

    Args:
        byte_output: bit outputs as bytes (samples, elements), not as planes.
        own_code: give trees of convolutions code of their own, for AVX-512; see
            `lgir.backends.llvm.avx512.tree_functions`.

    Attributes:
        code: machine code that records call, position-independent.
        logic: the steps that evaluate gates.
        workspace_bytes: planes, and room for packing behind them.
        context_words: length of a call's context.
    """

    def __init__(
        self, plan: Plan, *, ternary: bool, byte_output: bool = False, own_code: bool = False
    ) -> None:
        if plan.num_planes * PLANE_BYTES >= 1 << 32:
            raise BackendError(
                f"the network needs {plan.num_planes:,} planes of {PLANE_BYTES} bytes at once; "
                f"at most {(1 << 32) // PLANE_BYTES:,} can be addressed"
            )
        self.plan = plan
        self.ternary = ternary
        self.byte_output = byte_output
        self._kernels: dict[str, str] = {"lgir_run": run_loop_kernel()}
        # Behind the planes: one that nothing reads, then room for the packer.
        self.scratch = (plan.num_planes + 1) * PLANE_BYTES
        self.workspace_bytes = self.scratch
        graph = plan.graph
        self.context_words = self.wide_slot(len(graph.inputs))
        self.own_code = own_code and plan.num_planes <= MAX_PLANES
        self._read = np.zeros(plan.num_planes, bool)  # by trees so far
        self._inner = self._lower_all()
        self.logic = [x for i, x in self._inner.items() if not isinstance(plan.steps[i], CountStep)]
        self._ends: dict[tuple[int, str], list[StepRecord]] = {}
        for step in plan.steps:
            self._reserve(step)

    @property
    def text(self) -> str:
        """LLVM IR of every kernel that was needed so far."""
        return module_text(list(self._kernels.values()), ternary=self.ternary)

    @property
    def kernel_names(self) -> list[str]:
        """Names as LLVM's text has them, some in quotes."""
        return list(self._kernels)

    def module(self, name: str) -> str:
        """A kernel's own module. Kernels call no other."""
        return module_text([self._kernels[name]], ternary=self.ternary)

    def sequence(
        self,
        kinds: Sequence[str],
        only: Callable[[Step], bool] = lambda step: True,
        result: str = "scores",
    ) -> list[StepRecord]:
        """The records of a call, in order, of the steps that `only` holds for.

        Args:
            kinds: of samples, one for each input.
            result: "scores" for all outputs, or "labels" or "counts" for the first alone, in int64
                (samples,) or int32 (samples, groups), of which "labels" takes tau for positive.
        """
        found: list[StepRecord] = []
        for i, step in enumerate(self.plan.steps):
            if not only(step):
                continue
            if isinstance(step, PackStep):
                found += self._end(i, step, kinds[step.input])
            elif not isinstance(step, _ENDS):
                found += [self._inner[i]] if i in self._inner else []
            elif result == "scores" or step.output == 0:
                found += self._end(i, step, result)
        return found

    def _end(self, index: int, step: Step, form: str) -> list[StepRecord]:
        """The records of the first and last steps of a call."""
        if (index, form) not in self._ends:
            if isinstance(step, PackStep):
                records = self._pack(step, form)
            elif isinstance(step, SumStep):
                records = [self._sum(step, form)]
            else:
                assert isinstance(step, ExportStep)
                records = [self._export(step)]
            # Threads may do this side by side: all take the records, and so the tables, of one.
            return self._ends.setdefault((index, form), records)
        return self._ends[index, form]

    def input_slot(self, index: int) -> int:
        """Where the context holds an input's pointer and, after it, the bytes from one sample to
        the next.
        """
        return ContextWord.FIRST_SLOT + 2 * index

    def output_slot(self, index: int) -> int:
        return self.input_slot(len(self.plan.graph.inputs)) + index

    def wide_slot(self, index: int) -> int:
        """As `input_slot`, for samples after they are widened."""
        return self.output_slot(len(self.plan.graph.outputs)) + 2 * index

    def _lower_all(self) -> dict[int, StepRecord]:
        """Records of all steps that evaluate gates or count, by the index of the first of the steps
        that each one stands for.
        """
        steps = self.plan.steps
        runs = _tree_runs(steps) if self.own_code else {}
        functions = write_tree_functions(list(runs.values()))
        starts = np.cumsum([0, *map(len, functions)]).tolist()
        self.code = np.concatenate([np.zeros(0, np.uint8), *functions])
        if runs:
            self._use("call_code", call_kernel)
        records = {
            first: StepRecord("call_code", fields_of({}), code={int(Field.ROWS): start})
            for first, start in zip(runs, starts, strict=False)
        }
        inside = {first + i for first, run in runs.items() for i in range(len(run))}
        for i, step in enumerate(steps):
            if i not in inside and not isinstance(step, _ENDS):
                records[i] = self._lower(step)
        return records

    def _lower(self, step: Step) -> StepRecord:
        if isinstance(step, GateStep):
            return self._gates(step)
        if isinstance(step, ChainStep):
            return self._chain(step)
        if isinstance(step, FusedStep):
            return self._fused(step)
        if isinstance(step, ConeStep):
            return self._cones(step)
        assert isinstance(step, CountStep)
        return self._count(step)

    def _export(self, step: ExportStep) -> StepRecord:
        fields = fields_of(
            {Field.COUNT: len(step.planes), Field.SLOT: self.output_slot(step.output)}
        )
        name = "export_bytes" if self.byte_output else "export"
        kernel = export_bytes_kernel if self.byte_output else export_kernel
        self._use(name, kernel)
        return StepRecord(name, fields, {Field.ROWS: _offsets(step.planes)})

    def _use(self, name: str, kernel: Callable[..., str], *args: Any) -> None:
        if name not in self._kernels:
            self._kernels[name] = kernel(name, *args, ternary=self.ternary)

    def _gates(self, step: GateStep) -> StepRecord:
        rows = _offsets(step.rows)
        if step.tables is not None:
            rows = np.concatenate([rows, step.tables[:, None].view(np.uint32)], axis=1)
        name = f"gate{step.fanin}" + ("" if step.table is None else f"_{step.table:x}")
        self._use(name, gate_kernel, step.fanin, step.table)
        return StepRecord(name, fields_of({Field.COUNT: len(rows)}), {Field.ROWS: rows})

    def _chain(self, step: ChainStep) -> StepRecord:
        missing = -len(step.rows) % CHAIN_ROWS
        idle = np.tile(np.array([ZERO_PLANE, DUMP_PLANE]), (missing, 1))
        rows = np.concatenate([step.rows, idle])
        words, masks, constant = chain_words(_offsets(rows), step.tables)
        name = "chain_constant" if constant else "chain"
        self._use(name, chain_kernel, constant)
        fields = fields_of({Field.COUNT: len(rows)})
        return StepRecord(name, fields, {Field.ROWS: words, Field.MASKS: masks})

    def _fused(self, step: FusedStep) -> StepRecord:
        missing = -len(step.rows) % FUSED_ROWS
        idle = np.tile(np.array([ZERO_PLANE, ZERO_PLANE, DUMP_PLANE]), (missing, 1))
        rows = np.concatenate([step.rows, idle])
        inner, outer = np.pad(step.tables, ((0, missing), (0, 0)), mode="edge").T
        words, masks, constant = fused_words(_offsets(rows), inner, outer)
        name = "fused_constant" if constant else "fused"
        self._use(name, fused_kernel, constant)
        fields = fields_of({Field.COUNT: len(rows)})
        return StepRecord(name, fields, {Field.ROWS: words, Field.MASKS: masks})

    def _cones(self, step: ConeStep) -> StepRecord:
        copies = len(step.shifts)
        if step.space == (1, 1, 1) and copies == 1 and (np.diff(step.out) == 1).all():
            return self._trees(step)
        places = np.concatenate([_offsets(step.leaves), _offsets(step.out)[:, None]], axis=1)
        masks = np.where(step.masks, np.uint32(0xFFFF_FFFF), np.uint32(0))
        rows = np.concatenate([places, masks], axis=1)
        fields = fields_of({Field.COUNT: len(rows), Field.COPIES: copies})
        fields[Field.SPACE : Field.SPACE + 3] = step.space
        fields[Field.IN_STEP : Field.IN_STEP + 3] = np.array(step.in_step) * PLANE_BYTES
        fields[Field.OUT_STEP : Field.OUT_STEP + 3] = np.array(step.out_step) * PLANE_BYTES
        fields[Field.SHIFTS : Field.SHIFTS + copies] = step.shifts * PLANE_BYTES
        name = f'"cone {step.expr}"'
        self._use(name, cone_kernel, step.expr)
        return StepRecord(name, fields, {Field.ROWS: rows})

    def _trees(self, step: ConeStep) -> StepRecord:
        rows, first, reach = tree_rows(step.leaves, self._read)
        name = f'"{reach} tree {step.expr}"'
        self._use(name, tree_kernel, step.expr, reach)
        runs = mask_runs(step.masks)
        fields = fields_of(
            {
                Field.COUNT: len(runs),
                Field.BASE: first * PLANE_BYTES,
                Field.OUT: int(step.out[0]) * PLANE_BYTES,
            }
        )
        return StepRecord(name, fields, {Field.ROWS: rows, Field.MASKS: runs})

    def _count(self, step: CountStep) -> StepRecord:
        groups, width = step.counts.shape
        rows = np.concatenate([step.initial, whole_rounds(step.planes), step.counts], axis=1)
        name = f"count{width}"
        self._use(name, count_kernel, width)
        fields = fields_of({Field.COUNT: groups, Field.BITS: rows.shape[1] - 2 * width})
        return StepRecord(name, fields, {Field.ROWS: _offsets(rows)})

    def _sum(self, step: SumStep, form: str) -> StepRecord:
        groups, width = len(step.planes), _width(step)
        start = np.full((groups, width), ZERO_PLANE) if step.initial is None else step.initial
        # In order, so that the planes of a group are read from near to far.
        rows = np.concatenate([start, whole_rounds(np.sort(step.planes, axis=1))], axis=1)
        tau, beta = np.array([step.tau, step.beta], np.float32).view(np.uint32).tolist()
        fields = fields_of(
            {
                Field.COUNT: groups,
                Field.BITS: rows.shape[1] - width,
                Field.SLOT: self.output_slot(step.output),
                Field.SCRATCH: self.scratch,
                Field.TAU: tau,
                Field.BETA: beta,
            }
        )
        name = f"{form}{width}"
        if form == "labels":
            bits = (groups - 1).bit_length()
            name += f"_{bits}"
            self._use(name, label_kernel, width, bits)
        else:
            self._use(name, sum_kernel, width, form == "scores")
        return StepRecord(name, fields, {Field.ROWS: _offsets(rows)})

    def _reserve(self, step: Step) -> None:
        """Room behind the planes for a step of any form."""
        size = 0
        if isinstance(step, PackStep):
            count, features = step.planes.shape
            size = _tiles_at_once(count, -(-features // TILE)) * count * TILE_BYTES
            if features < TILE:
                size += BLOCK * TILE * 4
        elif isinstance(step, SumStep):
            size = sum_bytes(_width(step), len(step.planes))
        self.workspace_bytes = max(self.workspace_bytes, self.scratch + size)

    # -- packing ---------------------------------------------------------------------------------

    def _pack(self, step: PackStep, kind: str) -> list[StepRecord]:
        count, features = step.planes.shape
        narrow = features < TILE and kind != "bits"
        width = -(-features // TILE) * TILE if kind == "bits" else max(features, TILE)
        planes = np.full((count, width), self.plan.num_planes)  # a plane that nothing reads
        planes[:, :features] = step.planes
        tiles = -(-width // TILE)
        fields = fields_of(
            {
                Field.COUNT: tiles,
                Field.FEATURES: width,
                Field.LEVELS: count,
                Field.SLOT: self.wide_slot(step.input) if narrow else self.input_slot(step.input),
                Field.SCRATCH: self.scratch,
                Field.TILES_AT_ONCE: _tiles_at_once(count, tiles),
            }
        )
        if kind == "bits":
            self._use("pack_words", pack_words_kernel)
            return [StepRecord("pack_words", fields, {Field.ROWS: _offsets(planes)})]
        levels = np.zeros((count, width), np.float32)
        if step.levels is not None:
            levels[:, :features] = step.levels
        # A level below 0 holds for every byte, which no byte can say.
        always = (levels < 0) & (kind == "u8")
        tables: Tables = {
            Field.ROWS: _offsets(np.where(always, self.plan.num_planes, planes)),
            Field.LEVEL_TABLE: _level_table(levels, kind),
        }
        is_bit = step.dtype == "bit"
        check = is_bit or kind == "f32"
        form = "f32_bits" if kind == "f32" and is_bit else kind
        name = f"pack_{form}{'_checked' if check else ''}"
        self._use(name, pack_kernel, form, check)
        records = [StepRecord(name, fields, tables)]
        if narrow:
            records.insert(0, self._widen(step, kind))
        if always.any():
            true = np.stack(np.broadcast_arrays(ONE_PLANE, planes[always]), axis=1)
            records.append(self._gates(GateStep(1, BUFFER, true)))
        return records

    def _widen(self, step: PackStep, kind: str) -> StepRecord:
        """Copies a block's samples, narrower than a tile, to rows of a tile, behind its bits."""
        size = 1 if kind == "u8" else 4
        name = f"widen_{kind}"
        self._use(name, widen_kernel, size)
        fields = fields_of(
            {
                Field.COUNT: step.planes.shape[1] * size,
                Field.SLOT: self.input_slot(step.input),
                Field.WIDE_SLOT: self.wide_slot(step.input),
                Field.SCRATCH: self.scratch + len(step.planes) * TILE_BYTES,
            }
        )
        return StepRecord(name, fields)


def _tiles_at_once(levels: int, tiles: int) -> int:
    return min(max(1, _TILES_AT_ONCE // levels), tiles)


def _width(step: SumStep) -> int:
    """Planes of a group's count."""
    return len(step.initial[0]) if step.initial is not None else len(step.planes[0]).bit_length()


def _tree_runs(steps: Sequence[Step]) -> dict[int, list[ConeStep]]:
    """Steps whose trees can have code of their own, as far as they follow one another and are
    independent, by the index of the first.
    """
    runs: dict[int, list[ConeStep]] = {}
    stage = None
    for i, step in enumerate(steps):
        if not isinstance(step, ConeStep) or tree_geometry(step) is None:
            stage = None
            continue
        if step.stage != stage:
            run = runs[i] = []
        run.append(step)
        stage = step.stage
    return runs


def _offsets(planes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray((planes * PLANE_BYTES).astype(np.uint32))


def _level_table(levels: npt.NDArray[np.float32], kind: str) -> npt.NDArray[np.generic]:
    """Levels in the dtype of the samples: of bytes, x > t is x > floor(t)."""
    if kind != "u8":
        return np.ascontiguousarray(levels)
    return np.maximum(byte_levels(levels), 0).astype(np.uint8)
