"""What is known to be equal among the values of two graphs: a literal for every element.

An element is one channel of one value at one position. Its literal names the element that it is
proved to equal, or to be the complement of: one of its own graph or of the other. Thresholds and
bit inputs are the variables of an `InputSpace`, so both graphs share them from the start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.ir.graph import Graph
from lgir.ir.input_space import InputSpace
from lgir.ir.nodes import Logic, Node, Reshape, Threshold
from lgir.ir.types import FIRST_TAP, Shape

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

FALSE_CODE: Final = 0
TRUE_CODE: Final = 1


@dataclass(eq=False)
class Made:
    """The value that a Logic node makes.

    Attributes:
        graph, name: where it stands.
        node, op: what makes it.
        first: its first own element; element (channel, position) is first + channel * positions +
            position.
        codes: (C, positions) what its elements equal, 2 * element + complement.
        shared: (C,) its channels that an element of the other graph was proved to equal.
    """

    graph: int
    name: str
    node: Node
    op: Logic
    first: int
    codes: Codes
    shared: Mask

    @property
    def own(self) -> Codes:
        """(C, positions) its own elements."""
        size = self.codes.size
        return 2 * np.arange(self.first, self.first + size).reshape(self.codes.shape)


class Atlas:
    """The values of some graphs with the same inputs, and what their elements equal.

    Elements: 0 is False, then the variables of `space`, then those of every Logic node's output in
    topological order, graph after graph. `made` lists these outputs.
    """

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self.graphs = graphs
        self.space = InputSpace(graphs)
        self.made: list[Made] = []
        self._by_name: dict[tuple[int, str], Made] = {}
        first = self.first_made = 1 + self.space.num_variables
        for i, graph in enumerate(graphs):
            for node, op in graph.of_type(Logic):
                shape = (len(op.body.outputs), op.positions)
                codes = 2 * np.arange(first, first + math.prod(shape)).reshape(shape)
                made = Made(i, node.output, node, op, first, codes, np.zeros(shape[0], bool))
                self.made.append(made)
                self._by_name[i, node.output] = made
                first += codes.size
        self.num_elements = first
        self._firsts = np.array([m.first for m in self.made], np.int64)
        self._producers = [{node.output: node for node in graph.nodes} for graph in graphs]

    def maker(self, graph: int, name: str) -> Made | None:
        """The Logic node's output of that name, None where another node makes the value."""
        return self._by_name.get((graph, name))

    def shape(self, graph: int, name: str) -> Shape:
        return self.graphs[graph].values[name].shape

    def producer(self, graph: int, name: str) -> Node | None:
        return self._producers[graph].get(name)

    def codes(self, graph: int, name: str) -> Codes:
        """(C, positions) what the elements of a value of bits equal."""
        made = self.maker(graph, name)
        if made is not None:
            return made.codes
        value = self.graphs[graph].values[name]
        shape = (value.shape[0], math.prod(value.shape[1:]))
        node = self.producer(graph, name)
        if node is None:
            return _of_nets(self.space.bit_nets(value)).reshape(shape)
        if isinstance(node.op, Threshold):
            source = self.graphs[graph].values[node.inputs[0]]
            return _of_nets(self.space.threshold_nets(source, node.op)).reshape(shape)
        assert isinstance(node.op, Reshape)
        return self.codes(graph, node.inputs[0]).reshape(shape)

    def owners(self, elements: Codes) -> Codes:
        """Numbers in `made` of the values that own these elements, -1 for False and variables."""
        return np.searchsorted(self._firsts, elements, side="right") - 1

    def assignments(self, elements: Codes, values: Mask) -> Mask:
        """(n, variables) assignments of all variables from those (n, elements) of some."""
        found = np.zeros((len(values), self.space.num_variables), bool)
        found[:, elements - 1] = values
        return found

    def chains(self, elements: Codes) -> tuple[Codes, Codes]:
        """Group and rank of elements: of one group, one of higher rank implies the lower."""
        group = np.concatenate([[-1], self.space.elements()])
        inner = elements < self.first_made
        own = len(group) + sum(value.size for value in self.space.inputs) + elements
        own[inner] = group[elements[inner]]
        return own, elements


def _of_nets(nets: npt.NDArray[np.int32]) -> Codes:
    """Codes of nets of an unrolled netlist: variable i is net FIRST_TAP + i."""
    return np.where(nets < FIRST_TAP, nets, 2 * (nets.astype(np.int64) - FIRST_TAP + 1))
