"""Figures of the steps before and after the gates: packing samples, counting classes, labels.

Outputs are compared with the reference first.

python benchmarks/packing.py
python benchmarks/packing.py --net dense-4x64000 --json packing.json
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import lgir
from lgir.backends.llvm import LlvmExecutable, compile_llvm
from lgir.benchmarking.checks import random_samples
from lgir.benchmarking.environment import environment
from lgir.benchmarking.rendering import si
from lgir.errors import LgirError
from lgir.files import write_atomically
from lgir.roofline import BLOCK
from lgir.samples import Array
from lgir.zoo import build_net

NETS = ("dense-6x8000", "logictreenet-32")
_GATES = ("gate", "chain", "fused", "cone")
_SUMS = ("count", "sum")
_CHECK = 1000


@click.command()
@click.option("--net", "nets", multiple=True, default=NETS, show_default=True)
@click.option("--samples", type=click.IntRange(min=BLOCK), default=1 << 15, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=9, show_default=True)
@click.option("--json", "json_path", metavar="FILE", help="Write every figure there.")
def main(nets: tuple[str, ...], samples: int, repeats: int, json_path: str | None) -> None:
    """Measure each network on one thread: steps by CPU time, and whole calls by kind of samples."""
    progress = Console(stderr=True)
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    figures = []
    try:
        for net in nets:
            with progress.status(net):
                figures.append(measure(net, samples, repeats))
            for table in tables(figures[-1]):
                console.print(table)
    except LgirError as error:
        raise click.ClickException(str(error)) from error
    for key, text in environment().items():
        console.print(f"{key}: {text}")
    if json_path is not None:
        write_atomically(json_path, (json.dumps(figures, indent=2) + "\n").encode())


def measure(net: str, n: int, repeats: int) -> dict[str, Any]:
    """Return the figures of one network; see `tables`."""
    graph, _ = lgir.optimize(build_net(net))
    exe = compile_llvm(graph, threads=1)
    (x,) = random_samples(graph, n // BLOCK * BLOCK)
    kinds: dict[str, Any] = {str(x.dtype): x}
    if x.dtype == np.bool_:
        kinds |= {"float32": x.astype(np.float32), "packed": lgir.pack(x)}
    check(exe, x, kinds)
    machine = exe.measure_machine()
    steps = {}
    for name, samples in kinds.items():
        words: Array = samples.words if isinstance(samples, lgir.Packed) else samples
        seconds = exe.time_steps("pack", [words], repeats)
        rate = words.nbytes // len(words) * BLOCK / seconds
        steps[f"pack {name}"] = {
            "seconds": seconds,
            "bytes_per_second": rate,
            "of_copying_in_memory": rate / machine.levels[-1].copy,
        }
    gates = sum(exe.time_steps(kind, [x], repeats) for kind in _GATES)
    steps["gates"] = {"seconds": gates}
    seconds = sum(exe.time_steps(kind, [x], repeats) for kind in _SUMS)
    steps["sum"] = {"seconds": seconds, "of_gates": seconds / gates}
    calls = {f"scores from {name}": rate_of(exe, samples, n) for name, samples in kinds.items()}
    calls["scores, then numpy's argmax"] = rate_of(lambda a: exe(a).argmax(axis=1), x, n)
    calls |= {
        f"labels from {name}": rate_of(exe.predict, samples, n) for name, samples in kinds.items()
    }
    calls["counts"] = rate_of(exe.counts, x, n)
    return {"name": graph.name, "steps": steps, "samples_per_second": calls}


def check(exe: LlvmExecutable, x: Array, kinds: dict[str, Any]) -> None:
    """Raise SystemExit if outputs for any kind of samples differ from those of the reference."""
    reference = lgir.compile(exe.graph, "reference")
    scores = reference(x[:_CHECK])
    for name, samples in kinds.items():
        compared = samples[:_CHECK]
        wrong = [
            what
            for what, result, want in (
                ("scores", exe(compared), scores),
                ("labels", exe.predict(compared), scores.argmax(axis=1)),
                ("counts", exe.counts(compared), reference.counts(x[:_CHECK])),
            )
            if not np.array_equal(result, want)
        ]
        if wrong:
            raise SystemExit(f"{exe.graph.name}: {', '.join(wrong)} from {name} differ")


def rate_of(call: Callable[[Any], Any], samples: Any, n: int, repeats: int = 7) -> float:
    """Return samples per second of CPU time."""
    call(samples)
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        call(samples)
        times.append(time.thread_time() - start)
    return n / statistics.median(times)


def tables(figures: dict[str, Any]) -> list[Table]:
    """Return a table of the steps, and one of whole calls by kind of samples."""
    steps = Table(
        title=f"{figures['name']}: 512 samples", box=box.SIMPLE_HEAD, title_justify="left"
    )
    for column in ("step", "us", "bytes/s of samples", "of copying in memory", "of the gates"):
        steps.add_column(column, justify="left" if column == "step" else "right")
    for name, step in figures["steps"].items():
        rate, copy, gates = (
            step.get(key) for key in ("bytes_per_second", "of_copying_in_memory", "of_gates")
        )
        steps.add_row(
            name,
            f"{1e6 * step['seconds']:.2f}",
            si(rate) if rate else "",
            f"{copy:.0%}" if copy else "",
            f"{gates:.1%}" if gates else "",
        )
    calls = Table(box=box.SIMPLE_HEAD)
    calls.add_column("call")
    calls.add_column("samples/s", justify="right")
    for name, rate in figures["samples_per_second"].items():
        calls.add_row(name, si(rate))
    return [steps, calls]


if __name__ == "__main__":
    main()
