"""Measure known networks on the CPU, side by side with PyTorch, after a check of outputs.

python benchmarks/cpu.py                        # the table
python benchmarks/cpu.py --json cpu.json        # and everything as JSON
python benchmarks/cpu.py --history cpu.jsonl    # and a dated line per network in a history
python benchmarks/cpu.py --net dense-6x8000 --threads 2
python benchmarks/cpu.py --net logictreenet-2048-t31 --no-torch  # PyTorch needs more than 24 GB
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import click
from rich import box
from rich.console import Console
from rich.table import Table

import lgir
from lgir.benchmarking.history import append_history
from lgir.benchmarking.rendering import si
from lgir.benchmarking.throughput import bench_graph
from lgir.benchmarking.throughput_report import MODULE, BenchReport, Measurement
from lgir.errors import LgirError
from lgir.files import write_atomically
from lgir.zoo import build_net

NETS = ("digits", "dense-6x8000", "dense-6x8000-op16", "dense-4x64000", "logictreenet-32")


@click.command()
@click.option("--net", "nets", multiple=True, default=NETS, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=9, show_default=True)
@click.option("--torch/--no-torch", default=True, help="Compare with PyTorch's eval mode.")
@click.option("--json", "json_path", metavar="FILE", help="Write every figure there.")
@click.option("--history", metavar="FILE.jsonl", help="Append a JSON line per network.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
def main(
    nets: tuple[str, ...],
    threads: int,
    repeats: int,
    torch: bool,
    json_path: str | None,
    history: str | None,
    markdown: bool,
) -> None:
    """Measure the llvm backend on each network, optimized by the default pipeline."""
    progress = Console(stderr=True)
    reports = []
    with progress.status("") as status:
        for net in nets:

            def tell(step: str, net: str = net) -> None:
                status.update(f"{net}: {step}")

            try:
                reports.append(measure(net, threads, repeats, torch, tell))
            except LgirError as error:
                raise click.ClickException(str(error)) from error
    fits = Console().is_terminal and not markdown
    console = Console(width=None if fits else 160, highlight=False)
    console.print(figures_table(reports, markdown))
    for key, text in reports[0].environment.items():
        console.print(f"{key}: {text}")
    if json_path is not None:
        data = [report.to_dict() for report in reports]
        write_atomically(json_path, (json.dumps(data, indent=2) + "\n").encode())
    if history is not None:
        for report in reports:
            append_history(history, report.to_dict())


def measure(
    net: str, threads: int, repeats: int, torch: bool, tell: Callable[[str], None]
) -> BenchReport:
    """Lift (or build), optimize, compile and measure one network."""
    if torch:
        from lgir.frontend.training.rebuild import (
            rebuild,
        )  # before the clock starts: importing torch is not lifting
    tell("lifting")
    start = perf_counter()
    graph = lgir.lift(digits(), name=net) if net == "digits" else build_net(net)
    lifted = perf_counter() - start
    tell("optimizing")
    start = perf_counter()
    small, _ = lgir.optimize(graph)
    preparation = {"lift": lifted, "optimize": perf_counter() - start}
    report = bench_graph(
        small,
        ["llvm"],
        module=rebuild(graph) if torch else None,
        threads=threads,
        repeats=repeats,
        preparation=preparation,
        progress=tell,
    )
    return replace(report, name=net)


def digits() -> Path:
    from lgir.frontend.digits import demo_checkpoint

    return demo_checkpoint()


def figures_table(reports: list[BenchReport], markdown: bool) -> Table:
    columns = ("network", "gates per sample", "ready", "samples/s", "gate-evals/s",
               "in gates alone", "PyTorch samples/s", "speed-up")  # fmt: skip
    table = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="left" if column == "network" else "right")
    for report in reports:
        rows = {row.backend: row for row in report.rows}
        llvm = rows["llvm"]
        table.add_row(
            report.name,
            f"{report.gates:,}",
            f"{sum(report.preparation.values()) + (llvm.compile_seconds or 0):.2f} s",
            *_throughput(llvm),
            si(rows[MODULE].samples_per_second) if MODULE in rows else "",
            f"{speed_up:,.0f}x" if (speed_up := report.speed_up(llvm)) else "",
        )
    return table


def _throughput(row: Measurement) -> tuple[str, str, str]:
    alone = row.gate_evals_per_second_in_gates
    return si(row.samples_per_second), si(row.gate_evals_per_second), si(alone) if alone else ""


if __name__ == "__main__":
    main()
