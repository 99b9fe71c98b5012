"""Which values of two graphs are equal, channel by channel, proved one body at a time.

Values of one iteration space whose channels look alike in simulation are compared: as functions of
what was proved equal before them, which stands for itself, at any one position of a convolution;
where that fails, at one position of each way to meet the borders. Nothing is unrolled in full.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.atlas import Atlas, Made, Mask
from lgir.netlists import Netlist, TooLarge, at_any_position, at_positions, position_classes
from lgir.simulate import Words, evaluate, pack
from lgir.sweeping import Effort, Index, Literals, Sweep

Keys = npt.NDArray[np.uint64]


def correspond(
    atlas: Atlas,
    samples: Sequence[npt.NDArray[Any]],
    effort: Effort,
    try_samples: Callable[[Mask], None],
) -> None:
    """Note in `atlas`, of two graphs, what is proved equal. Raises TimeUp.

    Args:
        samples: of the graphs' inputs, (n, *shape) each, on which values are compared first.
        try_samples: told assignments (n, variables) on which values that look alike differ.
    """
    keys = _keys(atlas, samples)
    for right in (made for made in atlas.made if made.graph == 1):
        left = _partner(atlas, keys, right)
        if left is not None:
            _Pair(atlas, left, right, effort, try_samples).match(keys)


def _keys(atlas: Atlas, samples: Sequence[npt.NDArray[Any]]) -> dict[tuple[int, str], Keys]:
    """By graph and value, (C,) a hash of each channel's simulated bits up to complement."""
    found = {}
    for i, graph in enumerate(atlas.graphs):
        count = len(samples[0])
        packed = {
            v.name: pack(x) if v.dtype == "bit" else x
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
    """The value of the first graph with most channels that look like some of `right`'s."""
    mine = keys[right.graph, right.name]
    best, most = None, 0
    for made in atlas.made:
        if made.graph == 0 and made.op.space == right.op.space:
            alike = int(np.isin(mine, keys[0, made.name]).sum())
            if alike >= most > 0 or alike > most:  # of several, the last
                best, most = made, alike
    return best


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
        """Compare all channels; what looks alike and is not proved equal, at several positions."""
        left, right = self.left, self.right
        mine, theirs = keys[0, left.name], keys[1, right.name]
        channels = [np.arange(len(mine)), np.arange(len(theirs))]
        at = np.zeros(1, np.int64)
        if left.op.space:
            literal = self._swept(at_any_position(self.atlas, [left, right]))
            self._note(channels, literal[:, None])
            unmatched = np.isin(theirs, mine) & (right.codes[:, 0] == right.own[:, 0])
            if not unmatched.any():
                return
            channels = [np.flatnonzero(np.isin(mine, theirs[unmatched])), np.flatnonzero(unmatched)]
            at = position_classes(self.atlas, [left, right])
        roots = [m.own[c][:, at].ravel() for m, c in zip((left, right), channels, strict=True)]
        with contextlib.suppress(TooLarge):
            literal = self._swept(at_positions(self.atlas, np.concatenate(roots), cut=True))
            self._note(channels, literal.reshape(-1, len(at)))

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
