"""The LogicTreeNets of Petersen et al., NeurIPS 2024, for MNIST and CIFAR-10, by size.

Tree convolutions of depth 3 on two channels a tree, in k/8 groups after the first, each pooled
2x2; three dense layers; GroupSum. The paper's B, L and G also see fixed edge and curvature
detectors and learn from a teacher; these do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from torch import nn

from lgir.frontend.layers import (
    GroupSum,
    LogicDense,
    LogicNet,
    LogicTreeConv2d,
    OrPool2d,
    Thermometer,
)


@dataclass(frozen=True)
class Size:
    """One of the paper's sizes: `k` channels after the first convolution, GroupSum's `tau`, dense
    layers `widen` times 1280k, 640k and 320k wide, `levels` thresholds a channel, and how the
    paper trained it.
    """

    k: int
    tau: float
    widen: int
    levels: int
    batch: int
    learning_rate: float
    weight_decay: float


MNIST_SIZES: Final[Mapping[str, Size]] = {
    "S": Size(16, 6.5, 2, 1, 512, 0.01, 0.0),
    "M": Size(64, 28.0, 2, 1, 256, 0.01, 0.0),
    "L": Size(256, 35.0, 1, 1, 128, 0.01, 0.0),
}

CIFAR10_SIZES: Final[Mapping[str, Size]] = {
    "S": Size(32, 20.0, 1, 3, 128, 0.02, 0.002),
    "M": Size(256, 40.0, 1, 3, 128, 0.02, 0.002),
    "B": Size(512, 280.0, 2, 31, 128, 0.02, 0.002),
    "L": Size(1024, 340.0, 2, 31, 128, 0.02, 0.002),
    "G": Size(2048, 450.0, 1, 31, 128, 0.02, 0.001),
}


def mnist_net(size: Size, seed: int = 0) -> LogicNet:
    """(N, 1, 28, 28) uint8 -> (N, 10): 5x5 then two 3x3 convolutions to k, 3k and 9k channels."""
    k, levels = size.k, size.levels
    return LogicNet(
        Thermometer(pixel_levels(levels, 255)),
        LogicTreeConv2d(levels, k, receptive_field=5, seed=seed),
        OrPool2d(2),
        LogicTreeConv2d(k, 3 * k, padding=1, groups=_groups(k), seed=seed + 1),
        OrPool2d(2),
        LogicTreeConv2d(3 * k, 9 * k, padding=1, groups=_groups(k), seed=seed + 2),
        OrPool2d(2),
        *_head(81 * k, size, seed + 3),
        input_shape=(1, 28, 28),
        input_dtype="u8",
    )


def cifar10_net(size: Size, high: int = 255, seed: int = 0) -> LogicNet:
    """(N, 3, 32, 32) uint8 of values 0..high -> (N, 10): four 3x3 convolutions to 32k channels."""
    k, channels = size.k, 3 * size.levels
    layers: list[nn.Module] = [Thermometer(pixel_levels(size.levels, high))]
    for i, width in enumerate((k, 4 * k, 16 * k, 32 * k)):
        groups = 1 if i == 0 else _groups(k)
        layers.append(LogicTreeConv2d(channels, width, padding=1, groups=groups, seed=seed + i))
        layers.append(OrPool2d(2))
        channels = width
    head = _head(128 * k, size, seed + 4)
    return LogicNet(*layers, *head, input_shape=(3, 32, 32), input_dtype="u8")


def pixel_levels(count: int, high: int) -> npt.NDArray[np.float32]:
    """`count` thresholds that cut the integers 0..high into equal ranges."""
    return ((high + 1) * np.arange(1, count + 1) / (count + 1) - 0.5).astype(np.float32)


def _groups(k: int) -> int:
    return max(1, k // 8)


def _head(features: int, size: Size, seed: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Flatten()]
    for i, factor in enumerate((1280, 640, 320)):
        width = size.widen * factor * size.k
        layers.append(LogicDense(features, width, seed=seed + i))
        features = width
    return [*layers, GroupSum(10, size.tau)]
