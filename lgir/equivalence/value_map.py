"""What is known to be equal among the values of two graphs: a literal for every element.

An element is one channel of one value at one position. Its literal names the element that it is
proved to equal, or to be the complement of: one of its own graph or of the other. Thresholds and
bit inputs are the variables of an `InputSpace`, so both graphs share them from the start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lgir.equivalence.arrays import ElementLiterals, Index, Mask
from lgir.equivalence.implications import Implications
from lgir.ir.graph import Graph
from lgir.ir.input_space import InputSpace
from lgir.ir.nodes import Logic, Node, Reshape, Threshold
from lgir.ir.types import FIRST_TAP, Shape


@dataclass(eq=False)
class LogicValue:
    """The value that a Logic node computes.

    Attributes:
        index: its number in `ValueMap.logic_values`.
        graph: the number of its graph.
        name: its name there.
        node: the node that computes it.
        op: that node's operator.
        first: its first element; element (channel, position) is first + channel * positions +
            position.
        literals: what its elements equal, (C, positions).
        shared: which of its channels an element of the other graph was proved to equal, (C,).
    """

    index: int
    graph: int
    name: str
    node: Node
    op: Logic
    first: int
    literals: ElementLiterals
    shared: Mask

    @property
    def elements(self) -> Index:
        """Return its elements, (C, positions)."""
        size = self.literals.size
        return np.arange(self.first, self.first + size).reshape(self.literals.shape)

    def channels_of(self, elements: Index) -> Index:
        """Return the channels of some of its elements."""
        return (elements - self.first) // self.op.positions


class ValueMap:
    """The values of some graphs with the same inputs, and what their elements equal.

    Element 0 is False. The variables of `space` follow, then the elements of every Logic node's
    output in topological order, graph after graph.

    Attributes:
        graphs: the graphs.
        space: the variables of their inputs.
        logic_values: the outputs of their Logic nodes, in the order of their elements.
        num_inputs: number of elements that are False or a variable.
        num_elements: number of all elements.
    """

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self.graphs = graphs
        self.space = InputSpace(graphs)
        self.num_inputs = 1 + self.space.num_variables
        self.logic_values: list[LogicValue] = []
        self._by_name: dict[tuple[int, str], LogicValue] = {}
        first = self.num_inputs
        for i, graph in enumerate(graphs):
            for node, op in graph.of_type(Logic):
                shape = (len(op.body.outputs), op.positions)
                literals = 2 * np.arange(first, first + math.prod(shape)).reshape(shape)
                shared = np.zeros(shape[0], bool)
                index = len(self.logic_values)
                value = LogicValue(index, i, node.output, node, op, first, literals, shared)
                self.logic_values.append(value)
                self._by_name[i, node.output] = value
                first += literals.size
        self.num_elements = first
        self._firsts = np.array([v.first for v in self.logic_values], np.int64)
        self._producers = [{node.output: node for node in graph.nodes} for graph in graphs]

    def logic_value(self, graph: int, name: str) -> LogicValue | None:
        """Return the Logic node's output of that name, or None if no Logic node computes it."""
        return self._by_name.get((graph, name))

    def shape(self, graph: int, name: str) -> Shape:
        """Return the shape of a value."""
        return self.graphs[graph].values[name].shape

    def producer(self, graph: int, name: str) -> Node | None:
        """Return the node that computes a value, or None for an input."""
        return self._producers[graph].get(name)

    def literals(self, graph: int, name: str) -> ElementLiterals:
        """Return what the elements of a value of bits equal, (C, positions)."""
        logic_value = self.logic_value(graph, name)
        if logic_value is not None:
            return logic_value.literals
        value = self.graphs[graph].values[name]
        shape = (value.shape[0], math.prod(value.shape[1:]))
        node = self.producer(graph, name)
        if node is None:
            return _literals_of_nets(self.space.bit_nets(value)).reshape(shape)
        if isinstance(node.op, Threshold):
            source = self.graphs[graph].values[node.inputs[0]]
            nets = self.space.threshold_nets(source, node.op)
            return _literals_of_nets(nets).reshape(shape)
        assert isinstance(node.op, Reshape)
        return self.literals(graph, node.inputs[0]).reshape(shape)

    def owners(self, elements: Index) -> Index:
        """Return the numbers in `logic_values` of the values that own some elements.

        The owner of False and of variables is -1.
        """
        return np.searchsorted(self._firsts, elements, side="right") - 1

    def assignments(self, elements: Index, values: Mask) -> Mask:
        """Return assignments (n, variables) of all variables, from values (n, elements) of some.

        Other variables are False.
        """
        assignment = np.zeros((len(values), self.space.num_variables), bool)
        assignment[:, elements - 1] = values
        return assignment

    def implications(self, elements: Index) -> Implications:
        """Return which of some elements, taken as taps, imply each other."""
        group = np.concatenate([[-1], self.space.elements()])
        is_input = elements < self.num_inputs
        group_size = len(group) + sum(value.size for value in self.space.inputs) + elements
        group_size[is_input] = group[elements[is_input]]
        return Implications.build(group_size, elements)


def _literals_of_nets(nets: npt.NDArray[np.int32]) -> ElementLiterals:
    """Return the literals of nets of an unrolled netlist, in which variable i is FIRST_TAP + i."""
    return np.where(nets < FIRST_TAP, nets, 2 * (nets.astype(np.int64) - FIRST_TAP + 1))
