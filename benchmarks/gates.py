"""Gate counts of known networks after each level, beside ABC on the same netlists: one command.

python benchmarks/gates.py                      # the table, as in benchmarks/gates.md
python benchmarks/gates.py --net dense-6x8000 --no-abc

ABC (berkeley-abc, where installed) reads our BLIF of the original network and runs the better of
`strash; if -K 3 -a` and `strash; dc2; if -K 3 -a`; its `cec` checks our mapped netlist.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from time import perf_counter

import click

import lgir
from lgir.formats.blif import write_blif
from lgir.ir.graph import Graph
from lgir.passes.report import Size
from lgir.zoo import build_net

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "checkpoints"
NETS = (
    "digits",
    "difflogic-mnist",
    "torchlogix-mnist",
    "dense-6x8000",
    "dense-6x8000-op16",
    "logictreenet-32",
)
SCRIPTS = ("strash; if -K 3 -a", "strash; dc2; if -K 3 -a")


@click.command()
@click.option("--net", "nets", multiple=True, default=NETS, show_default=True)
@click.option("--abc/--no-abc", default=True, help="Compare with ABC where it is installed.")
@click.option("--seconds", default=300.0, show_default=True, help="Limit of each tool's run.")
def main(nets: tuple[str, ...], abc: bool, seconds: float) -> None:
    """Print a Markdown table of gate counts, every gate counted at each position."""
    tool = (shutil.which("berkeley-abc") or shutil.which("abc")) if abc else None
    columns = ("network", "gates", "default", "O3: 3-LUTs", "proved in s")
    columns += ("unrolled O3", "s", "unrolled O4", "s", "proved in s")
    columns += ("ABC 3-LUTs", "ABC s", "ABC cec") if tool else ()
    print("|", " | ".join(columns), "|")
    print("|---" + "|---:" * (len(columns) - 1) + "|")
    for name in nets:
        graph = load(name)
        if graph is not None:
            print("|", " | ".join(row(name, graph, tool, seconds)), "|", flush=True)


def load(name: str) -> Graph | None:
    """A network of the zoo, the shipped checkpoint, or a real one where it is at hand."""
    if name == "digits":
        return lgir.lift(ROOT / "frontend" / "digits.pt")
    if not name.endswith("-mnist"):
        return build_net(name)
    folder = (
        REAL
        / {"difflogic-mnist": "difflogic_mnist", "torchlogix-mnist": "torchlogix_conv_mnist"}[name]
    )
    if not folder.is_dir():
        click.echo(f"{name}: no checkpoint in {folder.name}, left out", err=True)
        return None
    wiring = {"indices": folder / "indices.pt"} if name == "difflogic-mnist" else {}
    return lgir.lift(folder / "state_dict.pt", architecture=folder / "model.json", **wiring)


def row(name: str, graph: Graph, tool: str | None, seconds: float) -> list[str]:
    cells = [name, f"{Size.of(graph).unrolled:,}"]
    for passes in ("default", "O3", "unroll,O3", "unroll,O4"):
        start = perf_counter()
        after, report = lgir.optimize(graph, passes, verify=None)
        cells.append(f"{report.after.unrolled:,}")
        if passes.startswith("unroll"):
            cells.append(f"{perf_counter() - start:.2f}")
        if passes in ("O3", "unroll,O4"):
            cells.append(proof(graph, after, seconds))
    return cells + (beside_abc(tool, graph, after, seconds) if tool else [])


def proof(graph: Graph, after: Graph, seconds: float) -> str:
    """How long the proof took, or what came of it instead."""
    start = perf_counter()
    verdict = lgir.verify(graph, after, method="sat", seconds=seconds)
    took = f"{perf_counter() - start:.2f}"
    return {True: took, False: "DIFFERENT", None: "unknown"}[verdict.equivalent]


def beside_abc(tool: str, graph: Graph, mapped: Graph, seconds: float) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        netlist, before, after = (Path(folder) / f"{name}.blif" for name in "abc")
        write_blif(graph, netlist)
        # ABC does not know that thresholds of one number imply each other; we use it.
        write_blif(graph, before, guarded=True)
        write_blif(mapped, after, guarded=True)
        best: tuple[int, float] | None = None
        for script in SCRIPTS:
            start = perf_counter()
            text = run(tool, f"read_blif {netlist}; {script}; print_stats", seconds)
            found = re.search(r"nd = *(\d+)", text)
            if found and (best is None or int(found[1]) < best[0]):
                best = int(found[1]), perf_counter() - start
        answer = run(tool, f"cec -n {before} {after}", seconds)
    count, took = best or (0, 0.0)
    equal = "NO" if "NOT EQUIVALENT" in answer else "yes" if "are equivalent" in answer else "-"
    return [f"{count:,}" if best else "-", f"{took:.2f}" if best else "-", equal]


def run(tool: str, script: str, seconds: float) -> str:
    try:
        return subprocess.run(
            [tool, "-c", script], capture_output=True, text=True, timeout=seconds, check=False
        ).stdout
    except subprocess.TimeoutExpired:
        return ""


if __name__ == "__main__":
    main()
