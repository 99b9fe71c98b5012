"""Measure the CUDA backend beside one plain kernel per level of gates, with outputs checked.

    python benchmarks/gpu.py                        # needs nvcc and a GPU
    python benchmarks/gpu.py --net logictreenet-32 --json gpu.json
    python benchmarks/gpu.py --predict              # the roofline's figures, on any machine

The plain way is that of other tools: bits are packed as well, there is a kernel per level of gates,
and each thread looks up its gate's operands (64-bit numbers) and switches on its operation. It
starts from packed planes and counts no scores. lgir is timed from samples and from packed planes,
scores included. `lgir.backends.cuda.cost_model` says what the roofline counts.
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
from lgir.backends.cuda.cost_model import (
    DATASHEETS,
    GpuRates,
    PredictedRate,
    predict_plain_rate,
    predict_rate,
)
from lgir.backends.cuda.program import build_program
from lgir.backends.cuda.source import program_text
from lgir.benchmarking.rendering import si
from lgir.errors import BackendError, LgirError
from lgir.files import write_atomically
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Reshape, Threshold
from lgir.ir.simulate import tap_index
from lgir.ir.types import FIRST_TAP, TRUE
from lgir.zoo import build_net

NETS: Final = ("dense-6x8000", "logictreenet-32", "logictreenet-256")
CHECKED: Final = 1000

Ints = npt.NDArray[np.int64]


# -- the plain way -------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlainCircuit:
    """A graph of two-input gates with every position unrolled, level by level.

    Planes 0 and 1 are False and True. The packed inputs follow, then the gates in order.

    Attributes:
        inputs: number of packed input planes.
        sizes: (levels,) gates of each level.
        a, b: (gates,) planes of the operands.
        tables: (gates,) truth tables.
        outputs: (groups, bits) planes that the scores count.
    """

    inputs: int
    sizes: Ints
    a: Ints
    b: Ints
    tables: npt.NDArray[np.uint8]
    outputs: Ints


class PlainUnroller:
    """Unroll a graph with one input and one output of scores, as other tools take it."""

    def __init__(self, graph: Graph) -> None:
        (self._input,) = graph.inputs
        self._graph = graph
        self._planes: dict[str, Ints] = {}  # by value, in the value's shape
        self._count = FIRST_TAP  # planes so far
        self._levels: list[tuple[Ints, Ints, Ints]] = []

    def circuit(self) -> PlainCircuit:
        """Return the circuit; BackendError if gates have other than two inputs."""
        if self._input.dtype == "bit":
            self._planes[self._input.name] = self._new_planes(self._input.size).reshape(
                self._input.shape
            )
        scored = np.zeros((0, 0), np.int64)
        for node in self._graph.nodes:
            op = node.op
            if isinstance(op, Threshold):
                self._planes[node.output] = self._thresholds(op)
            elif isinstance(op, Reshape):
                self._planes[node.output] = self._planes[node.inputs[0]].reshape(op.shape)
            elif isinstance(op, Logic):
                self._planes[node.output] = self._gates(
                    op, [self._planes[name] for name in node.inputs]
                )
            else:
                scored = self._planes[node.inputs[0]].reshape(op.groups, -1)
        a, b, tables = (np.concatenate(x) for x in zip(*self._levels, strict=True))
        sizes = np.array([len(level[0]) for level in self._levels])
        inputs = self._count - len(a) - FIRST_TAP
        return PlainCircuit(inputs, sizes, a, b, tables.astype(np.uint8), scored)

    def _new_planes(self, count: int) -> Ints:
        first, self._count = self._count, self._count + count
        return np.arange(first, self._count)

    def _thresholds(self, op: Threshold) -> Ints:
        channels, *axes = self._input.shape
        levels = op.num_levels
        planes = self._new_planes(levels * self._input.size).reshape(levels, channels, -1)
        return np.moveaxis(planes, 0, 1).reshape(channels * levels, *axes)

    def _gates(self, op: Logic, inputs: list[Ints]) -> Ints:
        body = op.body
        if body.k != 2:
            raise BackendError("the plain way takes gates of two inputs")
        index = tap_index(op, [x.shape for x in inputs])
        nets = np.zeros((body.num_nets, op.positions), np.int64)
        nets[TRUE] = TRUE
        nets[FIRST_TAP : body.first_gate] = np.concatenate([*map(np.ravel, inputs), [0]])[index]
        depth = body.levels()[body.first_gate :]
        for level in range(1, int(depth.max(initial=0)) + 1):
            gates = np.flatnonzero(depth == level)
            a, b = (nets[body.fanin[gates, i]].ravel() for i in (0, 1))
            self._levels.append((a, b, np.repeat(body.table[gates], op.positions)))
            nets[body.first_gate + gates] = self._new_planes(a.size).reshape(len(gates), -1)
        return nets[body.outputs].reshape(-1, *op.space)


# -- measuring -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class GpuFigure:
    """The median time of one way: `gates` are evaluated for each of `samples`."""

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


class GpuBench:
    """A model and the plain kernels, built together; BackendError if a call fails."""

    def __init__(self, text: str, folder: Path) -> None:
        (folder / "model.cu").write_text(text)
        library = folder / "bench.so"
        build(Path(__file__).with_suffix(".cu"), folder, library)
        self._library = ctypes.CDLL(str(library))

    def call(self, name: str, *args: Any) -> None:
        code = getattr(self._library, name)(*args)
        if code:
            raise BackendError(f"{name}: CUDA error {code}")

    def device(self) -> GpuRates:
        attributes = (ctypes.c_int * 5)()
        self.call("bench_device", attributes)
        processors, clock, l2, memory_clock, bus = attributes
        return GpuRates("this device", processors, clock * 1e3, 2e3 * memory_clock * bus / 8, l2)

    def upload(self, array: npt.NDArray[np.generic]) -> ctypes.c_void_p:
        pointer, data = ctypes.c_void_p(), np.ascontiguousarray(array)
        host = ctypes.c_void_p(data.ctypes.data)
        self.call("bench_upload", ctypes.byref(pointer), host, ctypes.c_size_t(data.nbytes))
        return pointer

    def download(self, array: npt.NDArray[np.generic], pointer: ctypes.c_void_p) -> None:
        host = ctypes.c_void_p(array.ctypes.data)
        self.call("bench_download", host, pointer, ctypes.c_size_t(array.nbytes))

    def model(
        self, inputs: npt.NDArray[np.generic], n: int, groups: int, *, packed: bool, repeats: int
    ) -> tuple[npt.NDArray[np.float32], float]:
        """Return scores (n, groups) and the median seconds of a run."""
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
        self, circuit: PlainCircuit, packed: npt.NDArray[np.uint32], repeats: int
    ) -> tuple[npt.NDArray[np.uint32], float]:
        """Return the outputs' planes (groups * bits, words) and the median seconds of a run."""
        words = packed.shape[1]
        first_gate = FIRST_TAP + circuit.inputs
        planes = np.zeros((first_gate + len(circuit.a), words), np.uint32)
        planes[TRUE] = 0xFFFF_FFFF
        planes[FIRST_TAP:first_gate] = packed
        sizes = circuit.sizes.astype(np.uint64)
        arrays = [self.upload(x) for x in (planes, circuit.a, circuit.b, circuit.tables)]
        call = _PlainCall(arrays[0], words, first_gate, len(sizes), sizes.ctypes.data, *arrays[1:])
        times = (ctypes.c_float * repeats)()
        self.call("bench_plain", ctypes.byref(call), ctypes.c_size_t(repeats), times)
        self.download(planes, arrays[0])
        for pointer in arrays:
            self.call("bench_free", pointer)
        return planes[circuit.outputs.ravel()], statistics.median(times) / 1e3


class _PlainCall(ctypes.Structure):
    """`struct Plain` of gpu.cu."""

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
    """Build the library for this machine's GPU."""
    if shutil.which("nvcc") is None:
        raise BackendError("nvcc is not on the PATH; --predict needs none")
    command = ["nvcc", "-std=c++17", "-O3", "-arch=native", "-shared", "-Xcompiler", "-fPIC"]
    subprocess.run([*command, f"-I{folder}", str(driver), "-o", str(library)], check=True)


def optimized(graph: Graph) -> Graph:
    return lgir.optimize(graph, verify=None)[0]


def measure(
    net: str, samples: int, plain_bytes: int, repeats: int
) -> tuple[GpuRates, list[GpuFigure]]:
    """Measure lgir from samples and from packed planes, and the plain way, on one network.

    The scores of the first samples are compared with the reference interpreter's.

    Args:
        plain_bytes: bytes of planes of the plain way, which may have to take fewer samples.
    """
    graph = build_net(net)
    program = build_program(optimized(graph))
    circuit = PlainUnroller(graph).circuit()
    (value,) = graph.inputs
    groups = len(circuit.outputs)
    rng = np.random.default_rng(0)
    shape = (samples, *value.shape)
    x = rng.integers(0, 2 if value.dtype == "bit" else 256, shape, dtype=np.uint8)
    checked = min(samples, CHECKED)
    expected = lgir.compile(graph, "reference")(x[:checked])
    packed = packed_planes(graph, x)
    with tempfile.TemporaryDirectory() as folder:
        bench = GpuBench(program_text(program, "lgir"), Path(folder))
        figures = []
        ways = ((x, "lgir, from samples", False), (packed, "lgir, from packed planes", True))
        for inputs, way, is_packed in ways:
            scores, seconds = bench.model(
                inputs, samples, groups, packed=is_packed, repeats=repeats
            )
            if not np.array_equal(scores[:checked], expected):
                raise BackendError(f"{net}, {way}: scores differ from the reference")
            gates = program.plan.gates
            figures.append(GpuFigure(net, way, gates, samples, seconds, checked))
        words = min(packed.shape[1], max(1, plain_bytes // (4 * (len(circuit.a) + FIRST_TAP))))
        planes, seconds = bench.plain(circuit, packed[:, :words], repeats)
        plain_samples = min(samples, 32 * words)
        checked = min(checked, plain_samples)
        if not np.array_equal(plain_scores(graph, circuit, planes)[:checked], expected[:checked]):
            raise BackendError(f"{net}, plain: scores differ from the reference")
        way = "plain kernel per level"
        figures.append(GpuFigure(net, way, len(circuit.a), plain_samples, seconds, checked))
        return bench.device(), figures


def plain_scores(
    graph: Graph, circuit: PlainCircuit, planes: npt.NDArray[np.uint32]
) -> npt.NDArray[np.float32]:
    """Return scores (32 * words, groups) from the planes of the outputs (groups * bits, words)."""
    bits = np.unpackbits(planes.view(np.uint8), axis=1, bitorder="little")
    counts = bits.reshape(len(circuit.outputs), -1, bits.shape[1]).sum(axis=1)
    op = next(node.op for node in graph.nodes if node.output == graph.outputs[0])
    scores = (counts.T.astype(np.float32) + np.float32(op.beta)) / np.float32(op.tau)
    return scores.astype(np.float32)


def packed_planes(graph: Graph, x: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Return samples as packed planes (planes, words), level by level."""
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


@dataclass(frozen=True)
class NetPrediction:
    """The rooflines of one network: lgir's from packed planes, and the plain way's."""

    net: str
    rate: PredictedRate
    plain_samples_per_second: float

    def as_dict(self) -> dict[str, Any]:
        plain = self.plain_samples_per_second
        return {"net": self.net, **asdict(self.rate), "plain_samples_per_second": plain}


def predict(net: str, gpu: GpuRates) -> NetPrediction:
    """Return the rooflines of a network on a device."""
    graph = build_net(net)
    rate = predict_rate(build_program(optimized(graph)), gpu, packed=True)
    return NetPrediction(net, rate, predict_plain_rate(graph, gpu))


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
            predictions = [predict(net, gpu) for gpu in DATASHEETS for net in nets]
            console.print(prediction_table(predictions))
            data = [row.as_dict() for row in predictions]
        else:
            measured = [measure(net, samples, 2 << 30, repeats) for net in nets]
            gpu, _ = measured[0]
            figures = [figure for _, of_net in measured for figure in of_net]
            predictions = [predict(net, gpu) for net in nets]
            console.print(figures_table(figures, predictions))
            console.print(prediction_table(predictions))
            data = [asdict(figure) for figure in figures]
    except (LgirError, subprocess.CalledProcessError) as error:
        raise click.ClickException(str(error)) from error
    if json_path is not None:
        write_atomically(json_path, (json.dumps(data, indent=2) + "\n").encode())


def figures_table(figures: list[GpuFigure], predictions: list[NetPrediction]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("network", "way", "samples/s", "gate-evals/s", "of the roofline", "speed-up"):
        table.add_column(column, justify="left" if column in ("network", "way") else "right")
    roofline = {p.net: p.rate.samples_per_second for p in predictions}
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


def prediction_table(predictions: list[NetPrediction]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Roofline, from packed planes: predicted")
    columns = ("network", "device", "launches", "samples/s", "gate-evals/s", "of HBM", "bound by",
               "plain samples/s")  # fmt: skip
    for column in columns:
        is_text = column in ("network", "device")
        table.add_column(column, justify="left" if is_text else "right", no_wrap=True)
    for p in predictions:
        table.add_row(
            p.net,
            p.rate.gpu,
            str(p.rate.launches),
            si(p.rate.samples_per_second),
            si(p.rate.gate_evals_per_second),
            f"{p.rate.memory_share:.0%}",
            p.rate.bound,
            si(p.plain_samples_per_second),
        )
    return table


if __name__ == "__main__":
    main()
