"""The Dask example runs: an executable mapped over partitions by a cluster of processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from paths import ROOT

EXAMPLE = ROOT / "examples" / "dask_map.py"


def test_a_dask_cluster_gives_the_scores_of_a_direct_call():
    pytest.importorskip("dask.array")
    pytest.importorskip("distributed")
    options = ["--net", "dense-2x400", "--samples", "1300", "--partition", "500"]
    process = subprocess.run(
        [sys.executable, str(EXAMPLE), *options], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == ["2 workers"] * 2 + ["this process"]
    assert lines[-1] == "scores are equal"
