"""The command line: every command on small models, what goes to which stream, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import lgir
from lgir.cli import main
from lgir.errors import LgirError
from lgir.ir.builder import dense_body
from lgir.zoo import build_net

NET = "dense-2x400"

MY_PASS = '''
"""A pass of one's own."""
import lgir

@lgir.register_pass("first-layer-twice")
def first_layer_twice(graph: lgir.Graph) -> lgir.Graph:
    """Change nothing."""
    return graph
'''


def cli(*args: object, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args], input=stdin)


def ok(*args: object, stdin: str | bytes | None = None) -> str:
    result = cli(*args, stdin=stdin)
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.onnx, model.lgir, other.onnx (another net of the same shape) and samples.npy."""
    path = tmp_path_factory.mktemp("cli")
    graph = build_net(NET)
    lgir.save(graph, path / "model.onnx")
    (path / "model.lgir").write_text(lgir.dumps(graph, full=True))
    lgir.save(build_net(NET, seed=1), path / "other.onnx")
    samples = np.random.default_rng(0).random((70, 784)) < 0.5
    np.save(path / "samples.npy", samples)
    (path / "my_passes.py").write_text(MY_PASS)
    return path


@pytest.fixture(scope="module")
def scores(folder: Path) -> np.ndarray:
    return lgir.compile(build_net(NET), "reference")(np.load(folder / "samples.npy"))


def test_without_a_command_the_help_is_shown():
    assert ok() == ok("--help")
    assert "lgir demo" in ok()


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_and_option_explains_itself(command: str):
    text = ok(command, "--help")
    assert f"Usage: main {command}" in text
    for parameter in main.commands[command].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{command} {parameter.opts} has no help"


def test_the_version_is_the_packages():
    assert ok("--version").strip() == f"lgir {lgir.__version__}"


def test_python_m_lgir_is_the_same_program():
    process = subprocess.run([sys.executable, "-m", "lgir", "--version"], capture_output=True)
    assert process.stdout.decode().strip() == f"lgir {lgir.__version__}"
    assert not process.stderr


def test_help_imports_neither_torch_nor_llvmlite_nor_onnx():
    code = (
        "import sys; from lgir.cli import main; main(['--help'], standalone_mode=False); "
        "print(sorted({'torch', 'llvmlite', 'onnx', 'rich'} & set(sys.modules)))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.splitlines()[-1] == "[]"


def test_text_and_container_and_net_are_the_same_model(folder: Path):
    texts = {
        ok("dump", folder / "model.onnx", "--full"),
        ok("dump", folder / "model.lgir", "--full"),
        ok("dump", "--net", NET, "--full"),
        ok("dump", "-", "--full", stdin=(folder / "model.lgir").read_text()),
        ok("dump", "-", "--full", stdin=(folder / "model.onnx").read_bytes()),
    }
    assert texts == {(folder / "model.lgir").read_text()}


def test_dump_elides_long_bodies_unless_asked(folder: Path):
    short, full = (ok("dump", folder / "model.onnx", *more) for more in ((), ("--full",)))
    assert len(short) < len(full) / 5


def test_dump_summary_counts_gates(folder: Path):
    assert "800" in ok("dump", folder / "model.onnx", "--summary")
    json.loads(ok("dump", folder / "model.onnx", "--summary", "--json"))


def test_lift_writes_containers_and_text(folder: Path, tmp_path: Path):
    ok("lift", "--net", NET, "-o", tmp_path / "a.onnx")
    ok("lift", "--net", NET, "-o", tmp_path / "a.lgir")
    assert lgir.load(tmp_path / "a.onnx") == build_net(NET)
    assert lgir.parse((tmp_path / "a.lgir").read_text()) == build_net(NET)
    assert ok("lift", "--net", NET, "-o", "-") == (folder / "model.lgir").read_text()


def test_run_writes_scores_as_npy_npz_csv_and_text(folder: Path, tmp_path: Path, scores):
    command = ("run", folder / "model.onnx", folder / "samples.npy", "-b", "reference")
    for name in ("s.npy", "s.npz", "s.csv"):
        assert ok(*command, "-o", tmp_path / name) == ""
    assert np.array_equal(np.load(tmp_path / "s.npy"), scores)
    assert np.array_equal(np.load(tmp_path / "s.npz")["score"], scores)
    assert (tmp_path / "s.csv").read_text() == ok(*command)
    printed = np.array([line.split(",") for line in ok(*command).splitlines()], np.float32)
    assert np.array_equal(printed, scores)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.csv", "s.npy", "s.npz"]


def test_run_gives_labels(folder: Path, scores):
    text = ok("run", "--net", NET, folder / "samples.npy", "-b", "reference", "--labels")
    assert [int(line) for line in text.split()] == scores.argmax(axis=1).tolist()


def test_run_with_llvm_equals_the_reference(folder: Path, tmp_path: Path, scores):
    ok("run", folder / "model.onnx", folder / "samples.npy", "--threads", 2,
       "-p", "default", "-o", tmp_path / "s.npy")  # fmt: skip
    assert np.array_equal(np.load(tmp_path / "s.npy"), scores)


def test_opt_writes_an_equivalent_model_and_says_nothing_else(folder: Path, tmp_path: Path):
    out = tmp_path / "small.onnx"
    result = cli("opt", folder / "model.onnx", "-p", "fold,cse,dce", "-o", out)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert "equal" in ok("verify", folder / "model.onnx", out)


def test_opt_reports_a_row_per_pass(folder: Path, tmp_path: Path):
    text = ok("opt", folder / "model.onnx", "-p", "fold,cse,dce", "--report",
              "-o", tmp_path / "small.onnx")  # fmt: skip
    for word in ("fold", "cse", "dce", "gates in", "gates out"):
        assert word in text
    assert "fold" in ok("opt", folder / "model.onnx", "-p", "fold"), "without -o, the report"
    data = json.loads(ok("opt", folder / "model.onnx", "-p", "fold,dce", "--json"))
    assert [row["pass"] for row in data["rows"]] == ["fold", "dce"]


def test_opt_to_stdout_is_text_that_parses(folder: Path):
    result = cli("opt", "--net", f"{NET}-op16", "-p", "dce", "--report", "-o", "-")
    assert lgir.parse(result.stdout).outputs == ("score",)
    assert "gates out" in result.stderr, "the report does not mix with the IR"


def test_opt_prints_the_ir_after_a_pass_to_stderr(folder: Path):
    result = cli("opt", "--net", f"{NET}-op16", "-p", "fold,dce", "--print-after", "dce")
    assert result.stderr.count("graph ") == 1


def test_outputs_of_any_name_are_archived(tmp_path: Path):
    b = lgir.GraphBuilder("names")
    x = b.input("x", "bit", (2,))
    outputs = [b.logic([x], dense_body(2, [[0, 1]], [8]), name=n) for n in ("file", "allow_pickle")]
    lgir.save(b.build(*outputs), tmp_path / "names.onnx")
    np.save(tmp_path / "x.npy", np.ones((3, 2), bool))
    ok("run", tmp_path / "names.onnx", tmp_path / "x.npy", "-o", tmp_path / "y.npz")
    with np.load(tmp_path / "y.npz") as arrays:
        assert {name: arrays[name].tolist() for name in arrays.files} == {
            "file": [[True]] * 3,
            "allow_pickle": [[True]] * 3,
        }


def test_a_pass_from_a_file_is_listed_and_runs(folder: Path):
    load = ("--load", folder / "my_passes.py")
    assert "first-layer-twice" in ok("passes", *load)
    assert "first-layer-twice" in ok("opt", folder / "model.onnx", *load, "-p", "first-layer-twice")


def test_a_backend_from_a_file_is_listed_and_runs(folder: Path, tmp_path: Path):
    (tmp_path / "my_backend.py").write_text(
        "import lgir\n"
        "from lgir.backends.reference import ReferenceExecutable\n"
        "\n"
        '@lgir.register_backend("from-a-file")\n'
        "def lower(graph):\n"
        '    """Interpret it."""\n'
        "    return ReferenceExecutable(graph)\n"
    )
    load = ("--load", tmp_path / "my_backend.py")
    assert "Interpret it." in ok("backends", *load)
    out = ok("compile", folder / "model.onnx", *load, "-b", "from-a-file")
    assert "compiled by from-a-file" in out


def test_verify_tells_equal_from_different_by_exit_code(folder: Path, tmp_path: Path):
    equal = cli("verify", folder / "model.onnx", folder / "model.lgir")
    assert (equal.exit_code, equal.stdout[:5]) == (0, "equal")
    sample = tmp_path / "sample.npy"
    differ = cli("verify", "--net", NET, folder / "other.onnx", "-o", sample)
    assert (differ.exit_code, differ.stdout[:9]) == (1, "different")
    a, b = (lgir.compile(build_net(NET, seed), "reference")(np.load(sample)) for seed in (0, 1))
    assert (a != b).any(), "the counterexample shows the difference"
    data = json.loads(cli("verify", "--net", NET, folder / "other.onnx", "--json").stdout)
    assert data["equivalent"] is False
    assert np.array_equal(data["counterexample"]["inputs"], np.load(sample))


def test_compile_names_its_stages_and_emits_them(folder: Path, tmp_path: Path):
    text = ok("compile", folder / "model.onnx")
    assert "--emit llvm" in text
    assert "--emit asm" in text
    assert "define " in ok("compile", folder / "model.onnx", "--emit", "llvm")
    ok("compile", folder / "model.onnx", "--emit", "asm", "-o", tmp_path / "model.s")
    assert ".globl" in (tmp_path / "model.s").read_text()
    assert "asm" in json.loads(ok("compile", folder / "model.onnx", "--json"))["stage_lines"]


def test_options_reach_the_backends_that_take_them(folder: Path):
    asm = ok("compile", folder / "model.onnx", "--target", "generic", "--emit", "asm")
    assert "xmm" in asm
    assert "ymm" not in asm
    result = cli("bench", folder / "model.onnx", "--no-torch", "--target", "sse9", "--samples", 64)
    assert (result.exit_code, "unknown target 'sse9'" in result.stderr) == (2, True)


def test_bench_prints_a_table_or_json(folder: Path):
    command = ("bench", "--net", NET, "-b", "reference", "--samples", 100, "--repeats", 1,
               "--no-torch")  # fmt: skip
    assert "gate-evals/s" in ok(*command)
    data = json.loads(ok(*command, "--json"))
    assert data["rows"][0]["backend"] == "reference"
    assert list(data["preparation_seconds"]) == ["lift", "optimize"]


def test_the_registries_are_listed():
    assert {row["name"] for row in json.loads(ok("backends", "--json"))} >= {"reference", "llvm"}
    passes = json.loads(ok("passes", "--json"))
    assert {row["name"] for row in passes["passes"]} >= {"fold", "cse", "dce", "fuse-pool"}
    assert all(row["about"] for row in passes["passes"])
    assert "default" in passes["pipelines"]
    assert "reference" in ok("backends")
    assert "fuse-pool" in ok("passes")


def test_debug_raises_the_error_itself(folder: Path):
    result = CliRunner().invoke(main, ["dump", "--net", "densse-2x400", "--debug"])
    assert isinstance(result.exception, LgirError)


def test_output_replaces_the_old_file_or_leaves_it(folder: Path, tmp_path: Path):
    out = tmp_path / "out.onnx"
    out.write_bytes(b"old")
    cli("opt", folder / "model.onnx", "-p", "no-such-pass", "-o", out)
    assert out.read_bytes() == b"old"
    ok("opt", folder / "model.onnx", "-p", "fold", "-o", out)
    assert lgir.load(out).inputs == build_net(NET).inputs
    assert [p.name for p in tmp_path.iterdir()] == ["out.onnx"]


def test_bench_compares_with_torch_where_the_model_is_one_of_layers(folder: Path):
    pytest.importorskip("torch")
    command = ("bench", "-b", "reference", "--samples", 100, "--repeats", 1, "--json")
    rows = json.loads(ok(*command, "--net", NET))["rows"]
    assert [row["backend"] for row in rows] == ["reference", "pytorch"]
    ok("opt", folder / "model.onnx", "-o", folder / "small.onnx")
    result = cli(*command, folder / "small.onnx")
    assert [row["backend"] for row in json.loads(result.stdout)["rows"]] == ["reference"]
    assert result.stderr.startswith("no row for PyTorch: node %")


def test_the_shell_completes_names(monkeypatch: pytest.MonkeyPatch):
    def completed(line: str) -> list[str]:
        last_word = str(len(line.split()) - 1)
        env = {"_LGIR_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": last_word}
        result = CliRunner().invoke(main, [], prog_name="lgir", env=env)
        return [item.partition(",")[2] for item in result.stdout.split()]

    assert completed("lgir comp") == ["compile"]
    assert "reference" in completed("lgir run -b ref")
    assert "dense-6x8000" in completed("lgir bench --net dense-6")
    assert completed("lgir opt -p fold,thr") == ["fold,throughput"]


def test_describe_drafts_what_lift_needs(tmp_path: Path):
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    torch.save({"0.weights": torch.randn(20, 16, generator=generator)}, tmp_path / "model.pt")
    draft = json.loads(ok("describe", tmp_path / "model.pt", "--input-shape", "8"))
    assert draft["framework"] == "difflogic"
    assert draft["check"], "what it cannot know is listed"
    assert ok("describe", tmp_path / "model.pt", "-o", tmp_path / "model.json") == ""
    assert json.loads((tmp_path / "model.json").read_text())["layers"] == draft["layers"]


WRONG_PASS = """
from dataclasses import replace
import lgir

@lgir.register_pass("flip-first-layer")
def flip_first_layer(graph: lgir.Graph) -> lgir.Graph:
    node = next(n for n in graph.nodes if n.op_type == "Logic")
    body = replace(node.op.body, table=node.op.body.table ^ 1)
    wrong = replace(node, op=replace(node.op, body=body))
    return graph.with_nodes(wrong if n is node else n for n in graph.nodes)
"""


def test_bisect_names_the_pass_that_is_wrong(folder: Path, tmp_path: Path):
    (tmp_path / "wrong.py").write_text(WRONG_PASS)
    command = ("bisect", folder / "model.onnx", "--load", tmp_path / "wrong.py")
    assert "no pass" in ok(*command, "-p", "default")
    good, broken = tmp_path / "good.onnx", tmp_path / "broken.onnx"
    result = cli(*command, "-p", "fold,flip-first-layer,dce", "--before", good, "--after", broken)
    assert (result.exit_code, result.stderr) == (1, "")
    assert "'flip-first-layer'" in result.stdout
    assert cli("verify", folder / "model.onnx", good).exit_code == 0
    assert cli("verify", folder / "model.onnx", broken).exit_code == 1
    wrong = cli("opt", *command[1:], "-p", "flip-first-layer")
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)
    assert "'flip-first-layer' changed what the graph computes" in wrong.stderr
