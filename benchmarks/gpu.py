"""GPU figures of known networks beside a plain kernel a level, outputs checked: one command.

python benchmarks/gpu.py                        # needs nvcc and a GPU
python benchmarks/gpu.py --net logictreenet-32 --json gpu.json
python benchmarks/gpu.py --predict              # the roofline's figures, on any machine

The plain way is the peers': bits packed as well, a kernel for each level of gates, each thread
looks up its gate's operands (64-bit numbers) and switches on its operation. It starts from packed
planes and counts no scores; lgir is timed from samples and from packed planes, scores included.

The prediction is a roofline, computed per step of the plan, for 32 samples a word:

    bytes through L2    4 (inputs + 1) a gate and word, and its row of the tables every 32 words;
                        for trees, the distinct planes of a tile's windows: L1 serves the rest
    bytes of HBM        samples and scores; and where the workspace is larger than L2, every plane
                        that a step reads or writes, once
                        (the plain way: every plane, as its batch is not cut to fit L2)
    LOP3                one a gate; two an AND-like gate of a tree, whose operation is data
    time                the longest of the three at the device's rates, and LAUNCH a launch
"""

from __future__ import annotations

import ctypes
import json
import shutil
import statistics
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.table import Table

import lgir
from lgir.backends.cuda.kernels import POSITIONS, THREADS
from lgir.backends.cuda.program import LOWERING_OPTIONS, Program, touched, walk
from lgir.backends.cuda.source import DEFAULT_WORKSPACE, max_words, source
from lgir.backends.lowering.cones import ConeExpr
from lgir.backends.lowering.plan import make_plan
from lgir.backends.lowering.steps import ConeStep, GateStep, PackStep, Step, SumStep
from lgir.benchmarking.rendering import si
from lgir.errors import BackendError, LgirError
from lgir.files import write_atomically
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Reshape, Threshold
from lgir.ir.simulate import tap_index
from lgir.ir.types import FIRST_TAP
from lgir.zoo import build_net

NETS: Final = ("dense-6x8000", "logictreenet-32", "logictreenet-256")
CHECKED: Final = 1000
LAUNCH: Final = 2e-6
"""Seconds between launches that are queued, about."""
L2_PORT: Final = 32
"""Bytes a clock that a multiprocessor takes in from L2: taken as half of its port's 64."""
LOP3_PER_CLOCK: Final = 64
"""32-bit logical results a clock and multiprocessor, compute capability 8.0 and 9.0."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Gpu:
    """A device's rates: multiprocessors, Hz, bytes of HBM a second, bytes of L2."""

    name: str
    processors: int
    clock: float
    memory: float
    l2: int

    @property
    def l2_rate(self) -> float:
        return self.processors * self.clock * L2_PORT

    @property
    def lop3_rate(self) -> float:
        return self.processors * self.clock * LOP3_PER_CLOCK


DATASHEETS: Final = (
    Gpu("H100 SXM", 132, 1.755e9, 3.35e12, 50 << 20),
    Gpu("A100 SXM", 108, 1.41e9, 2.039e12, 40 << 20),
)


# -- the roofline --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """What a step asks for, a word of the batch (32 samples)."""

    l2: float = 0.0
    hbm: float = 0.0
    planes: int = 0
    lop3: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """Figures of one network on one device: samples a second and share of the HBM's rate."""

    net: str
    gpu: str
    gates: int
    launches: int
    samples_per_second: float
    memory_share: float
    bound: str
    plain_samples_per_second: float

    @property
    def gate_evals_per_second(self) -> float:
        return self.gates * self.samples_per_second


def predict(net: str, gpu: Gpu, *, packed: bool) -> Prediction:
    """The roofline of the optimised network, whole chunks of the batch at a time."""
    program = Program(make_plan(optimised(net), LOWERING_OPTIONS))
    words = max_words(program, DEFAULT_WORKSPACE)
    resident = 4 * words * program.plan.num_planes <= gpu.l2
    seconds = LAUNCH * len(program.launches)
    limits = {"L2": 0.0, "HBM": 0.0, "LOP3": 0.0, "launches": seconds}
    moved = 0.0
    for step in program.plan.steps:
        work = work_of(step, program.index_dtype.itemsize, packed)
        hbm = work.hbm + (0 if resident else 4 * work.planes)
        times = {
            "L2": work.l2 * words / gpu.l2_rate,
            "HBM": hbm * words / gpu.memory,
            "LOP3": work.lop3 * words / gpu.lop3_rate,
        }
        longest = max(times, key=times.__getitem__)
        limits[longest] += times[longest]
        seconds += times[longest]
        moved += hbm * words
    return Prediction(
        net,
        gpu.name,
        program.plan.gates,
        len(program.launches),
        32 * words / seconds,
        moved / seconds / gpu.memory,
        max(limits, key=limits.__getitem__),
        plain_rate(build_net(net), gpu),
    )


def plain_rate(graph: Graph, gpu: Gpu) -> float:
    """Samples a second of the plain way on a long batch, whose planes no cache holds: bound by HBM,
    two planes read and one written a gate, each 1/8 byte a sample.
    """
    gates = sum(op.body.num_gates * op.positions for _, op in graph.of_type(Logic))
    return gpu.memory / (gates * 3 / 8)


def work_of(step: Step, index_bytes: int, packed: bool) -> Work:
    if isinstance(step, GateStep):
        gates, columns = step.rows.shape
        l2 = gates * columns * (4 + index_bytes / 32)
        lop3 = gates if step.table is not None else gates * (3 << step.fanin)
        return Work(l2, planes=len(np.unique(step.rows)), lop3=lop3)
    if isinstance(step, ConeStep):
        reads, writes = touched(step)
        inside, _ = walk(step).T
        tile = POSITIONS * THREADS // 32
        window = sum(
            len(np.unique(inside[i : i + tile, None] + step.shifts))
            for i in range(0, len(inside), tile)
        )
        loads = len(step.out) * len(step.expr.leaves()) * window
        lop3 = writes.size * len(step.shifts) * (lop3_of(step.expr) + 1)
        planes = len(np.unique(reads)) + writes.size
        return Work(4.0 * (loads + writes.size), planes=planes, lop3=lop3)
    if isinstance(step, PackStep):
        bits, features = step.planes.size, step.planes.shape[1]
        size = 4 if step.dtype == "f32" else 1
        hbm = 4.0 * bits if packed else 32.0 * features * size
        return Work(hbm + 4 * bits, hbm=hbm, planes=bits, lop3=0.0 if packed else 64.0 * bits)
    if isinstance(step, SumStep):
        groups, bits = step.planes.shape
        return Work(4.0 * groups * bits, 128.0 * groups, groups * bits, 3.0 * groups * bits)
    return Work(36.0 * step.planes.size, 32.0 * step.planes.size, step.planes.size)


def lop3_of(expr: ConeExpr) -> int:
    """Instructions of a tree at one position."""
    own = {"and": 2, "xor": 1, "lut": (1 << len(expr.args)) - 1}.get(expr.kind, 0)
    return own + sum(map(lop3_of, expr.args))


# -- the plain way -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Circuit:
    """A graph of two-input gates, every position unrolled: by level, gates and what they read.

    Planes 0 and 1 are False and True, then the packed inputs, then the gates in order; `outputs`
    (groups, bits) are the planes of the scores.
    """

    inputs: int
    sizes: Ints
    a: Ints
    b: Ints
    tables: npt.NDArray[np.uint8]
    outputs: Ints


def unrolled(graph: Graph) -> Circuit:
    """The circuit of a graph with one input and one output of scores, as the peers take it."""
    (value,), planes = graph.inputs, {}
    count = 2
    if value.dtype == "bit":
        planes[value.name] = np.arange(2, 2 + value.size).reshape(value.shape)
        count += value.size
    levels: list[tuple[Ints, Ints, Ints]] = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Threshold):
            shape, bits = value.shape, op.num_levels
            grid = np.arange(count, count + bits * value.size).reshape(bits, shape[0], -1)
            planes[node.output] = np.moveaxis(grid, 0, 1).reshape(shape[0] * bits, *shape[1:])
            count += bits * value.size
        elif isinstance(op, Reshape):
            planes[node.output] = planes[node.inputs[0]].reshape(op.shape)
        elif isinstance(op, Logic):
            inputs = [planes[name] for name in node.inputs]
            index = tap_index(op, [x.shape for x in inputs])
            body = op.body
            if body.k != 2:
                raise BackendError("the plain way takes gates of two inputs")
            nets = np.zeros((body.num_nets, op.positions), np.int64)
            nets[1] = 1
            nets[FIRST_TAP : body.first_gate] = np.concatenate([*map(np.ravel, inputs), [0]])[index]
            depth = body.levels()[body.first_gate :]
            for level in range(1, int(depth.max(initial=0)) + 1):
                gates = np.flatnonzero(depth == level)
                a, b = (nets[body.fanin[gates, i]].ravel() for i in (0, 1))
                levels.append((a, b, np.repeat(body.table[gates], op.positions)))
                own = np.arange(count, count + a.size).reshape(len(gates), -1)
                nets[body.first_gate + gates] = own
                count += a.size
            planes[node.output] = nets[body.outputs].reshape(-1, *op.space)
        else:
            scored = planes[node.inputs[0]].reshape(op.groups, -1)
    a, b, tables = (np.concatenate(x) for x in zip(*levels, strict=True))
    sizes = np.array([len(level[0]) for level in levels])
    return Circuit(count - len(a) - 2, sizes, a, b, tables.astype(np.uint8), scored)


# -- measuring -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """Median time of one way: `gates` evaluated for each of `samples`."""

    net: str
    way: str
    gates: int
    samples: int
    seconds: float
    checked: int

    @property
    def samples_per_second(self) -> float:
        return self.samples / self.seconds

    @property
    def gate_evals_per_second(self) -> float:
        return self.gates * self.samples_per_second


class Bench:
    """A model and the plain kernels, built together; raises BackendError where a call fails."""

    def __init__(self, text: str, folder: Path) -> None:
        (folder / "model.cu").write_text(text)
        library = folder / "bench.so"
        build(Path(__file__).with_suffix(".cu"), folder, library)
        self._code = ctypes.CDLL(str(library))

    def call(self, name: str, *args: Any) -> None:
        code = getattr(self._code, name)(*args)
        if code:
            raise BackendError(f"{name}: CUDA error {code}")

    def device(self) -> Gpu:
        found = (ctypes.c_int * 5)()
        self.call("bench_device", found)
        processors, clock, l2, memory_clock, bus = found
        return Gpu("this device", processors, clock * 1e3, 2e3 * memory_clock * bus / 8, l2)

    def upload(self, array: npt.NDArray[np.generic]) -> ctypes.c_void_p:
        pointer, data = ctypes.c_void_p(), np.ascontiguousarray(array)
        at = ctypes.c_void_p(data.ctypes.data)
        self.call("bench_upload", ctypes.byref(pointer), at, ctypes.c_size_t(data.nbytes))
        return pointer

    def download(self, array: npt.NDArray[np.generic], pointer: ctypes.c_void_p) -> None:
        at = ctypes.c_void_p(array.ctypes.data)
        self.call("bench_download", at, pointer, ctypes.c_size_t(array.nbytes))

    def model(
        self, inputs: npt.NDArray[np.generic], n: int, groups: int, *, packed: bool, repeats: int
    ) -> tuple[npt.NDArray[np.float32], float]:
        """Scores (n, groups) and the median time of a run."""
        scores = np.zeros((n, groups), np.float32)
        x, y, net = self.upload(inputs), self.upload(scores), ctypes.c_void_p()
        self.call("lgir_create", ctypes.byref(net), ctypes.c_size_t(0))
        times = (ctypes.c_float * repeats)()
        self.call(
            "bench_model", net, ctypes.byref(x), ctypes.byref(y), ctypes.c_size_t(n),
            int(packed), ctypes.c_size_t(repeats), times,
        )  # fmt: skip
        self.download(scores, y)
        self.call("lgir_destroy", net)
        for pointer in (x, y):
            self.call("bench_free", pointer)
        return scores, statistics.median(times) / 1e3

    def plain(
        self, circuit: Circuit, packed: npt.NDArray[np.uint32], repeats: int
    ) -> tuple[npt.NDArray[np.uint32], float]:
        """Planes of the outputs (groups * bits, words) and the median time of a run."""
        words = packed.shape[1]
        planes = np.zeros((2 + circuit.inputs + len(circuit.a), words), np.uint32)
        planes[1] = 0xFFFF_FFFF
        planes[2 : 2 + circuit.inputs] = packed
        sizes = circuit.sizes.astype(np.uint64)
        device = [self.upload(x) for x in (planes, circuit.a, circuit.b, circuit.tables)]
        call = _Plain(
            device[0], words, 2 + circuit.inputs, len(sizes), sizes.ctypes.data, *device[1:]
        )
        times = (ctypes.c_float * repeats)()
        self.call("bench_plain", ctypes.byref(call), ctypes.c_size_t(repeats), times)
        self.download(planes, device[0])
        for pointer in device:
            self.call("bench_free", pointer)
        return planes[circuit.outputs.ravel()], statistics.median(times) / 1e3


class _Plain(ctypes.Structure):
    _fields_ = (
        ("planes", ctypes.c_void_p),
        ("words", ctypes.c_size_t),
        ("first_plane", ctypes.c_size_t),
        ("levels", ctypes.c_size_t),
        ("sizes", ctypes.c_void_p),
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("tables", ctypes.c_void_p),
    )


def build(driver: Path, folder: Path, library: Path) -> None:
    """The library, for this machine's GPU."""
    if shutil.which("nvcc") is None:
        raise BackendError("nvcc is not on the PATH; --predict needs none")
    command = ["nvcc", "-std=c++17", "-O3", "-arch=native", "-shared", "-Xcompiler", "-fPIC"]
    subprocess.run([*command, f"-I{folder}", str(driver), "-o", str(library)], check=True)


def optimised(net: str) -> Graph:
    return lgir.optimize(build_net(net), verify=None)[0]


def measure(net: str, samples: int, plain_bytes: int, repeats: int) -> tuple[Gpu, list[Figure]]:
    """lgir from samples and from packed planes, and the plain way, on one network; all compared
    with the reference interpreter first.
    """
    graph = build_net(net)
    program = Program(make_plan(lgir.optimize(graph, verify=None)[0], LOWERING_OPTIONS))
    circuit = unrolled(graph)
    (value,) = graph.inputs
    groups = len(circuit.outputs)
    rng = np.random.default_rng(0)
    shape = (samples, *value.shape)
    x = rng.integers(0, 2 if value.dtype == "bit" else 256, shape, dtype=np.uint8)
    checked = min(samples, CHECKED)
    wanted = lgir.compile(graph, "reference")(x[:checked])
    packed = packed_planes(graph, x)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(source(program, "lgir"), Path(name))
        figures = []
        ways = ((x, "lgir, from samples", False), (packed, "lgir, from packed planes", True))
        for inputs, way, is_packed in ways:
            scores, seconds = bench.model(
                inputs, samples, groups, packed=is_packed, repeats=repeats
            )
            if not np.array_equal(scores[:checked], wanted):
                raise BackendError(f"{net}, {way}: scores differ from the reference")
            gates = program.plan.gates
            figures.append(Figure(net, way, gates, samples, seconds, checked))
        words = min(packed.shape[1], max(1, plain_bytes // (4 * (len(circuit.a) + 2))))
        planes, seconds = bench.plain(circuit, packed[:, :words], repeats)
        plain_samples = min(samples, 32 * words)
        bits = np.unpackbits(planes.view(np.uint8), axis=1, bitorder="little")
        counts = bits.reshape(groups, -1, bits.shape[1]).sum(axis=1)[:, :checked]
        op = next(n.op for n in graph.nodes if n.output == graph.outputs[0])
        scores = (counts.T.astype(np.float32) + np.float32(op.beta)) / np.float32(op.tau)
        if not np.array_equal(scores[:plain_samples], wanted[: len(scores)][:plain_samples]):
            raise BackendError(f"{net}, plain: scores differ from the reference")
        checked = min(checked, plain_samples)
        figures.append(
            Figure(net, "plain kernel a level", len(circuit.a), plain_samples, seconds, checked)
        )
        return bench.device(), figures


def packed_planes(graph: Graph, x: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Samples as packed planes, level by level: (planes, words)."""
    flat = x.reshape(len(x), -1)
    ops = [node.op for node in graph.nodes if isinstance(node.op, Threshold)]
    levels = ops[0].levels.reshape(-1) if ops else np.zeros(1, np.float32)
    words = -(-len(x) // 32)
    planes = np.zeros((len(levels) * flat.shape[1], words), np.uint32)
    for i, level in enumerate(levels):
        bits = np.packbits(flat > level, axis=0, bitorder="little")
        bits = np.pad(bits, ((0, 4 * words - len(bits)), (0, 0)))
        rows = slice(i * flat.shape[1], (i + 1) * flat.shape[1])
        planes[rows] = np.ascontiguousarray(bits.T).view(np.uint32)
    return planes


# -- the command ---------------------------------------------------------------------------------


@click.command()
@click.option("--net", "nets", multiple=True, default=NETS, show_default=True)
@click.option("--samples", type=click.IntRange(min=1), default=262_144, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=15, show_default=True)
@click.option("--predict", "only_predict", is_flag=True, help="Only the roofline; no GPU needed.")
@click.option("--json", "json_path", metavar="FILE", help="Write every figure there.")
def main(
    nets: tuple[str, ...], samples: int, repeats: int, only_predict: bool, json_path: str | None
) -> None:
    """Measure the cuda backend on each network, or predict its figures."""
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    try:
        if only_predict:
            rows = [predict(net, gpu, packed=True) for gpu in DATASHEETS for net in nets]
            console.print(prediction_table(rows))
            data = [asdict(row) for row in rows]
        else:
            found = [measure(net, samples, 2 << 30, repeats) for net in nets]
            gpu = found[0][0]
            expected = [predict(net, gpu, packed=True) for net in nets]
            console.print(figures_table([f for _, figures in found for f in figures], expected))
            console.print(prediction_table(expected))
            data = [asdict(f) for _, figures in found for f in figures]
    except (LgirError, subprocess.CalledProcessError) as error:
        raise click.ClickException(str(error)) from error
    if json_path is not None:
        write_atomically(json_path, (json.dumps(data, indent=2) + "\n").encode())


def figures_table(figures: list[Figure], expected: list[Prediction]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("network", "way", "samples/s", "gate-evals/s", "of the roofline", "speed-up"):
        table.add_column(column, justify="left" if column in ("network", "way") else "right")
    roofline = {p.net: p.samples_per_second for p in expected}
    plain = {f.net: f.samples_per_second for f in figures if f.way.startswith("plain")}
    for f in figures:
        table.add_row(
            f.net,
            f.way,
            si(f.samples_per_second),
            si(f.gate_evals_per_second),
            f"{f.samples_per_second / roofline[f.net]:.0%}",
            f"{f.samples_per_second / plain[f.net]:.1f}x",
        )
    return table


def prediction_table(rows: list[Prediction]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Roofline, from packed planes")
    columns = ("network", "device", "launches", "samples/s", "gate-evals/s", "of HBM", "bound by",
               "plain samples/s")  # fmt: skip
    for column in columns:
        left = column in ("network", "device")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    for p in rows:
        table.add_row(
            p.net,
            p.gpu,
            str(p.launches),
            si(p.samples_per_second),
            si(p.gate_evals_per_second),
            f"{p.memory_share:.0%}",
            p.bound,
            si(p.plain_samples_per_second),
        )
    return table


if __name__ == "__main__":
    main()
