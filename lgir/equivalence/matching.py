"""Which values of two graphs are equal, channel by channel, proved one body at a time.

Values over one iteration space whose channels look alike in simulation are compared as functions of
what was proved equal before them, which stands for itself, at any one position of a convolution. If
that fails, they are compared at one position of each way to meet the borders.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.equivalence.arrays import Index, Literals, Mask
from lgir.equivalence.at_any_position import netlist_at_any_position
from lgir.equivalence.at_positions import MAX_GATES, netlist_at_positions
from lgir.equivalence.effort import Effort, TooLarge
from lgir.equivalence.netlist import Netlist
from lgir.equivalence.position_classes import position_classes
from lgir.equivalence.sweeping import Sweep
from lgir.equivalence.value_map import LogicValue, ValueMap
from lgir.ir.simulate import Words, evaluate, pack_planes

ChannelHashes = dict[tuple[int, str], npt.NDArray[np.uint64]]
"""By graph and value, a hash of each channel's simulated bits, (C,), equal for complements."""

_MAX_GATES_DEEPER: Final = 1 << 18  # a deeper comparison may be in vain


def match_values(
    values: ValueMap,
    samples: Sequence[npt.NDArray[Any]],
    effort: Effort,
    try_samples: Callable[[Mask], None],
    deeper: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> None:
    """Note in `values`, of two graphs, which channels are proved equal.

    Args:
        values: the value map, which is changed.
        samples: arrays (n, *shape), one per input of the graphs, on which values are compared
            first.
        effort: the limits.
        try_samples: called with assignments (n, variables) on which values that look alike differ.
        deeper: whether to compare what is still unproved as a function of values further away, or
            of the inputs.
        progress: called with a description of each step before it begins.

    Raises:
        TimeUp: the deadline has passed; what was noted before stays.
    """
    hashes = hash_channels(values, samples)
    rights = [value for value in values.logic_values if value.graph == 1]
    again = ", from values further away" if deeper else ""
    for i, right in enumerate(rights, start=1):
        progress(f"proving {right.name}, {i} of {len(rights)}{again}")
        left = most_alike(values, hashes, right)
        if left is not None:
            pair = _ValuePair(values, left, right, effort, try_samples)
            if deeper:
                pair.match_deeper(hashes)
            else:
                pair.match(hashes)


def hash_channels(values: ValueMap, samples: Sequence[npt.NDArray[Any]]) -> ChannelHashes:
    """Return the hash of every channel of every Logic node's output on some samples."""
    hashes = {}
    for i, graph in enumerate(values.graphs):
        count = len(samples[0])
        inputs = {
            v.name: pack_planes(x) if v.dtype == "bit" else x
            for v, x in zip(graph.inputs, samples, strict=True)
        }
        simulated = evaluate(graph, inputs, count)
        for value in values.logic_values:
            if value.graph == i:
                words = simulated.pop(value.name)
                hashes[i, value.name] = _hash_rows(words.reshape(len(words), -1))
    return hashes


def _hash_rows(words: Words) -> npt.NDArray[np.uint64]:
    """Return a hash (C,) of rows (C, words), equal for complements and 0 for constants."""
    x = np.where(words[:, :1] & np.uint64(1), ~words, words)
    rng = np.random.default_rng(0)
    factors = rng.integers(1 << 63, size=words.shape[1], dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    x = (x ^ x >> np.uint64(31)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(29)) * factors
    hashes: npt.NDArray[np.uint64] = (x ^ x >> np.uint64(32)).sum(axis=1, dtype=np.uint64)
    return hashes


def most_alike(values: ValueMap, hashes: ChannelHashes, right: LogicValue) -> LogicValue | None:
    """Return the value of the first graph that has most channels which look like `right`'s.

    None is returned if these are less than a quarter of `right`'s channels. A few are alike by
    chance, and what is known of them on one side alone would keep their readers from looking alike.
    """
    right_hashes = hashes[right.graph, right.name]
    right_hashes = right_hashes[right_hashes != 0]  # constants tell nothing
    best, most = None, len(right_hashes) // 4 + 1
    for value in values.logic_values:
        if value.graph == 0 and value.op.space == right.op.space:
            alike = int(np.isin(right_hashes, hashes[0, value.name]).sum())
            if alike >= most:  # of several, the last
                best, most = value, alike
    return best


class _ValuePair:
    """Two values, one of each graph, whose channels may be equal."""

    def __init__(
        self,
        values: ValueMap,
        left: LogicValue,
        right: LogicValue,
        effort: Effort,
        try_samples: Callable[[Mask], None],
    ) -> None:
        self._values = values
        self._left, self._right = left, right
        self._effort = effort
        self._try_samples = try_samples

    def match(self, hashes: ChannelHashes) -> None:
        """Compare all channels at any position, and what that leaves at one of each class."""
        left, right, cut = self._left, self._right, len(self._values.logic_values)
        channels = [np.arange(len(left.literals)), np.arange(len(right.literals))]
        if not left.op.space:
            self._match_at(np.zeros(1, np.int64), channels, cut)
            return
        literal = self._sweep(netlist_at_any_position(self._values, [left, right]))
        self._note(channels, literal[:, None])
        self._match_unproved(hashes, cut)

    def match_deeper(self, hashes: ChannelHashes) -> None:
        """Compare what is left as a function of more than what is nearest."""
        for cut in (self._first_operand(), 0):
            self._match_unproved(hashes, cut)

    def _match_unproved(self, hashes: ChannelHashes, cut: int) -> None:
        """Compare the channels that look alike and are not proved equal."""
        left, right = self._left, self._right
        left_hashes, right_hashes = hashes[0, left.name], hashes[1, right.name]
        unproved = right.literals[:, 0] == 2 * right.elements[:, 0]
        right_channels = np.isin(right_hashes, left_hashes) & unproved
        if right_channels.any():
            left_channels = np.isin(left_hashes, right_hashes[right_channels])
            positions = position_classes(self._values, [left, right], cut)
            channels = [np.flatnonzero(left_channels), np.flatnonzero(right_channels)]
            self._match_at(positions, channels, cut)

    def _match_at(self, positions: Index, channels: list[Index], cut: int) -> None:
        """Compare channels at some positions that stand for all."""
        pair = (self._left, self._right)
        roots = [
            2 * value.elements[c][:, positions].ravel()
            for value, c in zip(pair, channels, strict=True)
        ]
        with contextlib.suppress(TooLarge):
            limit = MAX_GATES if cut == len(self._values.logic_values) else _MAX_GATES_DEEPER
            netlist = netlist_at_positions(self._values, np.concatenate(roots), cut, limit)
            self._note(channels, self._sweep(netlist).reshape(-1, len(positions)))

    def _first_operand(self) -> int:
        """Return the number of the first logic value that one of the two reads.

        A cut there opens up what one side reads and the other, whose logic is divided otherwise,
        may have as part of its body.
        """
        owners = [
            self._values.owners(self._values.literals(value.graph, name)[:, 0] >> 1)
            for value in (self._left, self._right)
            for name in value.node.inputs
        ]
        owner = np.concatenate(owners)
        return int(owner[owner >= 0].min(initial=len(self._values.logic_values)))

    def _sweep(self, netlist: Netlist) -> Literals:
        """Return the literals (roots,) of the roots of a swept netlist."""

        def try_taps(assignments: Mask) -> None:
            ids = netlist.variables
            if len(ids) and ids[-1] < self._values.num_inputs:
                self._try_samples(self._values.assignments(ids, assignments))

        sweep = Sweep(netlist.body, netlist.implications, self._effort, try_taps)
        sweep.run()
        return netlist.root_literals(sweep.literal)

    def _note(self, channels: list[Index], literal: Literals) -> None:
        """Note that channels (left's, then right's) with equal literals (n, positions) are equal.

        Each is noted to equal the first of those.
        """
        members = [
            (value, c)
            for value, x in zip((self._left, self._right), channels, strict=True)
            for c in x
        ]
        phase = literal[:, :1] & 1
        plain = literal ^ phase
        _, first, group = np.unique(plain, axis=0, return_index=True, return_inverse=True)
        constant = (plain == 0).all(axis=1)
        for i, head in enumerate(first[group.ravel()].tolist()):
            value, channel = members[i]
            if constant[i]:
                value.literals[channel] = phase[i, 0]
            elif head != i:
                head_value, head_channel = members[head]
                relative_phase = phase[i, 0] ^ phase[head, 0]
                value.literals[channel] = head_value.literals[head_channel] ^ relative_phase
                if value is self._right and head_value is self._left:
                    self._mark_shared(int(head_value.literals[head_channel, 0]) >> 1)

    def _mark_shared(self, element: int) -> None:
        if element >= self._values.num_inputs:
            elements = np.array([element])
            home = self._values.logic_values[int(self._values.owners(elements)[0])]
            home.shared[home.channels_of(elements)] = True
