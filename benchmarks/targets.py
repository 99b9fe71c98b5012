"""The llvm backend as other CPUs run it: AVX-512, AVX2 and plain x86-64, outputs checked.

python benchmarks/targets.py
python benchmarks/targets.py --net dense-4x64000 --target avx2 --json targets.json
"""

from __future__ import annotations

import json
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

import lgir
from lgir.benchmarking.rendering import si
from lgir.benchmarking.throughput import bench_graph
from lgir.benchmarking.throughput_report import BenchReport
from lgir.errors import BackendError, LgirError
from lgir.files import write_atomically
from lgir.zoo import build_net

NETS = ("dense-6x8000", "logictreenet-32")
TARGETS = ("native", "avx512", "avx2", "generic")


@click.command()
@click.option("--net", "nets", multiple=True, default=NETS, show_default=True)
@click.option("--target", "targets", multiple=True, default=TARGETS, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--json", "json_path", metavar="FILE", help="Write every figure there.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
def main(
    nets: tuple[str, ...],
    targets: tuple[str, ...],
    repeats: int,
    json_path: str | None,
    markdown: bool,
) -> None:
    """Measure each network on each target, one thread, and compare outputs with the reference's."""
    progress = Console(stderr=True)
    reports: list[tuple[str, BenchReport]] = []
    try:
        for net in nets:
            with progress.status(f"{net}: optimizing"):
                graph, _ = lgir.optimize(build_net(net))
            for target in targets:
                with progress.status("") as status:

                    def tell(step: str, at: str = f"{net} on {target}") -> None:
                        status.update(f"{at}: {step}")

                    try:
                        report = measure(graph, target, repeats, tell)
                    except BackendError as error:
                        if "needs an x86-64 CPU" not in str(error):
                            raise
                        progress.print(str(error))
                    else:
                        reports.append((target, report))
    except LgirError as error:
        raise click.ClickException(str(error)) from error
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    console.print(figures_table(reports, markdown))
    for key, text in reports[0][1].environment.items() if reports else ():
        console.print(f"{key}: {text}")
    if json_path is not None:
        data = [{"target": target} | report.to_dict() for target, report in reports]
        write_atomically(json_path, (json.dumps(data, indent=2) + "\n").encode())


def measure(graph: lgir.Graph, target: str, repeats: int, tell: Any) -> BenchReport:
    options = {"llvm": {"target": target}}
    return bench_graph(graph, ["llvm"], repeats=repeats, options=options, progress=tell)


def figures_table(reports: list[tuple[str, BenchReport]], markdown: bool) -> Table:
    table = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    for column in ("network", "target"):
        table.add_column(column)
    for column in ("compile", "samples/s", "gate-evals/s", "in gates alone", "samples checked"):
        table.add_column(column, justify="right")
    for target, report in reports:
        (row,) = report.rows
        table.add_row(
            report.name,
            target,
            f"{row.compile_seconds:.2f} s",
            si(row.samples_per_second),
            si(row.gate_evals_per_second),
            si(row.gate_evals_per_second_in_gates or 0),
            f"{row.checked:,}",
        )
    return table


if __name__ == "__main__":
    main()
