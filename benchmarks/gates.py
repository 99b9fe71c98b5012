"""Print gate counts of known networks after each level, beside ABC on the same netlists.

python benchmarks/gates.py                      # the table, as in benchmarks/gates.md
python benchmarks/gates.py --net dense-6x8000 --no-abc

If ABC (berkeley-abc) is installed, it reads our BLIF of the original network and runs the better of
`strash; if -K 3 -a` and `strash; dc2; if -K 3 -a`, and its `cec` checks our mapped netlist.
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
CHECKPOINTS = ROOT.parent / "shared" / "checkpoints"
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
@click.option("--abc/--no-abc", default=True, help="Compare with ABC if it is installed.")
@click.option("--seconds", default=300.0, show_default=True, help="Time limit of each tool's run.")
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
            print("|", " | ".join(table_row(name, graph, tool, seconds)), "|", flush=True)


def load(name: str) -> Graph | None:
    """Return a network of the zoo, the shipped checkpoint, or a trained one; None if missing."""
    if name == "digits":
        return lgir.lift(ROOT / "frontend" / "digits.pt")
    if not name.endswith("-mnist"):
        return build_net(name)
    folders = {"difflogic-mnist": "difflogic_mnist", "torchlogix-mnist": "torchlogix_conv_mnist"}
    folder = CHECKPOINTS / folders[name]
    if not folder.is_dir():
        click.echo(f"{name}: no checkpoint in {folder.name}, left out", err=True)
        return None
    wiring = {"indices": folder / "indices.pt"} if name == "difflogic-mnist" else {}
    return lgir.lift(folder / "state_dict.pt", architecture=folder / "model.json", **wiring)


def table_row(name: str, graph: Graph, tool: str | None, seconds: float) -> list[str]:
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
    """Return the seconds that the proof elapsed, or its verdict if it proved nothing."""
    start = perf_counter()
    verdict = lgir.verify(graph, after, method="sat", seconds=seconds)
    elapsed = f"{perf_counter() - start:.2f}"
    return {True: elapsed, False: "DIFFERENT", None: "unknown"}[verdict.equivalent]


def beside_abc(tool: str, graph: Graph, mapped: Graph, seconds: float) -> list[str]:
    """Return ABC's gate count, its seconds, and its verdict on our mapped netlist."""
    with tempfile.TemporaryDirectory() as folder:
        netlist, before, after = (Path(folder) / f"{name}.blif" for name in "abc")
        write_blif(graph, netlist)
        # ABC does not know that thresholds of one number imply each other; we use it.
        write_blif(graph, before, guarded=True)
        write_blif(mapped, after, guarded=True)
        best: tuple[int, float] | None = None
        for script in SCRIPTS:
            start = perf_counter()
            text = run_abc(tool, f"read_blif {netlist}; {script}; print_stats", seconds)
            match = re.search(r"nd = *(\d+)", text)
            if match and (best is None or int(match[1]) < best[0]):
                best = int(match[1]), perf_counter() - start
        answer = run_abc(tool, f"cec -n {before} {after}", seconds)
    count, best_seconds = best or (0, 0.0)
    equal = "NO" if "NOT EQUIVALENT" in answer else "yes" if "are equivalent" in answer else "-"
    return [f"{count:,}" if best else "-", f"{best_seconds:.2f}" if best else "-", equal]


def run_abc(tool: str, script: str, seconds: float) -> str:
    """Return the output of a script, "" if it takes too long."""
    try:
        return subprocess.run(
            [tool, "-c", script], capture_output=True, text=True, timeout=seconds, check=False
        ).stdout
    except subprocess.TimeoutExpired:
        return ""


if __name__ == "__main__":
    main()
