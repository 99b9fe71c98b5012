"""Registries of passes, backends, exporters, frontends: how the core reaches what it does not know.

The packages `lgir.passes`, `lgir.backends` and `lgir.frontend` fill these when first looked into;
installed distributions add to them through entry points of the same names.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from lgir.errors import LgirError, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind, loaded from `package` and from entry points of group `group` (the
    package's name where None) on first use.
    """

    def __init__(self, kind: str, package: str, group: str | None = None) -> None:
        self.kind = kind
        self.package = package
        self.group = group or package
        self._items: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: add a thing under `name`, a kebab-case word not taken yet."""
        if not name or not all(c.isalnum() or c == "-" for c in name):
            raise LgirError(f"{self.kind} name {name!r} must be of letters, digits and hyphens")

        def add(item: T) -> T:
            known = self._items.get(name)
            if known is not None and not _same_definition(known, item):
                raise LgirError(f"{self.kind} {name!r} is registered already; choose another name")
            self._items[name] = item
            return item

        return add

    def get(self, name: str) -> T:
        """The thing called `name`; UnknownNameError with a suggestion where there is none."""
        self._load()
        try:
            return self._items[name]
        except KeyError:
            raise unknown_name(self.kind, name, self._items) from None

    def names(self) -> list[str]:
        self._load()
        return sorted(self._items)

    def items(self) -> Iterator[tuple[str, T]]:
        for name in self.names():
            yield name, self._items[name]

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True  # at once, since what is imported may ask this registry
        try:
            importlib.import_module(self.package)
            self._load_entry_points()
        except BaseException:
            self._loaded = False
            raise

    def _load_entry_points(self) -> None:
        for point in entry_points(group=self.group):
            try:
                item = point.load()
            except Exception as error:
                raise LgirError(
                    f"entry point {point.name!r} of {self.group} ({point.value}) "
                    f"cannot be loaded: {error}"
                ) from error
            self._items.setdefault(point.name, item)


def _same_definition(a: Any, b: Any) -> bool:
    """True where a module was executed again (a reload, `--load` of the same file)."""
    return getattr(a, "__qualname__", a) == getattr(b, "__qualname__", b) and getattr(
        a, "__module__", 0
    ) == getattr(b, "__module__", 1)


PASSES: Registry[Callable[..., Any]] = Registry("pass", "lgir.passes")
BACKENDS: Registry[Callable[..., Any]] = Registry("backend", "lgir.backends")
EXPORTERS: Registry[Callable[..., Any]] = Registry("format", "lgir.backends", "lgir.export")
FRONTENDS: Registry[Callable[..., Any]] = Registry("frontend", "lgir.frontend")

register_pass = PASSES.register
register_backend = BACKENDS.register
register_exporter = EXPORTERS.register
register_frontend = FRONTENDS.register
