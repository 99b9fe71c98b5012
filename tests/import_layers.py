"""Check that imports among the modules of an installed lgir point down only, without circles.

    python tests/import_layers.py

reads the modules of the lgir that this interpreter imports, function-level imports included, and
prints each circle and each arrow against the order of `LAYERS`. Imports for type checkers alone do
not count. The exit code is 1 if there is any.
"""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

LAYERS: Final = (
    ("lgir.version", "lgir.printable"),
    ("lgir.errors",),
    ("lgir.registry", "lgir.files", "lgir.options"),
    ("lgir.ir",),
    ("lgir.packed", "lgir.roofline", "lgir.random_wiring"),
    ("lgir.samples",),
    ("lgir.executable",),
    ("lgir.equivalence", "lgir.formats"),
    ("lgir.zoo",),
    ("lgir.passes.kernels",),
    ("lgir.passes",),
    ("lgir.backends.lowering",),
    ("lgir.backends.c",),
    ("lgir.backends.reference", "lgir.backends.llvm", "lgir.backends.cuda"),
    ("lgir.backends",),
    ("lgir.frontend.core", "lgir.frontend.kernels"),
    ("lgir.frontend.frameworks",),
    ("lgir.frontend.layers",),
    ("lgir.frontend",),
    ("lgir.benchmarking",),
    ("lgir.api",),
    ("lgir",),
    ("lgir.cli",),
    ("lgir.__main__",),
)
"""Packages and modules from the lowest layer to the highest. A module belongs to the longest name
that it begins with, and may import from its own layer's package and from lower layers."""


PACKAGES: Final = ("lgir", "lgir.passes", "lgir.backends", "lgir.frontend")
"""Packages with folders of their own in a source tree, where an editable install finds them."""


def module_files() -> dict[str, Path]:
    """Return the file of every module of the installed lgir, by its full name."""
    files: dict[str, Path] = {}
    for package in PACKAGES:
        files |= _files_of(package)
    return files


def _files_of(package: str) -> dict[str, Path]:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    files = {package: Path(spec.origin)}
    for info in pkgutil.iter_modules([str(folder)]):
        if info.ispkg:
            files |= _files_of(f"{package}.{info.name}")
        else:
            files[f"{package}.{info.name}"] = folder / f"{info.name}.py"
    return files


def import_arrows(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """Return the modules that each module imports, anywhere in its text."""
    return {
        name: {target for target in _imported(path, files) if target != name}
        for name, path in files.items()
    }


def _imported(path: Path, files: Mapping[str, Path]) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module in files:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in files else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or not."""
    reachable = {name: _reachable(arrows, name) for name in arrows}
    groups = {
        tuple(sorted(n for n in names if name in reachable[n]))
        for name, names in reachable.items()
        if name in names
    }
    return [list(group) for group in sorted(groups)]


def _reachable(arrows: Mapping[str, set[str]], start: str) -> set[str]:
    """Return what `start` imports, directly or not; itself only if it is on a circle."""
    seen: set[str] = set()
    pending = list(arrows[start])
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += arrows[name]
    return seen


def upward_arrows(arrows: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Return the imports (importing module, imported module) against the order of `LAYERS`."""
    return sorted(
        (source, target)
        for source, targets in arrows.items()
        for target in targets
        if not _allowed(source, target)
    )


def _allowed(source: str, target: str) -> bool:
    (from_layer, from_package), (to_layer, to_package) = _layer(source), _layer(target)
    return to_layer < from_layer or from_package == to_package


def _layer(name: str) -> tuple[int, str]:
    """Return the layer that a module belongs to, and the entry of `LAYERS` that says so."""
    entries = [
        (entry, number)
        for number, layer in enumerate(LAYERS)
        for entry in layer
        if name == entry or name.startswith(f"{entry}.")
    ]
    entry, number = max(entries, key=lambda pair: len(pair[0]))
    if entry == "lgir" and name != "lgir":
        raise LookupError(f"{name} is in no layer; add it to LAYERS in {__file__}")
    return number, entry


def main() -> int:
    arrows = import_arrows(module_files())
    for group in circles(arrows):
        print("circle:", ", ".join(group))
    for source, target in upward_arrows(arrows):
        print(f"upward: {source} imports {target}")
    return bool(circles(arrows) or upward_arrows(arrows))


if __name__ == "__main__":
    sys.exit(main())
