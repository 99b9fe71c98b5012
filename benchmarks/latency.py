"""Measure the latency of one sample, and the batch size from which blocks are faster.

python benchmarks/latency.py                        # the table
python benchmarks/latency.py --target avx2          # as on a CPU without AVX-512
python benchmarks/latency.py --net dense-6x8000 --no-torch --json latency.json

Outputs are compared with those of the reference first. A time is the median of consecutive calls
on one thread, from an array to its scores. *Alone* evaluates the sample by the single-sample path,
*in a block* in one lane of 512. Up to the batch size *one by one*, which an executable estimates
when it is compiled, it evaluates samples one after another; both paths are *equal at* the size that
the times give.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import lgir
from lgir.backends.llvm.target import TARGETS
from lgir.benchmarking.checks import random_samples
from lgir.benchmarking.environment import environment
from lgir.benchmarking.measuring import gate_evaluations, torch_eval
from lgir.errors import LgirError
from lgir.files import write_atomically
from lgir.ir.graph import Graph
from lgir.zoo import build_net

NETS = ("digits", "mnist", "dense-6x8000", "dense-6x8000-op16", "logictreenet-32")
SHOWN = ("network", "gates per sample", "alone", "in a block", "PyTorch", "one by one up to",
         "equal at")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """The figures of one network: seconds per call with one sample, and batch sizes."""

    network: str
    gates: int
    alone: float
    block: float
    torch: float | None
    crossover: int
    equal_at: float | None


@click.command()
@click.option("--net", "nets", multiple=True, default=NETS, show_default=True)
@click.option("--target", type=click.Choice(TARGETS), default="native", show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--torch/--no-torch", default=True, help="Time PyTorch's eval mode as well.")
@click.option("--json", "json_path", metavar="FILE", help="Write every figure there.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
def main(
    nets: tuple[str, ...],
    target: str,
    repeats: int,
    torch: bool,
    json_path: str | None,
    markdown: bool,
) -> None:
    """Measure the llvm backend on single samples, networks optimized by the default pipeline."""
    rows = []
    with Console(stderr=True).status("") as status:
        for net in nets:
            status.update(net)
            try:
                rows.append(measure(net, target, repeats, torch))
            except LgirError as error:
                raise click.ClickException(str(error)) from error
    facts = {**environment(torch=torch), "target": target}
    console = Console(width=160 if markdown or not Console().is_terminal else None, highlight=False)
    console.print(table(rows, markdown))
    for key, text in facts.items():
        console.print(f"{key}: {text}")
    if json_path is not None:
        data = {"environment": facts, "rows": [asdict(row) for row in rows]}
        write_atomically(json_path, (json.dumps(data, indent=2) + "\n").encode())


def measure(net: str, target: str, repeats: int, torch: bool) -> Row:
    """Lift (or build), optimize, compile, compare and time one network."""
    graph = load(net)
    small, _ = lgir.optimize(graph)
    exe = lgir.compile(small, target=target, threads=1, latency=True)
    blocks = lgir.compile(small, target=target, threads=1, latency=False)
    samples = random_samples(small, max(exe.crossover, 1))
    expected = lgir.compile(graph, "reference")(*samples)
    one = [array[:1] for array in samples]
    for scores, want in ((exe(*samples), expected), (exe(*one), expected[:1])):
        if not np.array_equal(scores, want):
            raise click.ClickException(f"{net}: outputs differ from those of the reference")
    alone = median(lambda: exe(*one), repeats)
    block = median(lambda: blocks(*one), repeats)
    equal_at = None
    if exe.crossover > 1:
        each = (median(lambda: exe(*samples), repeats) - alone) / (exe.crossover - 1)
        equal_at = 1 + (block - alone) / each
    module = torch_seconds(graph, one, repeats // 10 + 1) if torch else None
    return Row(net, gate_evaluations(small), alone, block, module, exe.crossover, equal_at)


def load(net: str) -> Graph:
    if net == "digits":
        from lgir.frontend.digits import demo_checkpoint

        return lgir.lift(demo_checkpoint(), name=net)
    if net == "mnist":
        return lgir.lift(Path(__file__).parents[1] / "examples" / "mnist.pt", name=net)
    return build_net(net)


def torch_seconds(graph: Graph, one: list[Any], repeats: int) -> float:
    from lgir.frontend.training.rebuild import rebuild

    module = rebuild(graph)
    with torch_eval(module, 1) as tensor:
        inputs = [tensor(v, a) for v, a in zip(graph.inputs, one, strict=True)]
        return median(lambda: module(*inputs), repeats)


def median(call: Callable[[], Any], repeats: int) -> float:
    """Return the median seconds of a call, after one that is not timed."""
    times = []
    for _ in range(repeats + 1):
        began = perf_counter()
        call()
        times.append(perf_counter() - began)
    return statistics.median(times[1:])


def table(rows: list[Row], markdown: bool) -> Table:
    shown = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    for column in SHOWN:
        shown.add_column(column, justify="left" if column == "network" else "right")
    for row in rows:
        shown.add_row(
            row.network,
            f"{row.gates:,}",
            *("" if x is None else microseconds(x) for x in (row.alone, row.block, row.torch)),
            str(row.crossover),
            "" if row.equal_at is None else f"{row.equal_at:.1f}",
        )
    return shown


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.{1 if seconds < 1e-4 else 0}f} us"


if __name__ == "__main__":
    main()
