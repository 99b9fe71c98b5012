"""Registries of passes, backends, exporters and frontends, by which the core reaches them by name.

The packages `lgir.passes`, `lgir.backends` and `lgir.frontend` fill their registries when these are
first used; installed distributions add to them through entry points of the same names. A backend,
an exporter or an entry point is imported when it is asked for by name, since most programs need one
of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from lgir.errors import LgirError, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """Named items of one kind, which are imported when they are first asked for.

    Args:
        kind: what an item is called in errors, for example "pass".
        package: the package that registers the built-in items.
        group: the group of entry points that name further items; by default that is `package`.
    """

    def __init__(self, kind: str, package: str, group: str | None = None) -> None:
        self.kind = kind
        self.package = package
        self.group = group or package
        self._items: dict[str, T] = {}
        self._homes: dict[str, str] = {}

    def expect(self, module: str, *names: str) -> None:
        """State that importing `module` registers these names.

        Raises LgirError if another module has registered one of them.
        """
        self._homes |= dict.fromkeys(names, module)
        for name in set(names) & set(self._items):
            self._claim(name, self._items[name])

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that adds an item under `name`, a kebab-case word.

        Raises LgirError if the name is not of letters, digits and hyphens, or if it is taken by
        another definition.
        """
        if not name or not all(c.isalnum() or c == "-" for c in name):
            raise LgirError(f"{self.kind} name {name!r} must be of letters, digits and hyphens")

        def add(item: T) -> T:
            known = self._items.get(name)
            if known is not None and not _same_definition(known, item):
                raise self._taken(name)
            self._claim(name, item)
            self._items[name] = item
            return item

        return add

    def get(self, name: str) -> T:
        """Return the item called `name`, which is imported if it is not yet.

        Raises UnknownNameError, which suggests a near name, if there is none, and LgirError if an
        entry point cannot be loaded.
        """
        self._load()
        if not isinstance(name, str):  # what cannot be hashed cannot be looked up
            raise unknown_name(self.kind, name, self.names())
        if name not in self._items:
            if name in self._homes:
                importlib.import_module(self._homes[name])
            elif name in self._points:
                self._items.setdefault(name, self._load_point(self._points[name]))
        try:
            return self._items[name]
        except KeyError:
            raise unknown_name(self.kind, name, self.names()) from None

    def names(self) -> list[str]:
        """Return all names in order; this imports no item."""
        self._load()
        return sorted({*self._items, *self._homes, *self._points})

    def added(self) -> dict[str, T]:
        """Return what was registered so far by modules that `expect` does not name."""
        self._load()
        return {name: item for name, item in self._items.items() if name not in self._homes}

    def items(self) -> Iterator[tuple[str, T]]:
        """Yield all names in order with their items, which imports every one."""
        for name in self.names():
            yield name, self.get(name)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Forget, on exit, what was registered inside the `with` block.

        Built-in items stay even if they were imported inside it, since a module registers its items
        only when it is first imported.
        """
        before = dict(self._items)
        try:
            yield
        finally:
            built_in = {name: x for name, x in self._items.items() if self._is_built_in(name, x)}
            self._items.clear()
            self._items.update(built_in | before)

    def _is_built_in(self, name: str, item: T) -> bool:
        module = getattr(item, "__module__", None) or ""
        return name in self._homes or module.startswith(f"{self.package}.")

    def _claim(self, name: str, item: T) -> None:
        """Raise LgirError if another module is expected to register `name`."""
        module = getattr(item, "__module__", None)
        if self._homes.get(name, module) != module:
            raise self._taken(name)

    def _taken(self, name: str) -> LgirError:
        return LgirError(f"{self.kind} {name!r} is registered already; choose another name")

    def _load(self) -> None:
        # Imports wait for one another between threads, and not within one that is in the middle.
        importlib.import_module(self.package)

    @cached_property
    def _points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _load_point(self, point: EntryPoint) -> T:
        what = f"entry point {point.name!r} of {self.group} ({point.value})"
        try:
            item: T = point.load()
        except Exception as error:
            raise LgirError(f"{what} cannot be loaded: {error}") from error
        if not callable(item):
            raise LgirError(f"{what} is no function or class: write it as MODULE:NAME")
        return item


def _same_definition(a: Any, b: Any) -> bool:
    """Return whether `a` and `b` come from one definition, in a module that was executed twice.

    A reload does that, and so does `--load` of the same file.
    """
    return getattr(a, "__qualname__", a) == getattr(b, "__qualname__", b) and getattr(
        a, "__module__", 0
    ) == getattr(b, "__module__", 1)


PASSES: Registry[Callable[..., Any]] = Registry("pass", "lgir.passes")
BACKENDS: Registry[Callable[..., Any]] = Registry("backend", "lgir.backends")
EXPORTERS: Registry[Callable[..., Any]] = Registry("format", "lgir.backends", "lgir.export")
FRONTENDS: Registry[Callable[..., Any]] = Registry("frontend", "lgir.frontend")

EXPORTERS.expect("lgir.formats.blif", "blif")
EXPORTERS.expect("lgir.formats.aiger", "aig")
EXPORTERS.expect("lgir.formats.standard_onnx", "onnx")
EXPORTERS.expect("lgir.formats.verilog", "v")

REGISTRIES = (PASSES, BACKENDS, EXPORTERS, FRONTENDS)

register_pass = PASSES.register
register_backend = BACKENDS.register
register_exporter = EXPORTERS.register
register_frontend = FRONTENDS.register
