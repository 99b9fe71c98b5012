"""The commands that show what the compiler does: opt's dumps, diff, counterexamples, progress."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import lgir
from lgir.cli import main
from lgir.zoo import build_net

NET = "dense-2x400"


def cli(*args: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.onnx, small.onnx (optimized), and broken.onnx (one gate's last entry flipped)."""
    path = tmp_path_factory.mktemp("inspection")
    graph = build_net(NET)
    lgir.save(graph, path / "model.onnx")
    lgir.save(lgir.optimize(graph)[0], path / "small.onnx")
    node = graph.node("layer1")
    table = node.op.body.table.copy()
    table[11] ^= 8
    op = replace(node.op, body=replace(node.op.body, table=table))
    broken = graph.with_nodes(replace(n, op=op) if n is node else n for n in graph.nodes)
    lgir.save(broken, path / "broken.onnx")
    return path


def test_opt_prints_only_what_passes_changed(folder: Path):
    result = cli("opt", folder / "model.onnx", "-p", "fold,fold", "--print-changed")
    assert result.stderr.count("\n; ") + result.stderr.startswith("; ") == 1
    assert re.search(r"^; fold \(pass 1\): 2 of 3 nodes differ", result.stderr, re.MULTILINE)


def test_opt_prints_one_node_before_and_after_a_pass(folder: Path):
    command = ("opt", folder / "model.onnx", "-p", "fold", "--node", "layer1")
    result = cli(*command, "--print-before", "fold", "--print-after", "fold")
    assert result.stderr.count("%layer1 = logic") == 2
    assert "%layer2 =" not in result.stderr
    missing = cli("opt", folder / "model.onnx", "-p", "fold", "--print-after", "all",
                  "--node", "layer3")  # fmt: skip
    assert missing.exit_code == 2
    assert "did you mean 'layer2'" in missing.stderr
    alone = cli(*command)
    assert "--node goes with --print-before" in alone.stderr


def test_opt_dumps_numbered_files(folder: Path, tmp_path: Path):
    out = tmp_path / "small.onnx"
    dumps = tmp_path / "dumps"
    result = cli(
        "opt", folder / "model.onnx", "-p", "fold,fold,merge", "--dump-dir", dumps, "-o", out
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert sorted(path.name for path in dumps.iterdir()) == [
        "000-input.lgir",
        "001-fold.lgir",
        "003-merge.lgir",
    ]
    assert cli("verify", dumps / "003-merge.lgir", out).exit_code == 0


def test_dump_shows_one_node(folder: Path):
    text = cli("dump", folder / "model.onnx", "--node", "score").stdout
    assert text == "  %score = groupsum %layer2 {groups=10, tau=10, beta=0} : f32[10]\n"
    assert "did you mean 'score'" in cli("dump", folder / "model.onnx", "--node", "scor").stderr


def test_diff_has_a_row_per_node_and_says_what_is_equal(folder: Path):
    text = cli("diff", folder / "model.onnx", folder / "small.onnx").stdout
    assert "model.onnx -> small.onnx" in text
    assert re.search(r"^ - +layer1 +Logic", text, re.MULTILINE)
    assert re.search(r"^ ~ +layer2 +Logic .* simulated all", text, re.MULTILINE)
    assert re.search(r"^ = +score", text, re.MULTILINE)
    detail = cli("diff", folder / "model.onnx", folder / "broken.onnx", "--node", "layer1",
                 "--full").stdout  # fmt: skip
    assert "simulated 399" in detail
    assert re.search(r"^ +\+  %\d+ = ", detail, re.MULTILINE)
    rows = json.loads(cli("diff", folder / "model.onnx", folder / "small.onnx", "--json").stdout)
    by_name = {row["node"]: row for row in rows["nodes"]}
    assert by_name["layer2"]["equal_channels"]["simulated"] == 400
    unknown = cli("diff", folder / "model.onnx", folder / "small.onnx", "--node", "layer9")
    assert "unknown node 'layer9'" in unknown.stderr


def test_diff_proves_on_request(folder: Path):
    pytest.importorskip("pysat")
    text = cli("diff", folder / "model.onnx", folder / "small.onnx", "--method", "sat").stdout
    assert re.search(r"layer2 .* proved all", text)


def test_diff_of_models_of_other_inputs_compares_no_channels(folder: Path):
    result = cli("diff", folder / "model.onnx", "--net", "logictreenet-8")
    assert result.exit_code == 0, result.stderr
    assert "no channels were compared, since the graphs differ in inputs" in result.stdout


def test_a_counterexample_is_short_and_says_where_models_differ(folder: Path):
    result = cli("verify", folder / "model.onnx", folder / "broken.onnx")
    lines = result.stdout.splitlines()
    assert re.match(
        r"different: %score\[\d+\] is \S+ in model.onnx and \S+ in broken.onnx, if", lines[0]
    )
    assert lines[1] == "  %x is zero except for"
    elements = [int(re.fullmatch(r"    %x\[(\d+)\] = 1", line)[1]) for line in lines[2:]]
    assert len(elements) == 2
    x = np.zeros((1, 784), bool)
    x[0, elements] = True
    a, b = (lgir.compile(lgir.load(folder / f), "reference")(x)
            for f in ("model.onnx", "broken.onnx"))  # fmt: skip
    assert (a != b).any()


def test_a_counterexample_that_is_too_long_to_show_is_kept_in_a_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lgir.cli.counterexample.simplify_counterexample", lambda a, b, x: x)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    text = cli("verify", folder / "model.onnx", folder / "broken.onnx").stdout
    assert re.search(r"and \d+ more of 784 elements", text)
    path = Path(re.search(r"the sample is in (\S+)", text)[1])
    assert path.parent == tmp_path
    assert np.load(path).shape == (1, 784)


def test_bisect_shows_what_the_pass_changed_and_a_sample(folder: Path, tmp_path: Path):
    (tmp_path / "wrong.py").write_text(
        "from dataclasses import replace\n"
        "import lgir\n"
        '@lgir.register_pass("flip-a-gate")\n'
        "def flip_a_gate(graph):\n"
        '    node = graph.node("layer1")\n'
        "    table = node.op.body.table.copy()\n"
        "    table[3] ^= 15\n"
        "    op = replace(node.op, body=replace(node.op.body, table=table))\n"
        "    return graph.with_nodes(replace(n, op=op) if n is node else n for n in graph.nodes)\n"
    )
    text = cli("bisect", folder / "model.onnx", "--load", tmp_path / "wrong.py",
               "-p", "cse,flip-a-gate,dce").stdout  # fmt: skip
    assert "pass 'flip-a-gate', number 2 to run, breaks it" in text
    assert "~ layer1: Logic" in text
    assert re.search(r"is \S+ in the graph before it and \S+ in the graph after it, if", text)


def run_on_terminal(*command: str) -> str:
    """Return what a command prints on a terminal that is its stdout and stderr."""
    pty = pytest.importorskip("pty")
    main_end, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    printed = b""
    while True:
        try:
            data = os.read(main_end, 1 << 16)
        except OSError:  # Linux says so when the other end is closed.
            break
        if not data:
            break
        printed += data
    os.close(main_end)
    assert process.wait() == 0
    return printed.decode()


def test_progress_is_shown_on_a_terminal_and_not_on_a_pipe(folder: Path, tmp_path: Path):
    command = [sys.executable, "-m", "lgir", "opt", str(folder / "model.onnx"),
               "-o", str(tmp_path / "out.onnx")]  # fmt: skip
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", run_on_terminal(*command))
    assert re.search(r"\d:\d\d:\d\d\S* pass \d+: ", shown)
    piped = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (piped.stdout, piped.stderr) == ("", "")
