"""NetlistBuilder: a flat body made of copies of other bodies, one copy per position."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lgir.ir.body import Body
from lgir.ir.types import FIRST_TAP, Shape

Nets = npt.NDArray[np.int32]


class NetlistBuilder:
    """A body of rank 0 under construction; its nets are numbered for good as they are added.

    Attributes:
        num_taps: number of its taps.
        k: fan-in of its gates; copied bodies have at most this one.
        num_nets: number of nets so far: the constants, the taps and the gates.
    """

    def __init__(self, num_taps: int, k: int) -> None:
        self.num_taps = num_taps
        self.k = k
        self.num_nets = FIRST_TAP + num_taps
        self._fanin: list[Nets] = [np.zeros((0, k), np.int32)]
        self._table: list[npt.NDArray[np.unsignedinteger]] = []

    def tap_nets(self, first: int, shape: Shape) -> Nets:
        """Return the nets, int32 (*shape), of the taps from number `first` on."""
        size = math.prod(shape)
        start = FIRST_TAP + first
        return np.arange(start, start + size, dtype=np.int32).reshape(shape)

    def add_copies(self, body: Body, taps: npt.NDArray[np.integer]) -> Nets:
        """Add n copies of `body` and return all their nets, int32 (body.num_nets, n).

        `taps` (T, n) are the nets that the taps of each copy stand for. The copies of a gate lie
        beside each other.
        """
        body, copies = body.widened(self.k), taps.shape[1]
        nets = np.empty((body.num_nets, copies), np.int32)
        nets[:FIRST_TAP] = np.arange(FIRST_TAP)[:, None]
        nets[FIRST_TAP : body.first_gate] = taps
        end = self.num_nets + body.num_gates * copies
        new = np.arange(self.num_nets, end, dtype=np.int32)
        nets[body.first_gate :] = new.reshape(body.num_gates, copies)
        self.num_nets = end
        self._fanin.append(nets[body.fanin].transpose(0, 2, 1).reshape(-1, self.k))
        self._table.append(np.repeat(body.table, copies))
        return nets

    def build(
        self, outputs: npt.NDArray[np.integer], taps: npt.NDArray[np.integer] | None = None
    ) -> Body:
        """Return the body with these outputs.

        `taps` (num_taps, 2) are rows (input, channel); by default the channels of one input.
        """
        if taps is None:
            channel = np.arange(self.num_taps, dtype=np.int32)
            taps = np.stack([np.zeros_like(channel), channel], axis=1)
        table = np.concatenate(self._table) if self._table else np.zeros(0, np.uint8)
        return Body.build(taps, np.concatenate(self._fanin), table, outputs)
