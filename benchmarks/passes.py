"""Speed and memory of the standard passes on a dense body of millions of gates: one command.

python benchmarks/passes.py                     # 5 layers of 1,000,000 random two-input gates
python benchmarks/passes.py --layers 50 --width 100000

Each pass of the default pipeline runs on the graph that the passes before it left; gates/s is what
went in over its own seconds, the best of --rounds. Bytes a gate are the most that was allocated at
any moment of a run of the whole pipeline, its checks by simulation included, over what was
allocated before it began (`tracemalloc`, which numpy reports to): the input graph is not counted,
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

OPS = (1, 2, 4, 6, 7, 8, 9, 11, 13, 14)  # the ten that depend on both inputs
PASSES = ("merge", "fold", "cse", "dce")


@click.command()
@click.option("--width", default=1_000_000, show_default=True, help="Gates a layer.")
@click.option("--layers", default=5, show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Runs, of which the best counts.")
@click.option("--seed", default=0, show_default=True)
def main(width: int, layers: int, rounds: int, seed: int) -> None:
    """Print a Markdown table of gates a second, and the peak of memory."""
    graph = dense(width, layers, seed)
    gates = Size.of(graph).gates
    print("| pass | gates in | gates out | s | M gates/s |")
    print("|---|---:|---:|---:|---:|")
    at = graph
    for name in PASSES:
        took, after = best(at, name, rounds, verify=None)
        row(name, at, after, took)
        at = after
    took, after = best(graph, "default", rounds, verify="sim")
    row("default, verified", graph, after, took)
    del at, after
    print(f"\npeak of default, verified: {peak(graph, 'default') / gates:.1f} bytes a gate")


def dense(width: int, layers: int, seed: int) -> Graph:
    """Layers of random two-input gates, each over two distinct bits of the layer before."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"dense-{layers}x{width}")
    x = b.input("x", "bit", (width,))
    for _ in range(layers):
        left = rng.integers(width, size=width, dtype=np.int32)
        right = (left + rng.integers(1, width, size=width, dtype=np.int32)) % width
        x = b.dense(x, left, right, rng.choice(OPS, size=width))
    return b.build(b.group_sum(x, next(n for n in (10, 5, 2, 1) if width % n == 0)))


def best(graph: Graph, passes: str, rounds: int, verify: str | None) -> tuple[float, Graph]:
    took = []
    for _ in range(rounds):
        start = perf_counter()
        after, _ = lgir.optimize(graph, passes, verify=verify)
        took.append(perf_counter() - start)
    return min(took), after


def row(name: str, before: Graph, after: Graph, took: float) -> None:
    left, right = Size.of(before).gates, Size.of(after).gates
    print(f"| {name} | {left:,} | {right:,} | {took:.2f} | {left / took / 1e6:.1f} |", flush=True)


def peak(graph: Graph, passes: str) -> int:
    """Bytes allocated at the worst moment of a run, over those before it."""
    tracemalloc.start()
    lgir.optimize(graph, passes)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


if __name__ == "__main__":
    main()
