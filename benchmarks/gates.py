"""Print gate counts of known networks after each level, beside ABC on the same netlists.

python benchmarks/gates.py                      # the table, as in benchmarks/gates.md
python benchmarks/gates.py --net dense-6x8000 --no-abc
python benchmarks/gates.py --luts               # LUT4 and LUT6 with depth

If ABC (berkeley-abc) is installed, it reads our BLIF of the original network and runs the better of
`strash; if -K 3 -a` and `strash; dc2; if -K 3 -a`, and its `cec` checks our mapped netlist.

With `--luts`, both map the netlist that `unroll,O1` leaves. Tables of two and more inputs and their
depth are counted; inverters of outputs stand beside them, and buffers are not counted.
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
from lgir.formats.blif import read_blif, write_blif
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
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
LUT_NETS = ("digits", "difflogic-mnist", "torchlogix-mnist", "mnist_s")
LUT_SCRIPTS = ("if -K {k} -a", "if -K {k}", "dch; if -K {k}; mfs2")
REST = "fix(thermometer,fold,cse,dce),rewrite"
SCRIPTS = ("strash; if -K 3 -a", "strash; dc2; if -K 3 -a")


@click.command()
@click.option("--net", "nets", multiple=True, help="Networks, by default those of the table.")
@click.option("--abc/--no-abc", default=True, help="Compare with ABC if it is installed.")
@click.option("--seconds", default=300.0, show_default=True, help="Time limit of each tool's run.")
@click.option("--luts", is_flag=True, help="Map to LUT4 and LUT6, with depth.")
def main(nets: tuple[str, ...], abc: bool, seconds: float, luts: bool) -> None:
    """Print a Markdown table of gate counts, every gate counted at each position."""
    tool = (shutil.which("berkeley-abc") or shutil.which("abc")) if abc else None
    if luts:
        lut_table(nets or LUT_NETS, tool, seconds)
        return
    columns = ("network", "gates", "default", "O3: 3-LUTs", "proved in s")
    columns += ("unrolled O3", "s", "unrolled O4", "s", "proved in s")
    columns += ("ABC 3-LUTs", "ABC s", "ABC cec") if tool else ()
    print("|", " | ".join(columns), "|")
    print("|---" + "|---:" * (len(columns) - 1) + "|")
    for name in nets or NETS:
        graph = load(name)
        if graph is not None:
            print("|", " | ".join(table_row(name, graph, tool, seconds)), "|", flush=True)


def load(name: str) -> Graph | None:
    """Return a network of the zoo, the shipped checkpoint, or a trained one; None if missing."""
    if name == "digits":
        return lgir.lift(ROOT / "frontend" / "digits.pt")
    if name == "mnist_s":
        return lgir.lift(ROOT / "examples" / "mnist.pt")
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
        equal = cec(tool, before, after, seconds)
    count, best_seconds = best or (0, 0.0)
    return [f"{count:,}" if best else "-", f"{best_seconds:.2f}" if best else "-", equal]


def lut_table(nets: tuple[str, ...], tool: str | None, seconds: float) -> None:
    """Print the table of LUTs: ours for area and for depth, then ABC's."""
    columns = ["network", "k", "area", "depth", "depth + 1", "s", "proved"]
    if tool:
        columns += ["cec", *(f"ABC `{script.replace(' -K {k}', '')}`" for script in LUT_SCRIPTS)]
    print("|", " | ".join(columns), "|")
    print("|---" + "|---:" * (len(columns) - 1) + "|")
    for name in nets:
        graph = load(name)
        if graph is None:
            continue
        netlist, _ = lgir.optimize(graph, "unroll,O1", verify=None)
        for k in (4, 6):
            print("|", " | ".join(lut_row(name, netlist, k, tool, seconds)), "|", flush=True)


def lut_row(name: str, netlist: Graph, k: int, tool: str | None, seconds: float) -> list[str]:
    """Return a row of the table of LUTs. The proof and `cec` are of the mapping for depth."""
    area, _ = lgir.optimize(netlist, f"lut-map{{k={k}}}", verify=None)
    before, _ = lgir.optimize(netlist, REST, verify=None)
    lgir.optimize(before, f"lut-map{{k={k},goal=depth}}", verify=None)  # Compiles the kernels.
    start = perf_counter()
    fast, _ = lgir.optimize(before, f"lut-map{{k={k},goal=depth}}", verify=None)
    elapsed = f"{perf_counter() - start:.1f}"
    slack, _ = lgir.optimize(before, f"lut-map{{k={k},goal=depth,slack=1}}", verify=None)
    cells = [name, str(k), luts_of(area), luts_of(fast), luts_of(slack), elapsed]
    verdict = lgir.verify(netlist, fast, method="sat", seconds=seconds).equivalent
    cells.append({True: "yes", False: "NO", None: "-"}[verdict])
    if not tool:
        return cells
    with tempfile.TemporaryDirectory() as folder:
        source, left, right, result = (Path(folder) / f"{name}.blif" for name in "abcd")
        write_blif(netlist, source)
        write_blif(netlist, left, guarded=True)
        write_blif(fast, right, guarded=True)
        cells.append(cec(tool, left, right, seconds))
        for script in LUT_SCRIPTS:
            result.unlink(missing_ok=True)
            steps = f"strash; {script.format(k=k)}; write_blif {result}"
            run_abc(tool, f"read_blif {source}; {steps}", seconds)
            cells.append(luts_of(read_blif(result)) if result.exists() else "-")
    return cells


def luts_of(graph: Graph) -> str:
    """Return "tables + inverters (depth)"; tables have two and more inputs."""
    tables = inverters = depth = 0
    for _, op in graph.of_type(Logic):
        body, arity = op.body, op.body.arity()
        level = [0] * body.first_gate
        for operands, width in zip(body.fanin.tolist(), arity.tolist(), strict=True):
            level.append(max(level[net] for net in operands) + (width > 1))
        one_input = arity == 1
        tables += int((arity > 1).sum())
        first_half = (
            1 << (1 << (body.k - 1))
        ) - 1  # The part of a table in which input 0 is False.
        inverters += int((one_input & (body.table & first_half != 0)).sum())
        depth = max([depth, *(level[net] for net in body.outputs.tolist())])
    return f"{tables:,} + {inverters:,} ({depth})"


def cec(tool: str, left: Path, right: Path, seconds: float) -> str:
    """Return ABC's verdict on two netlists, "-" if there is none."""
    answer = run_abc(tool, f"cec -n {left} {right}", seconds)
    return "NO" if "NOT EQUIVALENT" in answer else "yes" if "are equivalent" in answer else "-"


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
