"""The GPU benchmark, built for the CPU: its ways agree with the reference."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from cuda_host.host import FOLDER, GXX
from paths import ROOT

SCRIPT = ROOT / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not here")
@pytest.mark.parametrize("net", ["dense-2x400", "logictreenet-8"])
def test_all_ways_agree_with_the_reference(
    gpu: ModuleType, net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(driver: Path, folder: Path, library: Path) -> None:
        paths = ["-I", str(FOLDER), "-I", str(folder)]
        subprocess.run([*GXX, *paths, str(driver), "-o", str(library)], check=True)

    monkeypatch.setattr(gpu, "build", build)
    device, figures = gpu.measure(net, samples=40, plain_bytes=1 << 30, repeats=1)
    assert [f.checked for f in figures] == [40, 40, 40]
    assert device.processors == 1016
    assert all(f.seconds > 0 for f in figures)


def test_the_roofline_can_be_printed_anywhere(gpu: ModuleType) -> None:
    result = CliRunner().invoke(gpu.main, ["--predict", "--net", "dense-2x400"])
    assert result.exit_code == 0, result.output
    assert "H100" in result.output
