"""BLIF, the Berkeley Logic Interchange Format: unrolled graphs out, combinational models in.

The inputs that are written are the variables of `lgir.ir.input_space.InputSpace`: the elements of a
bit input, and `x > t` for each element of a numeric input and each of its thresholds. Sums are not
logic, so the outputs are the bits that they count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from lgir.errors import FormatError
from lgir.formats.exporter import Export
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.input_space import InputSpace
from lgir.ir.truth_tables import MAX_FANIN, full_mask
from lgir.ir.types import FALSE, FIRST_TAP, TRUE
from lgir.ir.unrolling import unroll_graph
from lgir.registry import register_exporter

_IGNORED: Final = (".default_input_arrival", ".area", ".delay", ".input_drive", ".output_load")


def write_blif(graph: Graph, path: str | Path, *, guarded: bool = False) -> None:
    """Write `graph`, unrolled, as one combinational model.

    `guarded` ANDs each threshold of a number with the lower ones, which it implies on every sample.
    Tools that take inputs to be independent then see what samples can show, and no more.
    """
    export_blif(graph, guarded=guarded).write(path)


@register_exporter("blif")
def export_blif(graph: Graph, *, guarded: bool = False) -> Export:
    """BLIF for logic synthesis: the unrolled graph as one model; see `write_blif`."""
    return Export(dumps_blif(graph, guarded=guarded).encode("ascii"))


def dumps_blif(graph: Graph, *, guarded: bool = False) -> str:
    """Return the text that `write_blif` writes.

    Inputs are x0, x1, ..., gates g<net>, outputs y0, y1, ...
    """
    space = InputSpace([graph])
    body = unroll_graph(graph, space).body
    lines = [f".model {_word(graph.name)}"]
    lines += _listed(".inputs", [f"x{i}" for i in range(space.num_variables)])
    lines += _listed(".outputs", [f"y{i}" for i in range(len(body.outputs))])
    variables = [f"x{i}" for i in range(space.num_variables)]
    if guarded:
        element = space.elements()
        for i in (np.flatnonzero(element[1:] == element[:-1]) + 1).tolist():
            lines.append(f".names x{i} {variables[i - 1]} v{i}\n11 1")
            variables[i] = f"v{i}"
    names = ["zero", "one", *variables]
    names += [f"g{net}" for net in range(body.first_gate, body.num_nets)]
    used = np.zeros(body.num_nets, bool)
    used[body.fanin] = True
    used[body.outputs] = True
    if used[FALSE]:
        lines.append(".names zero")
    if used[TRUE]:
        lines.append(".names one\n1")
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
    for i, net in enumerate(body.outputs.tolist()):
        lines.append(f".names {names[net]} y{i}\n1 1")
    lines.append(".end\n")
    return "\n".join(lines)


def read_blif(path: str | Path) -> Graph:
    """Return the first model of a file as a graph of one bit input and one bit output.

    Elements stand in the order of `.inputs` and `.outputs`.

    Raises:
        FormatError: not BLIF, or more than gates of at most six inputs (latches, subcircuits).
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="ascii")
    except FileNotFoundError:
        raise FormatError(f"no such file: {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{file} cannot be read as BLIF: {error}") from None
    return parse_blif(text, str(file))


def parse_blif(text: str, where: str = "BLIF") -> Graph:
    """Return what `read_blif` returns, from text; `where` names it in errors."""
    model, inputs, outputs = "blif", [], []
    gates: dict[str, tuple[list[str], list[str]]] = {}
    rows: list[str] | None = None
    for number, line in _logical_lines(text):
        words = line.split()
        if not line.startswith("."):
            if rows is None:
                raise FormatError(f"{where}:{number}: {line!r} stands outside a .names")
            rows.append(line)
            continue
        rows = None
        match words[0]:
            case ".model":
                model = words[1] if len(words) > 1 else model
            case ".inputs":
                inputs += words[1:]
            case ".outputs":
                outputs += words[1:]
            case ".names":
                if len(words) < 2 or words[-1] in gates or words[-1] in inputs:
                    raise FormatError(f"{where}:{number}: {line!r} defines no new signal")
                if len(words) - 2 > MAX_FANIN:
                    raise FormatError(
                        f"{where}:{number}: {words[-1]} has {len(words) - 2} inputs; at most "
                        f"{MAX_FANIN} are supported (map to look-up tables first)"
                    )
                rows = []
                gates[words[-1]] = (words[1:-1], rows)
            case ".end":
                break
            case word if word in _IGNORED:
                pass
            case word:
                raise FormatError(f"{where}:{number}: {word} is not supported; .names only")
    if not inputs or not outputs:
        raise FormatError(f"{where}: a model needs .inputs and .outputs")
    return _build(where, model, inputs, outputs, gates)


def _build(
    where: str,
    model: str,
    inputs: list[str],
    outputs: list[str],
    gates: dict[str, tuple[list[str], list[str]]],
) -> Graph:
    nets = {name: FIRST_TAP + i for i, name in enumerate(inputs)}
    k = max([len(operands) for operands, _ in gates.values()], default=1) or 1
    fanin: list[list[int]] = []
    table: list[int] = []
    first_gate = FIRST_TAP + len(inputs)
    for name in _topological(where, gates, nets, outputs):
        operands, rows = gates[name]
        row = [nets[x] for x in operands]
        nets[name] = first_gate + len(fanin)
        fanin.append(row + [FALSE] * (k - len(row)))
        table.append(_table(where, name, rows, len(row), k))
    taps = np.stack([np.zeros(len(inputs), np.int32), np.arange(len(inputs))], axis=1)
    body = Body.build(
        taps,
        np.array(fanin, np.int32).reshape(-1, k),
        np.array(table, np.uint64),
        [nets[name] for name in outputs],
    )
    b = GraphBuilder(model, {"source": "blif"})
    x = b.input("x", "bit", (len(inputs),))
    return b.build(b.logic([x], body, name="y"))


def _topological(
    where: str,
    gates: dict[str, tuple[list[str], list[str]]],
    known: dict[str, int],
    outputs: list[str],
) -> list[str]:
    """Return the names of gates, operands first.

    The walk keeps its own stack, since chains may be longer than Python's.
    """
    is_placed: dict[str, bool] = dict.fromkeys(known, True)  # False while operands are walked
    order = []
    for root in [*gates, *outputs]:
        stack = [root]
        while stack:
            name = stack[-1]
            if is_placed.get(name):
                stack.pop()
                continue
            if name not in gates:
                raise FormatError(f"{where}: signal {name} is read and never defined")
            if name in is_placed:  # its operands have been walked
                is_placed[name] = True
                order.append(stack.pop())
                continue
            is_placed[name] = False
            for operand in gates[name][0]:
                if not is_placed.get(operand, True):
                    raise FormatError(f"{where}: signal {operand} depends on itself")
                if operand not in is_placed:
                    stack.append(operand)
    return order


def _table(where: str, name: str, rows: list[str], n: int, k: int) -> int:
    """Return the truth table over k inputs of a cover over the first n of them."""
    on, value = 0, "1"
    for row in rows:
        pattern, _, value = row.rpartition(" ") if n else ("", "", row)
        pattern = pattern.strip()
        if len(pattern) != n or set(pattern) - set("01-") or value not in ("0", "1"):
            raise FormatError(f"{where}: {name} has the row {row!r}, not {n} of 0, 1, - and a bit")
        care = [(j, c == "1") for j, c in enumerate(pattern) if c != "-"]
        for i in range(1 << n):
            if all((i >> (n - 1 - j) & 1) == c for j, c in care):
                on |= 1 << i
    if rows and value == "0":
        on ^= full_mask(n)
    spread = 1 << (k - n)  # each row of n inputs becomes that many of k
    return sum(((1 << spread) - 1) << (i * spread) for i in range(1 << n) if on >> i & 1)


def _cover(table: int, n: int, k: int) -> str:
    """Return the rows of a cover: the smaller of the on-set and the off-set."""
    shift = k - n
    bits = [table >> (i << shift) & 1 for i in range(1 << n)]
    if n == 0:
        return "\n1" if bits[0] else ""
    value = int(sum(bits) <= len(bits) // 2)
    return "".join(f"\n{i:0{n}b} {value}" for i, bit in enumerate(bits) if bit == value)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield numbered lines without comments, joined if they end in a backslash."""
    held, start = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.partition("#")[0].rstrip()
        start = start or number
        if line.endswith("\\"):
            held += line[:-1] + " "
            continue
        line = (held + line).strip()
        if line:
            yield start, line
        held, start = "", 0


def _listed(keyword: str, names: list[str]) -> list[str]:
    """Return a directive over many lines, ten names per line."""
    lines = [" ".join(names[i : i + 10]) for i in range(0, len(names), 10)]
    return [" \\\n ".join([keyword, *lines])]


def _word(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name) or "lgir"
