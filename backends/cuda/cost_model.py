"""A roofline of programs on GPUs: rates that are predicted from a datasheet, never measured.

The model adds up the steps of a plan. A step takes the longest of three times at the device's
rates, and every launch adds `LAUNCH_SECONDS`. Per word of the batch, which is 32 samples, it counts

    bytes through L2    4 (inputs + 1) per gate, and the gate's table row once per 32 words;
                        for trees, the distinct planes of a tile's windows, as L1 serves the rest
    bytes of HBM        samples and scores; and if the workspace is larger than L2, every plane
                        that a step reads or writes, once
    LOP3 instructions   one per gate; two per AND-like gate of a tree, whose operation is data
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lgir.backends.cuda.dependences import planes_touched, position_offsets
from lgir.backends.cuda.kernel import POSITIONS_PER_THREAD, THREADS
from lgir.backends.cuda.launch import WARP_LANES, WORD_BITS
from lgir.backends.cuda.program import LaunchProgram
from lgir.backends.cuda.source import DEFAULT_WORKSPACE, max_words
from lgir.backends.lowering.cones import ConeExpr
from lgir.backends.lowering.steps import ConeStep, ExportStep, GateStep, PackStep, Step, SumStep
from lgir.errors import BackendError
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic

LAUNCH_SECONDS: Final = 2e-6
"""Seconds between launches that are queued, assumed."""
L2_BYTES_PER_CLOCK: Final = 32
"""Bytes per clock that a multiprocessor takes in from L2, assumed to be half of its port's 64."""
LOP3_PER_CLOCK: Final = 64
"""32-bit logical results per clock and multiprocessor, for compute capability 8.0 and 9.0."""
_WORD_BYTES: Final = 4
_PACK_LOP3: Final = 64
"""Instructions that compare and collect 32 samples of a plane."""


@dataclass(frozen=True)
class GpuRates:
    """What a device can do.

    Attributes:
        processors: number of multiprocessors.
        clock: clocks per second.
        memory: bytes of HBM per second.
        l2: bytes of the L2 cache.
    """

    name: str
    processors: int
    clock: float
    memory: float
    l2: int

    @property
    def l2_rate(self) -> float:
        """Return the bytes per second that all multiprocessors take in from L2."""
        return self.processors * self.clock * L2_BYTES_PER_CLOCK

    @property
    def lop3_rate(self) -> float:
        """Return the 32-bit logical results per second of all multiprocessors."""
        return self.processors * self.clock * LOP3_PER_CLOCK


DATASHEETS: Final = (
    GpuRates("H100 SXM", 132, 1.755e9, 3.35e12, 50 << 20),
    GpuRates("A100 SXM", 108, 1.41e9, 2.039e12, 40 << 20),
)


@dataclass(frozen=True)
class StepDemand:
    """What a step asks of the device per word of the batch.

    Attributes:
        l2_bytes: bytes through L2.
        hbm_bytes: bytes of HBM, whatever the caches hold.
        planes: planes that are read or written, which HBM moves if they do not fit L2.
        lop3: instructions per lane.
    """

    l2_bytes: float
    hbm_bytes: float = 0.0
    planes: int = 0
    lop3: float = 0.0


@dataclass(frozen=True)
class PredictedRate:
    """The roofline of a program on a device.

    Attributes:
        gpu: the device's name.
        gates: gates evaluated per sample.
        memory_share: share of the rate of HBM that is used.
        bound: what bounds most of the time: "L2", "HBM", "LOP3" or "launches".
    """

    gpu: str
    gates: int
    launches: int
    samples_per_second: float
    memory_share: float
    bound: str

    @property
    def gate_evals_per_second(self) -> float:
        """Return the gates evaluated per second, over all samples."""
        return self.gates * self.samples_per_second


def predict_rate(
    program: LaunchProgram,
    gpu: GpuRates,
    *,
    packed: bool,
    workspace: int = DEFAULT_WORKSPACE,
) -> PredictedRate:
    """Return the roofline of `program` for batches of whole chunks.

    Args:
        packed: whether the caller has packed the samples.
        workspace: bytes of GPU memory for planes.
    """
    plan = program.plan
    words = max_words(program, workspace)
    resident = _WORD_BYTES * words * plan.num_planes <= gpu.l2
    total = LAUNCH_SECONDS * len(program.launches)
    seconds = {"L2": 0.0, "HBM": 0.0, "LOP3": 0.0, "launches": total}
    hbm_bytes = 0.0
    for step in plan.steps:
        demand = step_demand(step, program.plane_dtype.itemsize, packed=packed)
        moved = demand.hbm_bytes + (0 if resident else _WORD_BYTES * demand.planes)
        times = {
            "L2": demand.l2_bytes * words / gpu.l2_rate,
            "HBM": moved * words / gpu.memory,
            "LOP3": demand.lop3 * words / gpu.lop3_rate,
        }
        longest = max(times, key=times.__getitem__)
        seconds[longest] += times[longest]
        total += times[longest]
        hbm_bytes += moved * words
    return PredictedRate(
        gpu.name,
        plan.gates,
        len(program.launches),
        WORD_BITS * words / total,
        hbm_bytes / total / gpu.memory,
        max(seconds, key=seconds.__getitem__),
    )


def predict_plain_rate(graph: Graph, gpu: GpuRates) -> float:
    """Return the samples per second of one plain kernel per level of gates, on a long batch.

    No cache holds its planes, so HBM bounds it: two planes are read and one is written per gate,
    each 1/8 byte per sample.
    """
    gates = sum(op.body.num_gates * op.positions for _, op in graph.of_type(Logic))
    return gpu.memory / (gates * 3 / 8)


def step_demand(step: Step, plane_number_bytes: int, *, packed: bool) -> StepDemand:
    """Return what a step asks for.

    Args:
        plane_number_bytes: size of a plane number in a table.
        packed: whether the caller has packed the samples.

    Raises:
        BackendError: the backend lowers no steps of this kind.
    """
    if isinstance(step, GateStep):
        return _gate_demand(step, plane_number_bytes)
    if isinstance(step, ConeStep):
        return _tree_demand(step)
    if isinstance(step, PackStep):
        return _pack_demand(step, packed)
    if isinstance(step, SumStep):
        groups, bits = step.planes.shape
        planes = groups * bits
        scores = _WORD_BYTES * WORD_BITS * groups
        return StepDemand(_WORD_BYTES * planes, scores, planes, 3.0 * planes)
    if isinstance(step, ExportStep):
        planes = step.planes.size
        return StepDemand((_WORD_BYTES + WORD_BITS) * planes, WORD_BITS * planes, planes)
    raise BackendError(f"the cuda backend lowers no {type(step).__name__}")


def _gate_demand(step: GateStep, plane_number_bytes: int) -> StepDemand:
    gates, columns = step.rows.shape
    l2_bytes = gates * columns * (_WORD_BYTES + plane_number_bytes / WARP_LANES)
    lop3 = gates if step.table is not None else gates * (3 << step.fanin)
    return StepDemand(l2_bytes, planes=len(np.unique(step.rows)), lop3=lop3)


def _tree_demand(step: ConeStep) -> StepDemand:
    reads, writes = planes_touched(step)
    offsets, _ = position_offsets(step).T
    tile = POSITIONS_PER_THREAD * THREADS // WARP_LANES
    window = sum(
        len(np.unique(offsets[i : i + tile, None] + step.shifts))
        for i in range(0, len(offsets), tile)
    )
    loads = len(step.out) * len(step.expr.leaves()) * window
    lop3 = writes.size * len(step.shifts) * (tree_lop3(step.expr) + 1)
    planes = len(np.unique(reads)) + writes.size
    return StepDemand(_WORD_BYTES * (loads + writes.size), planes=planes, lop3=lop3)


def _pack_demand(step: PackStep, packed: bool) -> StepDemand:
    planes, features = step.planes.size, step.planes.shape[1]
    if packed:
        read_bytes, lop3 = _WORD_BYTES * planes, 0.0
    else:
        element_bytes = 4 if step.dtype == "f32" else 1
        read_bytes, lop3 = WORD_BITS * features * element_bytes, float(_PACK_LOP3 * planes)
    return StepDemand(read_bytes + _WORD_BYTES * planes, read_bytes, planes, lop3)


def tree_lop3(expr: ConeExpr) -> int:
    """Return the LOP3 instructions of a tree at one position."""
    root = {"and": 2, "xor": 1, "lut": (1 << len(expr.args)) - 1}.get(expr.kind, 0)
    return root + sum(map(tree_lop3, expr.args))
