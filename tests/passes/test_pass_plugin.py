"""A pass from another package: installed, listed, run, and held to the contract like any other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paths import TESTS

PLUGIN = TESTS / "plugin"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that has the package installed beside lgir."""
    folder = tmp_path_factory.mktemp("plugin")
    source, installed = folder / "source", folder / "installed"
    shutil.copytree(PLUGIN, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(installed), str(source)], check=True)
    return {**os.environ, "PYTHONPATH": str(installed)}


def lgir(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lgir", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_it_is_listed_with_its_options(environment: dict[str, str]) -> None:
    listed = lgir(environment, "passes", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "reverse-outputs-twice" in listed.stdout
    assert "Turn the outputs of every body around" in listed.stdout


def test_it_runs_and_is_verified(environment: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    arguments = ["opt", "--net", "dense-2x400", "-p", "reverse-outputs-twice,dce", "-o", str(out)]
    result = lgir(environment, *arguments, "--json")
    assert result.returncode == 0, result.stderr
    assert out.exists()
    assert "reverse-outputs-twice" in json.dumps(json.loads(result.stdout))


def test_it_is_caught_when_it_breaks_the_graph(environment: dict[str, str]) -> None:
    arguments = ["opt", "--net", "dense-2x400", "-p", "reverse-outputs-twice{times=1}", "-o", "-"]
    result = lgir(environment, *arguments)
    assert result.returncode == 2
    assert "reverse-outputs-twice" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
