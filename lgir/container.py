"""The binary form of a graph: an ONNX ModelProto."""

from __future__ import annotations

from os import PathLike

from lgir.graph import Graph


def save(graph: Graph, path: str | PathLike[str]) -> None:
    raise NotImplementedError


def load(path: str | PathLike[str]) -> Graph:
    raise NotImplementedError
