"""The names of single bits, which a graph keeps as metadata between a netlist and the next one.

A netlist names each of its inputs and outputs; a graph has one value for all inputs and one for all
outputs. The metadata `names.<value>` holds the names of the value's elements in row-major order,
one per line. A writer gives them back, so that tools which match signals by name still can.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lgir.ir.graph import Graph
from lgir.ir.input_space import InputSpace
from lgir.ir.types import FIRST_TAP
from lgir.ir.unrolling import UnrolledGraph

_PREFIX = "names."


def names_metadata(value: str, names: Iterable[str]) -> dict[str, str]:
    """Return the metadata that keeps the names of a value's elements. No name has a line break."""
    return {_PREFIX + value: "\n".join(names)}


def variable_names(graph: Graph, space: InputSpace) -> list[str | None]:
    """Return the name of each variable of `space`, or None if it has none."""
    names: list[str | None] = [None] * space.num_variables
    for value in graph.inputs:
        if value.dtype == "bit" and (known := _element_names(graph, value.name, value.size)):
            first = int(space.bit_nets(value).ravel()[0]) - FIRST_TAP
            names[first : first + value.size] = known
    return names


def output_names(graph: Graph, unrolled: UnrolledGraph) -> list[str | None]:
    """Return the name of each output bit of an unrolled graph, or None if it has none."""
    names: list[str | None] = []
    for output in unrolled.outputs:
        size = len(output.nets)
        known = _element_names(graph, output.name, size) if output.op is None else None
        names += known or [None] * size
    return names


def _element_names(graph: Graph, value: str, size: int) -> list[str] | None:
    """Return the names of a value's elements, or None if the metadata has not one for each."""
    names = graph.metadata.get(_PREFIX + value, "").split("\n")
    return names if len(names) == size and all(names) else None


def unique_names(
    preferred: Sequence[str | None], letter: str, used: Iterable[str] = ()
) -> list[str]:
    """Return distinct names that are not in `used`, and are the preferred ones if these allow it.

    The others are `letter` and the place, such as x0, with underscores after it if need be.
    """
    used = set(used)
    reserved = used | {name for name in preferred if name is not None}
    names: list[str] = []
    for i, name in enumerate(preferred):
        if name is None or name in used:
            name = f"{letter}{i}"
            while name in reserved:
                name += "_"
            reserved.add(name)
        used.add(name)
        names.append(name)
    return names
