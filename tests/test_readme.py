"""README.md does what it says: its Python runs, its commands exit with 0, its errors are real."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lgir.cli import main
from paths import ROOT

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds digits.pt, samples.npy and my_passes.py."""
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from lgir.frontend.digits import demo_checkpoint, digits_data

    (tmp_path / "digits.pt").write_bytes(demo_checkpoint().read_bytes())
    np.save(tmp_path / "samples.npy", digits_data()[2])
    np.save(tmp_path / "wide.npy", np.zeros((5, 8, 8), np.uint8))
    (module,) = (block for block in blocks("python") if block.startswith("# my_passes.py"))
    (tmp_path / "my_passes.py").write_text(module)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_python_runs_from_top_to_bottom(folder: Path, capsys: pytest.CaptureFixture[str]):
    names: dict[str, object] = {"__name__": "readme"}
    for block in blocks("python"):
        code = compile(block, "README.md", "exec")
        if "cuda" not in block:  # which needs a GPU
            exec(code, names)
    printed = capsys.readouterr().out
    assert float(re.search(r"accuracy ([\d.]+)", printed)[1]) > 0.95
    assert "equal on" in printed
    assert names["report"].after.gates < names["report"].before.gates
    assert (folder / "digits.onnx").exists()


def test_its_pass_has_ten_lines():
    (module,) = (block for block in blocks("python") if block.startswith("# my_passes.py"))
    inner = module[module.index('"""Order') :].splitlines()
    assert len(inner) <= 10


def test_its_commands_work_in_order(folder: Path):
    commands = [line for block in blocks("console") for line in block.splitlines()]
    assert len(commands) > 10
    for command in commands:
        program, *arguments = shlex.split(command, comments=True)
        if program != "lgir":
            continue  # another tool's, such as nvcc
        if "--header" in arguments and shutil.which("cc") is None:
            continue
        if "bench" in arguments and not {"--sweep", "--roofline"} & set(arguments):
            arguments += ["--samples", "512", "--repeats", "1"]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, f"{command}\n{result.stderr}"


def test_its_errors_are_what_is_printed(folder: Path):
    CliRunner().invoke(main, ["lift", "digits.pt", "-o", "digits.onnx"])
    (block,) = (block for block in blocks("text") if block.startswith("$ "))
    lines = block.splitlines()
    for command, message in zip(lines[::2], lines[1::2], strict=True):
        result = CliRunner().invoke(main, shlex.split(command.removeprefix("$ lgir ")))
        shown = re.sub(r"\(known: .*\)", "(known: ...)", result.stderr)  # the list grows
        assert (result.exit_code, shown) == (2, f"{message}\n")


def test_it_shows_every_command(folder: Path):
    shown = {name for name in main.commands if re.search(rf"\blgir {name}\b", README)}
    assert shown == set(main.commands)


def test_the_share_of_gates_removed_is_the_demos(folder: Path):
    import lgir

    _, report = lgir.optimize(lgir.lift(folder / "digits.pt"))
    said = re.search(
        r"leaves ([\d,]+) of ([\d,]+) gates .*?,\s+and ([\d,]+)\s+of the ([\d,]+)",
        README,
        re.DOTALL,
    )
    sizes = [int(number.replace(",", "")) for number in said.groups()]
    after, before = report.after, report.before
    assert sizes == [after.gates, before.gates, after.unrolled, before.unrolled]
