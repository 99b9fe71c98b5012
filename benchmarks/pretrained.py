"""Print what each pass removes from the trained networks that lgir ships.

python benchmarks/pretrained.py                       # the tables, as in benchmarks/pretrained.md
python benchmarks/pretrained.py --net cifar10-s --passes size
python benchmarks/pretrained.py --speed               # with samples per second on one thread

Gates are counted as they are evaluated per sample, those of a convolution at every position. A pass
that runs several times in a pipeline has one row with the sum. "default" is what `lgir.optimize`
runs, "O3" ends in a mapping to 3-input tables and "size" in one to 6-input tables.
"""

from __future__ import annotations

from collections import Counter

import click

import lgir
from lgir.benchmarking.throughput import bench_graph
from lgir.ir.graph import Graph
from lgir.passes.report import Report, Size
from lgir.zoo import PRETRAINED, pretrained

PIPELINES = ("default", "O3", "size")


@click.command()
@click.option("--net", "nets", multiple=True, default=tuple(PRETRAINED), show_default=True)
@click.option("--passes", "pipelines", multiple=True, default=PIPELINES, show_default=True)
@click.option("--verify", default="sim", show_default=True, help="Check of each pass, or none.")
@click.option("--speed", is_flag=True, help="Measure the networks after `default` (llvm).")
def main(nets: tuple[str, ...], pipelines: tuple[str, ...], verify: str, speed: bool) -> None:
    """Print Markdown tables: sizes after each pipeline, then what each pass removed."""
    graphs = {name: pretrained(name) for name in nets}
    reports: dict[tuple[str, str], Report] = {}
    for name, graph in graphs.items():
        for pipeline in pipelines:
            _, report = lgir.optimize(graph, pipeline, verify=None if verify == "none" else verify)
            reports[name, pipeline] = report
    print_sizes(graphs, pipelines, reports)
    for pipeline in pipelines:
        print_removed(pipeline, {name: reports[name, pipeline] for name in nets})
    if speed:
        print_speed(graphs)


def print_sizes(
    graphs: dict[str, Graph], pipelines: tuple[str, ...], reports: dict[tuple[str, str], Report]
) -> None:
    """Print distinct gates and gates evaluated per sample, before and after each pipeline."""
    print("| network | gates | distinct |", *(f"{p} | distinct |" for p in pipelines))
    print("|---|---:|---:|" + "---:|---:|" * len(pipelines))
    for name, graph in graphs.items():
        sizes = [Size.of(graph), *(reports[name, pipeline].after for pipeline in pipelines)]
        print(f"| {name} |", *(f"{size.unrolled:,} | {size.gates:,} |" for size in sizes))


def print_removed(pipeline: str, reports: dict[str, Report]) -> None:
    """Print the gates that each pass removed and their share of the network's gates."""
    removed: dict[str, Counter[str]] = {}
    for name, report in reports.items():
        for row in report.rows:
            counts = removed.setdefault(row.name, Counter())
            counts[name] += row.before.unrolled - row.after.unrolled
    print(f"\n| {pipeline}: removed by |", *(f"{name} | % |" for name in reports))
    print("|---|" + "---:|---:|" * len(reports))
    for row_name, counts in removed.items():
        print(f"| {row_name} |", *(cells(counts[n], r.before.unrolled) for n, r in reports.items()))
    ends = {name: (r.before.unrolled - r.after.unrolled) for name, r in reports.items()}
    print("| all |", *(cells(ends[name], r.before.unrolled) for name, r in reports.items()))


def cells(count: int, gates: int) -> str:
    return f"{count:,} | {100 * count / gates:.1f} |"


def print_speed(graphs: dict[str, Graph]) -> None:
    """Print samples per second on one thread, each output compared with the reference."""
    print("\n| network | samples/s |\n|---|---:|")
    for name, graph in graphs.items():
        report = bench_graph(lgir.optimize(graph)[0], ("llvm",))
        print(f"| {name} | {report.rows[0].samples_per_second:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
