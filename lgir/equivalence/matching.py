"""Which values of two graphs are equal, channel by channel, proved one body at a time.

Values of one iteration space whose channels look alike in simulation are compared: as functions of
what was proved equal before them, which stands for itself, at any one position of a convolution;
where that fails, at one position of each way to meet the borders.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.equivalence.netlists import (
    Netlist,
    TooLarge,
    at_any_position,
    at_positions,
    position_classes,
)
from lgir.equivalence.sweeping import Effort, Index, Literals, Sweep
from lgir.equivalence.value_map import Atlas, Made, Mask
from lgir.ir.simulate import Words, evaluate, pack_planes

Keys = npt.NDArray[np.uint64]


def correspond(
    atlas: Atlas,
    samples: Sequence[npt.NDArray[Any]],
    effort: Effort,
    try_samples: Callable[[Mask], None],
    deeper: bool = False,
) -> None:
    """Note in `atlas`, of two graphs, what is proved equal. Raises TimeUp.

    Args:
        deeper: look again at what is not, as a function of values further away or of the inputs.
        samples: of the graphs' inputs, (n, *shape) each, on which values are compared first.
        try_samples: told assignments (n, variables) on which values that look alike differ.
    """
    keys = _keys(atlas, samples)
    for right in (made for made in atlas.made if made.graph == 1):
        left = _partner(atlas, keys, right)
        if left is not None:
            pair = _Pair(atlas, left, right, effort, try_samples)
            if deeper:
                pair.match_deeper(keys)
            else:
                pair.match(keys)


def _keys(atlas: Atlas, samples: Sequence[npt.NDArray[Any]]) -> dict[tuple[int, str], Keys]:
    """By graph and value, (C,) a hash of each channel's simulated bits up to complement."""
    found = {}
    for i, graph in enumerate(atlas.graphs):
        count = len(samples[0])
        packed = {
            v.name: pack_planes(x) if v.dtype == "bit" else x
            for v, x in zip(graph.inputs, samples, strict=True)
        }
        values = evaluate(graph, packed, count)
        for made in atlas.made:
            if made.graph == i:
                words = values.pop(made.name)
                found[i, made.name] = _channel_hash(words.reshape(len(words), -1))
    return found


def _channel_hash(words: Words) -> Keys:
    """(C,) of (C, words), equal for complements."""
    x = np.where(words[:, :1] & np.uint64(1), ~words, words)
    rng = np.random.default_rng(0)
    factor = rng.integers(1 << 63, size=words.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(
        1
    )
    x = (x ^ x >> np.uint64(31)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(29)) * factor
    found: Keys = (x ^ x >> np.uint64(32)).sum(axis=1, dtype=np.uint64)
    return found


def _partner(atlas: Atlas, keys: dict[tuple[int, str], Keys], right: Made) -> Made | None:
    """The value of the first graph with most channels that look like some of `right`'s.

    None where these are less than a quarter: a few are alike by chance, and what is known of them
    on one side alone would keep their readers from looking alike.
    """
    mine = keys[right.graph, right.name]
    mine = mine[mine != 0]  # constants tell nothing
    best, most = None, len(mine) // 4 + 1
    for made in atlas.made:
        if made.graph == 0 and made.op.space == right.op.space:
            alike = int(np.isin(mine, keys[0, made.name]).sum())
            if alike >= most:  # of several, the last
                best, most = made, alike
    return best


_MAX_GATES: Final = 1 << 24  # of one comparison, and of a deeper one that may be in vain
_MAX_DEEPER: Final = 1 << 18


class _Pair:
    """Two values that may be equal."""

    def __init__(
        self,
        atlas: Atlas,
        left: Made,
        right: Made,
        effort: Effort,
        try_samples: Callable[[Mask], None],
    ) -> None:
        self.atlas = atlas
        self.left, self.right = left, right
        self.effort = effort
        self.try_samples = try_samples

    def match(self, keys: dict[tuple[int, str], Keys]) -> None:
        """Compare all channels, at any position, and what that leaves at one of each class."""
        left, right, cut = self.left, self.right, len(self.atlas.made)
        channels = [np.arange(len(left.codes)), np.arange(len(right.codes))]
        if not left.op.space:
            self._match_at(np.zeros(1, np.int64), channels, cut)
            return
        literal = self._swept(at_any_position(self.atlas, [left, right]))
        self._note(channels, literal[:, None])
        self._match_open(keys, cut)

    def match_deeper(self, keys: dict[tuple[int, str], Keys]) -> None:
        """Compare what is left as a function of more than what is nearest."""
        for cut in (self._first_read(), 0):
            self._match_open(keys, cut)

    def _match_open(self, keys: dict[tuple[int, str], Keys], cut: int) -> None:
        """Compare the channels that look alike and are not proved equal."""
        left, right = self.left, self.right
        mine, theirs = keys[0, left.name], keys[1, right.name]
        unmatched = np.isin(theirs, mine) & (right.codes[:, 0] == right.own[:, 0])
        if unmatched.any():
            alike = np.isin(mine, theirs[unmatched])
            at = position_classes(self.atlas, [left, right], cut)
            self._match_at(at, [np.flatnonzero(alike), np.flatnonzero(unmatched)], cut)

    def _match_at(self, at: Index, channels: list[Index], cut: int) -> None:
        """Compare channels at some positions that stand for all."""
        pair = (self.left, self.right)
        roots = [m.own[c][:, at].ravel() for m, c in zip(pair, channels, strict=True)]
        with contextlib.suppress(TooLarge):
            limit = _MAX_GATES if cut == len(self.atlas.made) else _MAX_DEEPER
            netlist = at_positions(self.atlas, np.concatenate(roots), cut, limit)
            self._note(channels, self._swept(netlist).reshape(-1, len(at)))

    def _first_read(self) -> int:
        """The first of the atlas's values that one of the two reads.

        A cut there opens up what one side reads and the other, dividing its logic otherwise, may
        have as part of its body.
        """
        owners = [
            self.atlas.owners(self.atlas.codes(made.graph, name)[:, 0] >> 1)
            for made in (self.left, self.right)
            for name in made.node.inputs
        ]
        found = np.concatenate(owners)
        return int(found[found >= 0].min(initial=len(self.atlas.made)))

    def _swept(self, netlist: Netlist) -> Literals:
        """(roots,) literals of the roots."""

        def try_taps(values: Mask) -> None:
            ids = netlist.variables
            if len(ids) and ids[-1] < self.atlas.first_made:
                self.try_samples(self.atlas.assignments(ids, values))

        sweep = Sweep(netlist.body, netlist.chains, self.effort, try_taps)
        sweep.run()
        return netlist.roots(sweep.literal)

    def _note(self, channels: list[Index], literal: Literals) -> None:
        """Channels (left's, then right's) with equal literals (n, positions) equal the first."""
        members = [
            (m, c) for m, x in zip((self.left, self.right), channels, strict=True) for c in x
        ]
        odd = literal[:, :1] & 1
        plain = literal ^ odd
        _, first, group = np.unique(plain, axis=0, return_index=True, return_inverse=True)
        constant = (plain == 0).all(axis=1)
        for i, head in enumerate(first[group.ravel()].tolist()):
            made, channel = members[i]
            if constant[i]:
                made.codes[channel] = odd[i, 0]
            elif head != i:
                home, there = members[head]
                made.codes[channel] = home.codes[there] ^ (odd[i, 0] ^ odd[head, 0])
                if made is self.right and home is self.left:
                    self._share(int(home.codes[there, 0]) >> 1)

    def _share(self, element: int) -> None:
        if element >= self.atlas.first_made:
            home = self.atlas.made[int(self.atlas.owners(np.array([element]))[0])]
            home.shared[(element - home.first) // home.op.positions] = True
