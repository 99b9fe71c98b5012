"""Registries: names, what is imported when, and what a `restored` block forgets."""

from __future__ import annotations

import pytest

from lgir.errors import LgirError, UnknownNameError
from lgir.registry import PASSES, Registry


def first() -> None: ...


def second() -> None: ...


def test_restored_forgets_what_was_registered_inside() -> None:
    registry: Registry[object] = Registry("thing", "lgir.passes", "no.such.group")
    registry.register("kept")(first)
    with registry.restored():
        registry.register("added")(second)
        assert registry.names() == ["added", "kept"]
    assert registry.names() == ["kept"]
    registry.register("added")(first)  # the name is free again


def test_restored_undoes_a_removal_and_an_error_inside() -> None:
    registry: Registry[object] = Registry("thing", "lgir.passes", "no.such.group")
    registry.register("kept")(first)
    with registry.restored():
        with pytest.raises(LgirError, match="'kept' is registered already"):
            registry.register("kept")(second)
        registry._items.clear()
        registry.register("kept")(second)
    assert registry.get("kept") is first


def test_restored_keeps_built_in_items_that_were_imported_inside() -> None:
    fold = PASSES.get("fold")
    with PASSES.restored():
        PASSES._items["late"] = fold  # as if its module had been imported here
    assert PASSES._items.pop("late") is fold


def test_an_unknown_name_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="unknown pass 'fodl'; did you mean 'fold'"):
        PASSES.get("fodl")
