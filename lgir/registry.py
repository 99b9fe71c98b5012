"""Registries of passes, backends, exporters, frontends: how the core reaches what it does not know.

The packages `lgir.passes`, `lgir.backends` and `lgir.frontend` fill these when first looked into;
installed distributions add to them through entry points of the same names. A backend, an exporter
or an entry point is imported when it is asked for by name, since a program mostly needs one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from lgir.errors import LgirError, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind, loaded from `package` and from entry points of group `group` (the
    package's name where None) when first asked for.
    """

    def __init__(self, kind: str, package: str, group: str | None = None) -> None:
        self.kind = kind
        self.package = package
        self.group = group or package
        self._items: dict[str, T] = {}
        self._homes: dict[str, str] = {}

    def expect(self, module: str, *names: str) -> None:
        """Tells that `module`, once it is imported, registers these names."""
        self._homes |= dict.fromkeys(names, module)
        for name in set(names) & set(self._items):
            self._claim(name, self._items[name])

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: add a thing under `name`, a kebab-case word not taken yet."""
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
        """The thing called `name`; UnknownNameError with a suggestion where there is none."""
        self._load()
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
        self._load()
        return sorted({*self._items, *self._homes, *self._points})

    def added(self) -> dict[str, T]:
        """What was registered so far, by other modules than those that `expect` tells of."""
        self._load()
        return {name: item for name, item in self._items.items() if name not in self._homes}

    def items(self) -> Iterator[tuple[str, T]]:
        for name in self.names():
            yield name, self.get(name)

    def _claim(self, name: str, item: T) -> None:
        """Refuses a name that another module will register."""
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
    """True where a module was executed again (a reload, `--load` of the same file)."""
    return getattr(a, "__qualname__", a) == getattr(b, "__qualname__", b) and getattr(
        a, "__module__", 0
    ) == getattr(b, "__module__", 1)


PASSES: Registry[Callable[..., Any]] = Registry("pass", "lgir.passes")
BACKENDS: Registry[Callable[..., Any]] = Registry("backend", "lgir.backends")
EXPORTERS: Registry[Callable[..., Any]] = Registry("format", "lgir.backends", "lgir.export")
FRONTENDS: Registry[Callable[..., Any]] = Registry("frontend", "lgir.frontend")

EXPORTERS.expect("lgir.formats.blif", "blif")
EXPORTERS.expect("lgir.formats.aiger", "aig")
EXPORTERS.expect("lgir.formats.verilog", "v")

REGISTRIES = (PASSES, BACKENDS, EXPORTERS, FRONTENDS)

register_pass = PASSES.register
register_backend = BACKENDS.register
register_exporter = EXPORTERS.register
register_frontend = FRONTENDS.register
