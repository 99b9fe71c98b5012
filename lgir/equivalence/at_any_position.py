"""Netlists of one position of a convolution that stands for all.

Variables are reads at an offset, True or False alike, which covers reads outside the image too. So
what is equal in such a netlist is equal at every position.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from lgir.equivalence.arrays import Index
from lgir.equivalence.implications import Implications
from lgir.equivalence.netlist import InvertingBuilder, Netlist, widest_fanin
from lgir.equivalence.value_map import LogicValue, ValueMap
from lgir.ir.types import FIRST_TAP, Shape


def netlist_at_any_position(values: ValueMap, roots: list[LogicValue]) -> Netlist:
    """Return the netlist of all channels of some values over one iteration space, at any position.

    It stops at the inputs and at what both graphs are proved to share. Its taps stand for no
    elements of `values`.
    """
    return _AnyPosition(values, roots).netlist()


class _Address(NamedTuple):
    """The cell `position * scale + offset` of a value, for a position of the roots."""

    scale: Shape
    offset: Shape


class _Inner(NamedTuple):
    """A channel of a logic value that is not cut off."""

    value: int
    channel: int


@dataclass(frozen=True)
class _Read:
    """One channel of one value at an address.

    Attributes:
        row: the same key for channels whose elements are equal.
        address: which cell of the channel is read.
        inner: the channel, if the netlist continues into it; None if the read is a variable.
        edge: whether the read may fall outside while the cells inside are not simply those of the
            row, so that it is a variable of its own.
    """

    row: Hashable
    address: _Address
    inner: _Inner | None = None
    edge: bool = False


@dataclass(frozen=True)
class _Operand:
    """What a tap reads: a read or, if that is None, False; or the complement of either."""

    read: _Read | None
    complemented: bool


@dataclass(frozen=True)
class _Row:
    """What is known of a channel: its key (None for a constant), its phase, and what is inside."""

    key: Hashable
    complemented: bool
    inner: _Inner | None


@dataclass(frozen=True)
class _Reach:
    """Where reads at an address fall, over all positions of the roots."""

    address: _Address
    always_inside: bool
    never_inside: bool


class _AnyPosition:
    """Collects the reads from the roots down, and then builds the netlist upwards."""

    def __init__(self, values: ValueMap, roots: list[LogicValue]) -> None:
        self._values = values
        self._roots = roots
        self._extent = roots[0].op.space
        self._compared = {root.index for root in roots}
        self._rows: dict[tuple[int, str], list[_Row]] = {}
        self._row_elements: dict[Hashable, Index] = {}  # of inputs and thresholds
        self._variables: dict[_Read, int] = {}
        rank = len(self._extent)
        self._origin = _Address((1,) * rank, (0,) * rank)
        self._operands = self._collect_operands()

    def netlist(self) -> Netlist:
        builder = InvertingBuilder(len(self._variables), widest_fanin(self._values))
        nets: dict[tuple[int, _Address], Index] = {}
        for value, by_address in zip(self._values.logic_values, self._operands, strict=True):
            for address, operands in by_address.items():
                taps = np.zeros(len(operands), np.int64)
                complemented = np.zeros(len(operands), bool)
                for t, operand in enumerate(operands):
                    complemented[t] = operand.complemented
                    read = operand.read
                    if read is None:
                        taps[t], complemented[t] = operand.complemented, False
                    elif read.inner is None:
                        taps[t] = self._variables[read]
                    else:
                        taps[t] = nets[read.inner.value, read.address][read.inner.channel]
                taps = builder.add_inverters(taps, complemented)
                copied = builder.add_copies(value.op.body, taps[:, None])
                nets[value.index, address] = copied[value.op.body.outputs, 0]
        outputs = np.concatenate([nets[root.index, self._origin] for root in self._roots])
        return Netlist(
            builder.build_live(outputs),
            np.zeros(len(outputs), np.int32),
            self._implications(),
            np.zeros(0, np.int64),
        )

    def _collect_operands(self) -> list[dict[_Address, list[_Operand]]]:
        """Return, by logic value and address at which it is needed, what each of its taps reads."""
        operands: list[dict[_Address, list[_Operand]]] = [{} for _ in self._values.logic_values]
        for i in self._compared:
            operands[i][self._origin] = []
        for value in reversed(self._values.logic_values):
            for address, reads in operands[value.index].items():
                reads += self._tap_operands(value, address)
                for read in (operand.read for operand in reads):
                    if read is None:
                        continue
                    if read.inner is not None:
                        operands[read.inner.value].setdefault(read.address, [])
                    else:
                        self._variables.setdefault(read, FIRST_TAP + len(self._variables))
        return operands

    def _tap_operands(self, value: LogicValue, address: _Address) -> list[_Operand]:
        """Return what each tap of a logic value at an address reads."""
        reaches: dict[tuple[int, ...], _Reach] = {}
        operands = []
        for source, channel, *shift in value.op.body.taps.tolist():
            name = value.node.inputs[source]
            reach = reaches.get((source, *shift))
            if reach is None:
                cell = _shifted(address, value.op.stride, shift)
                size = self._values.shape(value.graph, name)[1:]
                reach = reaches[source, *shift] = _reach(cell, self._extent, size)
            operands.append(_operand(self._channel_rows(value.graph, name)[channel], reach))
        return operands

    def _channel_rows(self, graph: int, name: str) -> list[_Row]:
        """Return what is known of each channel of a value."""
        known = self._rows.get((graph, name))
        if known is not None:
            return known
        literals = self._values.literals(graph, name)
        complement = literals[:, :1] & 1
        plain = literals ^ complement
        is_logic = self._values.logic_value(graph, name) is not None
        rows = []
        owner = self._values.owners(plain[:, 0] >> 1)
        for c, row in enumerate(plain):
            key: Hashable = int(row[0])
            inner = None
            if not is_logic:
                key = None if not row.any() else (row.shape, row.tobytes())
                self._row_elements[key] = row >> 1
            elif key == 0:
                key = None
            else:
                home = self._values.logic_values[owner[c]]
                channel = int(home.channels_of(row[:1] >> 1)[0])
                cut = home.shared[channel] and home.index not in self._compared
                inner = None if cut else _Inner(home.index, channel)
            rows.append(_Row(key, bool(complement[c, 0]), inner))
        self._rows[graph, name] = rows
        return rows

    def _implications(self) -> Implications:
        """Return that thresholds of the same numbers at the same address imply each other."""
        count, num_inputs = len(self._variables), self._values.num_inputs
        element = np.concatenate([[-1], self._values.space.elements()])
        groups: dict[Hashable, list[tuple[int, Index]]] = {}
        for read, net in self._variables.items():
            ids = self._row_elements.get(read.row)
            if ids is not None and ids.min() > 0 and ids.max() < num_inputs and not read.edge:
                key = element[ids].tobytes(), read.address
                groups.setdefault(key, []).append((net - FIRST_TAP, ids))
        group, rank = np.arange(count), np.zeros(count, np.int64)
        for members in groups.values():
            members.sort(key=lambda member: int(member[1][0]))
            if all((low <= high).all() for (_, low), (_, high) in pairwise(members)):
                for place, (variable, _) in enumerate(members):
                    group[variable], rank[variable] = members[0][0], place
        return Implications.build(group, rank)


def _shifted(address: _Address, stride: Shape, shift: list[int]) -> _Address:
    """Return the address of a tap at offset `shift` of a value that is needed at `address`."""
    scale = tuple(a * s for a, s in zip(address.scale, stride, strict=True))
    offset = tuple(b * s + d for b, s, d in zip(address.offset, stride, shift, strict=True))
    return _Address(scale, offset)


def _operand(row: _Row, reach: _Reach) -> _Operand:
    if reach.never_inside:
        return _Operand(None, False)
    if row.key is None and (reach.always_inside or not row.complemented):
        return _Operand(None, row.complemented)
    if reach.always_inside or (not row.complemented and row.inner is None):
        return _Operand(_Read(row.key, reach.address, row.inner), row.complemented)
    # Inside it is an inner row or a complement, and outside False: that is one more variable.
    return _Operand(_Read((row.key, row.complemented), reach.address, edge=True), False)


def _reach(address: _Address, extent: Shape, size: Shape) -> _Reach:
    """Return whether reads from positions of `extent` always or never fall inside `size`."""
    always, never = True, False
    for a, b, n, length in zip(*address, extent, size, strict=True):
        inside = [0 <= a * p + b < length for p in range(n)]
        always &= all(inside)
        never |= not any(inside)
    return _Reach(address, always, never)
