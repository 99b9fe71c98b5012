"""Only LgirError leaves the public API, whatever comes through a door."""

import subprocess
import sys
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.door import DOORS, outcome
from paths import ROOT


@pytest.mark.parametrize("name", DOORS)
def test_only_errors_of_lgir_leave_a_door(name):
    @settings(max_examples=40)
    @given(st.integers(0, 2**32 - 1))
    def check(seed):
        description, call = DOORS[name](Random(seed))
        try:
            outcome(call)
        except BaseException as error:
            error.add_note(f"door {name}, seed {seed}: {description}")
            raise

    check()


@pytest.mark.slow
def test_thousands_of_inputs_per_door_stay_within_time_and_memory():
    command = [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), "--inputs", "20000"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    assert process.returncode == 0, process.stdout + process.stderr
