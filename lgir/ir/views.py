"""Gates and taps as small objects, built when they are read: for people and tests.

    for gate in body.gates():
        print(gate.id, gate.op_type, gate.inputs)

A pass works on the arrays of `lgir.ir.body.Body` instead, which is a thousand times as fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

import numpy as np

from lgir.ir.truth_tables import gate_name, narrow_table
from lgir.ir.types import FIRST_TAP

if TYPE_CHECKING:
    from lgir.ir.body import Body


@dataclass(frozen=True)
class Gate:
    """A gate of a body.

    Attributes:
        id: its net.
        op_type: its function as the text form spells it.
        inputs: the nets that it reads, the most significant first.
        table: its truth table over just these inputs.
        body: the body that holds it.
    """

    id: int
    op_type: str
    inputs: tuple[int, ...]
    table: int
    body: Body = field(repr=False)

    def users(self) -> list[Gate]:
        """Return the gates that read this one."""
        return _readers(self.body, self.id)


@dataclass(frozen=True)
class Tap:
    """A tap: net `id` reads channel `channel` of the node's input number `input` at `offset`."""

    id: int
    input: int
    channel: int
    offset: tuple[int, ...]
    body: Body = field(repr=False)

    def users(self) -> list[Gate]:
        """Return the gates that read this tap."""
        return _readers(self.body, self.id)


class GateViews(Sequence[Gate]):
    """The gates of a body by number, from 0; `by_id` returns one by its net."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self._arity = body.arity()

    def __len__(self) -> int:
        return self.body.num_gates

    @overload
    def __getitem__(self, index: int) -> Gate: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Gate]: ...
    def __getitem__(self, index: int | slice) -> Gate | Sequence[Gate]:
        if isinstance(index, slice):
            return [self._view(i) for i in range(len(self))[index]]
        return self._view(range(len(self))[index])

    def __iter__(self) -> Iterator[Gate]:
        return map(self._view, range(len(self)))

    def by_id(self, net: int) -> Gate:
        """Return the gate that drives `net`. Raises IndexError for a constant, a tap or no net."""
        if not self.body.first_gate <= net < self.body.num_nets:
            raise IndexError(
                f"net {net} is no gate's; gates drive nets from {self.body.first_gate}"
            )
        return self._view(net - self.body.first_gate)

    def _view(self, i: int) -> Gate:
        body, arity = self.body, int(self._arity[i])
        table = int(narrow_table(body.table[i : i + 1], body.k, arity)[0])
        inputs = tuple(body.fanin[i, :arity].tolist())
        return Gate(body.first_gate + i, gate_name(table, arity), inputs, table, body)


class TapViews(Sequence[Tap]):
    """The taps of a body by number, from 0."""

    def __init__(self, body: Body) -> None:
        self.body = body

    def __len__(self) -> int:
        return self.body.num_taps

    @overload
    def __getitem__(self, index: int) -> Tap: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tap]: ...
    def __getitem__(self, index: int | slice) -> Tap | Sequence[Tap]:
        if isinstance(index, slice):
            return [self._view(i) for i in range(len(self))[index]]
        return self._view(range(len(self))[index])

    def _view(self, i: int) -> Tap:
        source, channel, *offset = self.body.taps[i].tolist()
        return Tap(FIRST_TAP + i, source, channel, tuple(offset), self.body)


def users_by_net(body: Body) -> dict[int, list[int]]:
    """Return the ids of the gates that read each net, ascending, each once."""
    users: dict[int, list[int]] = {net: [] for net in range(body.num_nets)}
    for gate in GateViews(body):
        for net in dict.fromkeys(gate.inputs):
            users[net].append(gate.id)
    return users


def _readers(body: Body, net: int) -> list[Gate]:
    """Return the gates that read `net`."""
    gates = GateViews(body)
    return [gates[int(i)] for i in np.flatnonzero((body.fanin == net).any(axis=1))]
