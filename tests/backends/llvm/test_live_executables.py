"""Executables of a process by identity: found while they live, built otherwise, a few kept."""

from __future__ import annotations

import gc

from lgir.backends.llvm.live_executables import LiveExecutables


class Thing:
    """Stands in for an executable."""


def test_a_live_executable_is_not_built_again() -> None:
    live: LiveExecutables[Thing] = LiveExecutables()
    thing = Thing()
    live.add("a", thing)
    assert live.restore("a", Thing) is thing


def test_the_last_restored_ones_are_kept_alive() -> None:
    live: LiveExecutables[Thing] = LiveExecutables(kept=2)
    built: list[str] = []

    def restore(identity: str) -> None:
        def build() -> Thing:
            built.append(identity)
            thing = Thing()
            live.add(identity, thing)
            return thing

        live.restore(identity, build)
        gc.collect()

    for identity in ("a", "b", "a", "c", "b", "a"):
        restore(identity)
    assert built == ["a", "b", "c", "a"]
