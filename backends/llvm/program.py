"""A plan as a program: kernels' text for the templates it needs, and step records with row tables.

The program is data that the fixed loop `lgir_run` interprets, so that compiling a network costs
what its distinct templates cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.ir import PLANE_BYTES
from lgir.backends.llvm.kernels import (
    ADDER,
    MASK_BYTES,
    TILE,
    Context,
    Field,
    cone_kernel,
    export_kernel,
    gate_kernel,
    pack_kernel,
    run_kernel,
    sum_kernel,
)
from lgir.backends.plan import (
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

_ATTRIBUTES: Final = (
    'attributes #0 = { nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }\n'
)
_DECLARATIONS: Final = "declare i64 @llvm.smin.i64(i64, i64)\n"
_TERNARY: Final = (
    "declare <8 x i64> @llvm.x86.avx512.pternlog.q.512("
    "<8 x i64>, <8 x i64>, <8 x i64>, i32 immarg)\n"
)

_MASKS_AT_ONCE: Final = 192
"""Tiles times levels whose masks are held at once while packing, 780 KiB: mostly whole rows."""

Record = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PackVariant:
    """How one dtype of sample array is packed for a step: its kernel and its tables."""

    kernel: str
    record: Record


class Program:
    """Kernels and records of a plan.

    Attributes:
        text: LLVM IR of every kernel the plan needs, and of `lgir_run`.
        records: (steps, Field.SIZE) int64, kernel addresses missing until `link`; a pack step's
            record is chosen per call by the dtype of its samples, see `pack_variants`.
        logic: positions of the steps that evaluate gates.
    """

    def __init__(self, plan: Plan, *, ternary: bool) -> None:
        if plan.num_planes * PLANE_BYTES >= 1 << 32:
            raise BackendError(
                f"the network needs {plan.num_planes:,} planes of {PLANE_BYTES} bytes at once; "
                f"at most {(1 << 32) // PLANE_BYTES:,} can be addressed"
            )
        self.plan = plan
        self.ternary = ternary
        self._kernels: dict[str, str] = {"lgir_run": run_kernel()}
        self._keep: list[npt.NDArray[np.generic]] = []
        self.names: list[str] = []
        self.pack_variants: dict[int, dict[str, PackVariant]] = {}
        self.logic: list[int] = []
        # Behind the planes: one that nothing reads, then room for the packer's masks.
        self.scratch = (plan.num_planes + 1) * PLANE_BYTES
        self.workspace_bytes = self.scratch
        self.records = np.zeros((len(plan.steps), Field.SIZE), np.int64)
        for i, step in enumerate(plan.steps):
            self.names.append(self._lower(i, step))
        head = _DECLARATIONS + (_TERNARY if ternary else "")
        self.text = "\n".join([head, *self._kernels.values(), _ATTRIBUTES])

    @property
    def kernel_names(self) -> list[str]:
        return list(self._kernels)

    def output_slot(self, index: int) -> int:
        return Context.SLOTS + 2 * len(self.plan.graph.inputs) + index

    def input_slot(self, index: int) -> int:
        return Context.SLOTS + 2 * index

    def _pointer(self, array: npt.NDArray[np.generic]) -> int:
        self._keep.append(array)
        return int(array.ctypes.data)

    def _lower(self, i: int, step: Step) -> str:
        record = self.records[i]
        if isinstance(step, GateStep):
            self.logic.append(i)
            return self._gates(record, step)
        if isinstance(step, ConeStep):
            self.logic.append(i)
            return self._cones(record, step)
        if isinstance(step, PackStep):
            self._pack(i, step)
            return ""
        if isinstance(step, SumStep):
            return self._sum(record, step)
        assert isinstance(step, ExportStep)
        record[Field.ROWS] = self._pointer(_offsets(step.planes))
        record[Field.COUNT] = len(step.planes)
        record[Field.SLOT] = self.output_slot(step.output)
        if "export" not in self._kernels:
            self._kernels["export"] = export_kernel("export", ternary=self.ternary)
        return "export"

    def _gates(self, record: Record, step: GateStep) -> str:
        rows = _offsets(step.rows)
        if step.tables is not None:
            rows = np.concatenate([rows, step.tables[:, None].view(np.uint32)], axis=1)
        record[Field.ROWS] = self._pointer(np.ascontiguousarray(rows))
        record[Field.COUNT] = len(rows)
        name = f"gate{step.fanin}" + ("" if step.table is None else f"_{step.table:x}")
        if name not in self._kernels:
            self._kernels[name] = gate_kernel(name, step.fanin, step.table, ternary=self.ternary)
        return name

    def _cones(self, record: Record, step: ConeStep) -> str:
        copies = len(step.shifts)
        masks = np.where(step.masks, np.uint32(0xFFFF_FFFF), np.uint32(0))
        rows = np.concatenate([_offsets(step.leaves), _offsets(step.out)[:, None], masks], axis=1)
        record[Field.ROWS] = self._pointer(np.ascontiguousarray(rows))
        record[Field.COUNT] = len(rows)
        record[Field.SPACE : Field.SPACE + 3] = step.space
        record[Field.IN_STEP : Field.IN_STEP + 3] = np.array(step.in_step) * PLANE_BYTES
        record[Field.OUT_STEP : Field.OUT_STEP + 3] = np.array(step.out_step) * PLANE_BYTES
        record[Field.COPIES] = copies
        record[Field.SHIFTS : Field.SHIFTS + copies] = step.shifts * PLANE_BYTES
        name = f'"cone {step.expr}"'
        if name not in self._kernels:
            self._kernels[name] = cone_kernel(name, step.expr, ternary=self.ternary)
        return name

    def _sum(self, record: Record, step: SumStep) -> str:
        groups, bits = step.planes.shape
        padded = -(-bits // ADDER) * ADDER
        planes = np.full((groups, padded), ZERO_PLANE, np.int64)
        planes[:, :bits] = step.planes
        record[Field.ROWS] = self._pointer(_offsets(planes))
        record[Field.COUNT] = groups
        record[Field.BITS] = padded
        record[Field.SLOT] = self.output_slot(step.output)
        floats = np.array([step.tau, step.beta], np.float32).view(np.uint32)
        record[Field.TAU], record[Field.BETA] = floats
        name = f"sum{bits.bit_length()}"
        if name not in self._kernels:
            self._kernels[name] = sum_kernel(name, bits.bit_length(), ternary=self.ternary)
        return name

    def _pack(self, i: int, step: PackStep) -> None:
        is_bit = step.dtype == "bit"
        self.pack_variants[i] = {
            dtype: self._pack_variant(step, dtype, check=is_bit or dtype == "f32")
            for dtype in (("u8", "f32") if is_bit else (step.dtype,))
        }

    def _pack_variant(self, step: PackStep, dtype: str, *, check: bool) -> PackVariant:
        count, features = step.planes.shape
        width = max(features, TILE)  # narrower samples are widened before the call
        planes = np.full((count, width), -1, np.int64)
        planes[:, :features] = step.planes
        planes = np.where(planes < 0, self.plan.num_planes, planes)  # a plane that nothing reads
        levels = np.zeros((count, width), np.float32)
        if step.levels is not None:
            levels[:, :features] = step.levels
        tiles = -(-width // TILE)
        table, always = _level_table(levels, dtype, tiles)
        record = np.zeros(Field.SIZE, np.int64)
        record[Field.ROWS] = self._pointer(_offsets(planes))
        record[Field.COUNT], record[Field.FEATURES] = tiles, width
        record[Field.LEVELS], record[Field.LEVEL_TABLE] = count, self._pointer(table)
        record[Field.ALWAYS], record[Field.SLOT] = (
            self._pointer(always),
            self.input_slot(step.input),
        )
        at_once = max(1, _MASKS_AT_ONCE // count)
        record[Field.SCRATCH], record[Field.TILES_AT_ONCE] = self.scratch, at_once
        room = self.scratch + min(at_once, tiles) * count * MASK_BYTES
        self.workspace_bytes = max(self.workspace_bytes, room)
        kind = "f32_bits" if dtype == "f32" and step.dtype == "bit" else dtype
        name = f"pack_{kind}{'_checked' if check else ''}"
        if name not in self._kernels:
            self._kernels[name] = pack_kernel(name, kind, check, ternary=self.ternary)
        return PackVariant(name, record)


def _offsets(planes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    return (planes * PLANE_BYTES).astype(np.uint32)


def _level_table(
    levels: npt.NDArray[np.float32], dtype: str, tiles: int
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.int64]]:
    """Levels in the dtype of the samples, and (levels, tiles) masks of bits that are always True.

    For bytes, x > t is x > floor(t); a level below 0 holds for every byte, which no byte can say.
    """
    always = np.zeros((len(levels), tiles), np.int64)
    if dtype != "u8":
        return np.ascontiguousarray(levels), always
    floor = np.floor(levels)
    width = levels.shape[1]
    for tile in range(tiles):
        first = min(tile * TILE, width - TILE)
        bits = floor[:, first : first + TILE] < 0
        always[:, tile] = np.packbits(bits, axis=1, bitorder="little").view(np.int64)[:, 0]
    return np.clip(floor, 0, 255).astype(np.uint8), always
