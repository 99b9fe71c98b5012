"""Measure speed and memory of the standard passes on a dense body of millions of gates.

python benchmarks/passes.py                     # 5 layers of 1,000,000 random two-input gates
python benchmarks/passes.py --layers 50 --width 100000

Each pass of the default pipeline runs on the graph that the passes before it left. Its gates/s are
the gates of that graph over the pass's own seconds, the best of --rounds. Bytes per gate are the
peak of allocated memory during a run of the whole pipeline, its checks by simulation included, less
what was allocated before (`tracemalloc`, which numpy reports to). The input graph is not counted;
all that is made of it is.
"""

from __future__ import annotations

import tracemalloc
from time import perf_counter

import click
import numpy as np

import lgir
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.passes.report import Size

OPS = (1, 2, 4, 6, 7, 8, 9, 11, 13, 14)  # The ten operations that depend on both inputs.
PASSES = ("merge", "fold", "cse", "dce")


@click.command()
@click.option("--width", default=1_000_000, show_default=True, help="Gates per layer.")
@click.option("--layers", default=5, show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Runs; the best counts.")
@click.option("--seed", default=0, show_default=True)
def main(width: int, layers: int, rounds: int, seed: int) -> None:
    """Print a Markdown table of gates per second, and the peak of memory."""
    graph = random_dense(width, layers, seed)
    gates = Size.of(graph).gates
    print("| pass | gates in | gates out | s | M gates/s |")
    print("|---|---:|---:|---:|---:|")
    before = graph
    for name in PASSES:
        seconds, after = best_run(before, name, rounds, verify=None)
        print_row(name, before, after, seconds)
        before = after
    seconds, after = best_run(graph, "default", rounds, verify="sim")
    print_row("default, verified", graph, after, seconds)
    del before, after
    peak = peak_bytes(graph, "default") / gates
    print(f"\npeak of default, verified: {peak:.1f} bytes per gate")


def random_dense(width: int, layers: int, seed: int) -> Graph:
    """Return layers of random two-input gates, each over two distinct bits of the layer before."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"dense-{layers}x{width}")
    x = b.input("x", "bit", (width,))
    for _ in range(layers):
        left = rng.integers(width, size=width, dtype=np.int32)
        right = (left + rng.integers(1, width, size=width, dtype=np.int32)) % width
        x = b.dense(x, left, right, rng.choice(OPS, size=width))
    return b.build(b.group_sum(x, next(n for n in (10, 5, 2, 1) if width % n == 0)))


def best_run(graph: Graph, passes: str, rounds: int, verify: str | None) -> tuple[float, Graph]:
    """Return the seconds of the fastest of some runs, and the resulting graph."""
    seconds = []
    for _ in range(rounds):
        start = perf_counter()
        after, _ = lgir.optimize(graph, passes, verify=verify)
        seconds.append(perf_counter() - start)
    return min(seconds), after


def print_row(name: str, before: Graph, after: Graph, seconds: float) -> None:
    gates_in, gates_out = Size.of(before).gates, Size.of(after).gates
    speed = gates_in / seconds / 1e6
    print(f"| {name} | {gates_in:,} | {gates_out:,} | {seconds:.2f} | {speed:.1f} |", flush=True)


def peak_bytes(graph: Graph, passes: str) -> int:
    """Return the peak of the bytes that a run allocates beyond those allocated before it."""
    tracemalloc.start()
    lgir.optimize(graph, passes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


if __name__ == "__main__":
    main()
