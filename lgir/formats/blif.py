"""BLIF, the Berkeley Logic Interchange Format: unrolled graphs out, and the reader's names.

The inputs that are written are the variables of `lgir.ir.input_space.InputSpace`: the elements of a
bit input, and `x > t` for each element of a numeric input and each of its thresholds. Sums are not
logic, so the outputs are the bits that they count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lgir.formats.blif_reader import parse_blif, read_blif
from lgir.formats.element_names import output_names, unique_names, variable_names
from lgir.formats.exporter import Export
from lgir.ir.graph import Graph
from lgir.ir.input_space import InputSpace
from lgir.ir.truth_tables import full_mask
from lgir.ir.types import FALSE, FIRST_TAP, TRUE
from lgir.ir.unrolling import UnrolledGraph, unroll_graph
from lgir.registry import register_exporter

__all__ = ["dumps_blif", "export_blif", "parse_blif", "read_blif", "write_blif"]


def write_blif(graph: Graph, path: str | Path, *, guarded: bool = False) -> None:
    """Write `graph`, unrolled, as one combinational model.

    `guarded` ANDs each threshold of a number with the lower ones, which it implies on every sample.
    Tools that take inputs to be independent then see what samples can show, and no more.
    """
    export_blif(graph, guarded=guarded).write(path)


@register_exporter("blif")
def export_blif(graph: Graph, *, guarded: bool = False) -> Export:
    """BLIF for logic synthesis: the unrolled graph as one model; see `write_blif`."""
    return Export(dumps_blif(graph, guarded=guarded).encode())


def dumps_blif(graph: Graph, *, guarded: bool = False) -> str:
    """Return the text that `write_blif` writes.

    Inputs and outputs have the names that the graph keeps (see `lgir.formats.element_names`);
    others are x0, x1, ... and y0, y1, ... Gates are g<net>.
    """
    space = InputSpace([graph])
    unrolled = unroll_graph(graph, space)
    body = unrolled.body
    inputs = unique_names(list(map(_word, variable_names(graph, space))), "x")
    outputs = _output_names(graph, unrolled, inputs)
    mark = _mark([*inputs, *outputs])
    lines = [f".model {_word(graph.name) or 'lgir'}"]
    lines += _listed(".inputs", inputs)
    lines += _listed(".outputs", outputs)
    variables = list(inputs)
    if guarded:
        element = space.elements()
        for i in (np.flatnonzero(element[1:] == element[:-1]) + 1).tolist():
            variables[i] = f"v{i}{mark}"
            lines.append(f".names {inputs[i]} {variables[i - 1]} {variables[i]}\n11 1")
    names = [f"zero{mark}", f"one{mark}", *variables]
    names += [f"g{net}{mark}" for net in range(body.first_gate, body.num_nets)]
    used = np.zeros(body.num_nets, bool)
    used[body.fanin] = True
    used[body.outputs] = True
    if used[FALSE]:
        lines.append(f".names {names[FALSE]}")
    if used[TRUE]:
        lines.append(f".names {names[TRUE]}\n1")
    constant = (body.table == 0) | (body.table == full_mask(body.k))
    arity = np.where(constant, 0, body.arity())
    covers: dict[tuple[int, int], str] = {}
    for operands, table, n, name in zip(
        body.fanin.tolist(),
        body.table.tolist(),
        arity.tolist(),
        names[body.first_gate :],
        strict=True,
    ):
        cover = covers.get((table, n))
        if cover is None:
            cover = covers[table, n] = _cover(table, n, body.k)
        lines.append(f".names {' '.join([names[x] for x in operands[:n]] + [name])}{cover}")
    for name, net in zip(outputs, body.outputs.tolist(), strict=True):
        if name != names[net]:  # an input that is an output of the same name needs no gate
            lines.append(f".names {names[net]} {name}\n1 1")
    lines.append(".end\n")
    return "\n".join(lines)


def _output_names(graph: Graph, unrolled: UnrolledGraph, inputs: Sequence[str]) -> list[str]:
    """Return distinct names of the outputs, of which an input's means that very input."""
    net_of_input = {name: FIRST_TAP + i for i, name in enumerate(inputs)}
    names = list(map(_word, output_names(graph, unrolled)))
    seen: set[str] = set()
    for i, (name, net) in enumerate(zip(names, unrolled.body.outputs.tolist(), strict=True)):
        if name is None or name in seen or net_of_input.get(name, net) != net:
            names[i] = None
        else:
            seen.add(name)
    return unique_names(names, "y", net_of_input.keys() - seen)


def _mark(names: Sequence[str]) -> str:
    """Return underscores that set the names of gates apart from all of `names`."""
    alike = (re.fullmatch(r"(?:zero|one|[gv][0-9]+)(_*)", name) for name in names)
    return "_" * max((1 + len(match[1]) for match in alike if match), default=0)


def _cover(table: int, n: int, k: int) -> str:
    """Return the rows of a cover: the smaller of the on-set and the off-set."""
    shift = k - n
    bits = [table >> (i << shift) & 1 for i in range(1 << n)]
    if n == 0:
        return "\n1" if bits[0] else ""
    value = int(sum(bits) <= len(bits) // 2)
    return "".join(f"\n{i:0{n}b} {value}" for i, bit in enumerate(bits) if bit == value)


def _listed(keyword: str, names: list[str]) -> list[str]:
    """Return a directive over many lines, ten names per line."""
    lines = [" ".join(names[i : i + 10]) for i in range(0, len(names), 10)]
    return [" \\\n ".join([keyword, *lines])]


def _word(name: str | None) -> str | None:
    """Return a name as one word that no reader takes for anything else."""
    if name is None:
        return None
    plain = "".join(c if c.isprintable() else "_" for c in name)
    word = re.sub(r'[\s#"\\]', "_", plain)
    return f"_{word}" if word.startswith(".") else word
