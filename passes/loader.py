"""Custom passes from a Python file that the user names: `lgir opt --load my_passes.py`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from lgir.errors import LgirError
from lgir.registry import PASSES


def load_passes(path: str | Path) -> list[str]:
    """Run a Python file that registers passes; returns the names it added or replaced.

    The file runs with the rights of the caller: name only files you trust.

    Raises:
        LgirError: the file is missing, raises, or registers no pass.
    """
    file = Path(path)
    if not file.is_file():
        raise LgirError(f"no such file of passes: {file}")
    module_name = f"lgir_passes_{file.stem}".replace("-", "_")
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise LgirError(f"{file} is not a Python file (its name must end in .py)")
    before = dict(PASSES.items())
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickling look a class's module up here
    try:
        spec.loader.exec_module(module)
    except LgirError:
        raise
    except Exception as error:
        raise LgirError(f"{file} failed with {type(error).__name__}: {error}") from error
    added = [name for name, item in PASSES.items() if before.get(name) is not item]
    if not added:
        raise LgirError(f'{file} registers no pass; decorate one with @lgir.register_pass("name")')
    return added
