"""Random wiring of logic gate networks: what benchmarks build and what training starts from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def random_leaves(
    in_channels: int,
    kernels: int,
    *,
    depth: int = 3,
    window: tuple[int, int] = (3, 3),
    groups: int = 1,
    channels_per_tree: int = 2,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Return the cells that trees read, int64 (kernels, 2**depth, 3) rows (channel, y, x).

    Each tree draws `channels_per_tree` channels of its group and the cells of its window in them,
    without repetition if there are enough.

    Args:
        in_channels: channels of the input.
        kernels: number of trees, which is a multiple of `groups`.
        depth: levels of two-input gates per tree.
        window: height and width of the window that a tree reads.
        groups: number of channel groups; trees of a group read the input channels of that group.
        channels_per_tree: number of channels that a tree reads.
        rng: the source of randomness.
    """
    leaves, area = 1 << depth, window[0] * window[1]
    per_group, out_group = in_channels // groups, kernels // groups
    channels = min(channels_per_tree, per_group)
    cells = channels * area
    first_channel = (np.arange(kernels) // out_group) * per_group
    chosen = np.argsort(rng.random((kernels, per_group)), axis=1)[:, :channels]
    chosen = chosen + first_channel[:, None]
    cell = np.argsort(rng.random((kernels, max(cells, leaves))), axis=1)[:, :leaves] % cells
    channel = np.take_along_axis(chosen, cell // area, axis=1)
    return np.stack([channel, cell % area // window[1], cell % window[1]], axis=-1)


def even_wiring(inputs: int, gates: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the inputs of random two-input gates, int64 (gates, 2) indices below `inputs`.

    The inputs of a gate differ, and every input is used equally often, give or take one.
    """
    rounds = -(-2 * gates // inputs)
    flat = np.concatenate([rng.permutation(inputs) for _ in range(rounds)])[: 2 * gates]
    pairs = rng.permutation(flat).reshape(gates, 2)
    while (same := np.flatnonzero(pairs[:, 0] == pairs[:, 1])).size:
        other = rng.integers(gates, size=same.size)
        for g, h in zip(same, other, strict=True):
            pairs[g, 1], pairs[h, 1] = pairs[h, 1], pairs[g, 1]
    return pairs
