"""The text form of a graph."""

from __future__ import annotations

from lgir.graph import Graph


def dumps(graph: Graph, *, full: bool = False) -> str:
    raise NotImplementedError


def parse(text: str) -> Graph:
    raise NotImplementedError
