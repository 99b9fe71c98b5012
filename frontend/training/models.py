"""The LogicTreeNets of Petersen et al., NeurIPS 2024, for MNIST and CIFAR-10, by size.

Tree convolutions of depth 3 with two channels per tree, in k/8 groups after the first, are each
pooled 2x2. Three dense layers and a GroupSum follow. The paper's B, L and G also see fixed edge and
curvature detectors and learn from a teacher; these do not.
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
class NetSize:
    """One of the paper's sizes, and how the paper trained it.

    Attributes:
        k: the number of channels after the first convolution.
        tau: the divisor of the GroupSum.
        widen: dense layers are this many times 1280k, 640k and 320k wide.
        levels: the number of thresholds per input channel.
        batch: the samples per step.
        learning_rate: the learning rate of AdamW.
        weight_decay: the weight decay of AdamW.
    """

    k: int
    tau: float
    widen: int
    levels: int
    batch: int
    learning_rate: float
    weight_decay: float


MNIST_SIZES: Final[Mapping[str, NetSize]] = {
    "S": NetSize(16, 6.5, 2, 1, 512, 0.01, 0.0),
    "M": NetSize(64, 28.0, 2, 1, 256, 0.01, 0.0),
    "L": NetSize(256, 35.0, 1, 1, 128, 0.01, 0.0),
}

CIFAR10_SIZES: Final[Mapping[str, NetSize]] = {
    "S": NetSize(32, 20.0, 1, 3, 128, 0.02, 0.002),
    "M": NetSize(256, 40.0, 1, 3, 128, 0.02, 0.002),
    "B": NetSize(512, 280.0, 2, 31, 128, 0.02, 0.002),
    "L": NetSize(1024, 340.0, 2, 31, 128, 0.02, 0.002),
    "G": NetSize(2048, 450.0, 1, 31, 128, 0.02, 0.001),
}


def mnist_net(size: NetSize, seed: int = 0) -> LogicNet:
    """Build a net for MNIST, (N, 1, 28, 28) uint8 -> (N, 10).

    A 5x5 and two 3x3 convolutions compute k, 3k and 9k channels.
    """
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


def cifar10_net(size: NetSize, high: int = 255, seed: int = 0) -> LogicNet:
    """Build a net for CIFAR-10, (N, 3, 32, 32) uint8 of values 0..high -> (N, 10).

    Four 3x3 convolutions compute k, 4k, 16k and 32k channels.
    """
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
    """Return `count` thresholds that cut the integers 0..high into equal ranges."""
    return ((high + 1) * np.arange(1, count + 1) / (count + 1) - 0.5).astype(np.float32)


def _groups(k: int) -> int:
    return max(1, k // 8)


def _head(features: int, size: NetSize, seed: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Flatten()]
    for i, factor in enumerate((1280, 640, 320)):
        width = size.widen * factor * size.k
        layers.append(LogicDense(features, width, seed=seed + i))
        features = width
    return [*layers, GroupSum(10, size.tau)]
