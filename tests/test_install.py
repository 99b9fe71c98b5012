"""Packaging: what a wheel holds, and that it works in an environment without torch."""

import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

import lgir
from lgir.zoo import PRETRAINED, build_net
from paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_python_package_of_the_tree_is_listed():
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    installed = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for folder in ("lgir", "passes", "backends", "frontend")
        for file in (ROOT / folder).rglob("__init__.py")
    }
    assert listed == {p if p.split(".")[0] == "lgir" else f"lgir.{p}" for p in installed}


def test_the_readmes_commands_are_there_to_be_copied():
    lines = (ROOT / "README.md").read_text().splitlines()
    commands = [line for line in lines if line.startswith("python -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith(".venv/bin/lgir demo")
    assert commands[1].endswith(".venv/bin/pytest -n auto")
    assert all("-c constraints.txt" in command for command in commands)


def run(*command: object, cwd: Path) -> str:
    process = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT, cwd=folder)
    (built,) = folder.glob("lgir-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_the_demo_checkpoint(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        folder = ROOT / package.removeprefix("lgir.").replace(".", "/")
        folder = folder if folder.is_dir() else ROOT / package.replace(".", "/")
        for file in folder.glob("*.py"):
            assert f"{package.replace('.', '/')}/{file.name}" in names
    assert "lgir/py.typed" in names
    assert any(name.endswith((".pt", ".safetensors")) for name in names)
    assert {f"lgir/pretrained/{name}.onnx.xz" for name in PRETRAINED} < names
    assert "lgir/pretrained/SHA256SUMS" in names
    assert not any(name.startswith(("tests/", "passes/", "backends/")) for name in names)


@pytest.mark.slow
def test_the_wheel_runs_without_torch(wheel: Path, tmp_path: Path):
    venv.create(tmp_path / "env", with_pip=True)
    bin_ = tmp_path / "env" / "bin"
    run(bin_ / "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    assert "torch" not in run(bin_ / "pip", "list", cwd=tmp_path)

    graph = build_net("dense-2x400-op16")
    samples = np.random.default_rng(0).random((1000, 784)) < 0.5
    run(bin_ / "python", ROOT / "tests" / "import_layers.py", cwd=tmp_path)
    lgir.save(graph, tmp_path / "model.onnx")
    np.save(tmp_path / "samples.npy", samples)
    assert "Usage" in run(bin_ / "lgir", "--help", cwd=tmp_path)
    run(bin_ / "lgir", "opt", "model.onnx", "-o", "small.onnx", cwd=tmp_path)
    run(bin_ / "python", "-m", "lgir", "run", "small.onnx", "samples.npy", "-o", "s.npy",
        cwd=tmp_path)  # fmt: skip
    assert np.array_equal(np.load(tmp_path / "s.npy"), lgir.compile(graph, "reference")(samples))

    failed = subprocess.run([bin_ / "lgir", "demo"], cwd=tmp_path, capture_output=True, text=True)
    assert failed.returncode == 2
    assert "pip install 'lgir[demo]'" in failed.stderr
    assert failed.stderr.count("\n") == 1
