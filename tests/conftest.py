"""Shared by all tests: reproducible hypothesis runs and golden files."""

from __future__ import annotations

import io
import lzma
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest

from lgir.equivalence import proof
from lgir.equivalence.simulation import Simulation
from lgir.equivalence.verdict import Verdict
from lgir.ir.graph import Graph
from lgir.registry import REGISTRIES
from paths import GOLDEN, SHARED

# A failure must be seen again by whoever runs the suite next, on a slower machine too.
hypothesis.settings.register_profile("lgir", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("lgir")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden/*")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """check(name, text): `text` must equal tests/golden/<name>."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"differs from {path}"

    return check


@pytest.fixture(scope="session")
def mnist_test() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return MNIST's 10,000 test images (N, 28, 28) and labels; skip if the data is not here."""
    folder = SHARED / "data"
    files = [folder / f"mnist_{what}_test.npy.xz" for what in "xy"]
    if not all(f.exists() for f in files):
        pytest.skip("MNIST is not here")
    x, y = (np.load(io.BytesIO(lzma.decompress(f.read_bytes()))) for f in files)
    return x.reshape(-1, 28, 28), y


@pytest.fixture(autouse=True, scope="session")
def own_object_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compile as on a machine that lgir is new on, and leave the user's cache alone.

    The folder is named by the environment, so that no test imports a backend that it does not use.
    Matplotlib keeps the font cache that it has.
    """
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        if sys.platform == "darwin":  # which has no such variable
            patch.setattr("lgir.backends.llvm.options.default_folder", lambda: folder)
        else:
            user_cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
            if "MPLCONFIGDIR" not in os.environ:
                patch.setenv("MPLCONFIGDIR", str(Path(user_cache) / "matplotlib"))
            patch.setenv("XDG_CACHE_HOME", str(folder))
            patch.setenv("LOCALAPPDATA", str(folder))
        yield


@pytest.fixture(autouse=True)
def registries_as_before() -> Iterator[None]:
    """Forget what a test registers, so that no test depends on another; this imports nothing."""
    with ExitStack() as stack:
        for registry in REGISTRIES:
            stack.enter_context(registry.restored())
        yield


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the quick simulation at the start of a proof from finding anything."""

    class Blind(Simulation):
        def __init__(self, graph: Graph, *, inputs: Any = None, **options: Any) -> None:
            super().__init__(graph, inputs=inputs, **options)
            self.drawn = inputs is None

        def compare(self, other: Graph) -> Verdict:
            return Verdict(True, "sim") if self.drawn else super().compare(other)

    monkeypatch.setattr(proof, "Simulation", Blind)
