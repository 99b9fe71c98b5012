"""Load passes, backends and formats of one's own from a Python file: `lgir opt --load FILE.py`."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path

from lgir.errors import LgirError
from lgir.registry import REGISTRIES


def load_passes(path: str | Path) -> list[str]:
    """Run a Python file that registers passes, backends or formats.

    The file runs with the rights of the caller: name only files you trust.

    Returns:
        The names that the file added to the registries or replaced.

    Raises:
        LgirError: the file is missing, raises, or registers nothing.
    """
    file = Path(path)
    if not file.is_file():
        raise LgirError(f"no such file of passes: {file}")
    module_name = f"lgir_passes_{file.stem}".replace("-", "_")
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise LgirError(f"{file} is not a Python file (its name must end in .py)")
    before = [registry.added() for registry in REGISTRIES]
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # Dataclasses and pickling look up a class's module here.
    try:
        spec.loader.exec_module(module)
    except LgirError as error:
        raise LgirError(f"{file}: {error}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == spec.origin]
        where = f" at line {lines[-1]}" if lines else ""
        raise LgirError(f"{file} failed{where} with {type(error).__name__}: {error}") from error
    added = [
        name
        for registry, known in zip(REGISTRIES, before, strict=True)
        for name, item in sorted(registry.added().items())
        if known.get(name) is not item
    ]
    if not added:
        raise LgirError(
            f'{file} registers nothing; decorate a pass with @lgir.register_pass("name")'
        )
    return added
