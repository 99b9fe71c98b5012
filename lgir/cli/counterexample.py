"""Counterexamples for people: what differs, and the part of the sample that makes it differ."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from lgir.cli.files import write_arrays
from lgir.cli.output import status
from lgir.equivalence.simplification import simplify_counterexample
from lgir.equivalence.verdict import Array, Counterexample, spell_number
from lgir.ir.graph import Graph

_SHOWN_ELEMENTS: Final = 16
_SMALL: Final = 64
"""Elements of a sample that is shown whole."""


def simplified(a: Graph, b: Graph, example: Counterexample) -> Counterexample:
    """Return a counterexample with fewer nonzero elements, found within seconds."""
    with status("looking for a simpler counterexample"):
        return simplify_counterexample(a, b, example)


def write_counterexample(
    graph: Graph, example: Counterexample, output: str | None, *, needed: bool
) -> str | None:
    """Write the sample to `output`, or to a new file if that is None and the file is `needed`.

    Return the path of the file, None if none was written.
    """
    if output is None:
        if not needed:
            return None
        ending = ".npy" if len(example.inputs) == 1 else ".npz"
        with tempfile.NamedTemporaryFile(
            prefix="lgir-counterexample-", suffix=ending, delete=False
        ) as file:
            output = file.name
    names = [value.name for value in graph.inputs]
    write_arrays(names, [x[None] for x in example.inputs], output)
    return output


def is_long(example: Counterexample) -> bool:
    """Return whether `counterexample_text` leaves out elements that are not zero."""
    return any(x.size > _SMALL and np.count_nonzero(x) > _SHOWN_ELEMENTS for x in example.inputs)


def counterexample_text(graph: Graph, example: Counterexample, names: Sequence[str]) -> str:
    """Return lines that say what differs between two graphs of some names, and on which sample."""
    index = ",".join(map(str, example.index))
    element = f"%{example.output}[{index}]" if example.index else f"%{example.output}"
    left, right = (spell_number(x) for x in (example.left, example.right))
    lines = [f"different: {element} is {left} in {names[0]} and {right} in {names[1]}, if"]
    for value, x in zip(graph.inputs, example.inputs, strict=True):
        lines += [f"  {line}" for line in _input_lines(f"%{value.name}", x)]
    return "\n".join(lines)


def _input_lines(name: str, x: Array) -> Iterator[str]:
    nonzero = np.argwhere(x)
    if not len(nonzero):
        yield f"{name} is all zeros"
    elif len(nonzero) == x.size and (x == x.flat[0]).all():
        yield f"every element of {name} is {spell_number(x.flat[0])}"
    elif len(nonzero) <= _SHOWN_ELEMENTS or x.size > _SMALL:
        yield f"{name} is zero except for"
        for index in nonzero[:_SHOWN_ELEMENTS]:
            position = ",".join(map(str, index))
            yield f"  {name}[{position}] = {spell_number(x[tuple(index)])}"
        left_out = len(nonzero) - _SHOWN_ELEMENTS
        if left_out > 0:
            yield f"  and {left_out:,} more of {x.size:,} elements"
    else:
        shown = x.astype(np.uint8) if x.dtype == bool else x
        yield f"{name} is"
        yield from (f"  {line}" for line in str(shown).splitlines())
