"""The network of the demo: a convolutional logic gate network for scikit-learn's 8x8 digits.

It is a small LogicTreeNet (Petersen et al. 2024): a thermometer, two pooled tree convolutions and
two dense layers. It trains in under a minute on one core; a trained checkpoint is shipped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import LgirError

if TYPE_CHECKING:
    from lgir.frontend.layers import LogicNet

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

STEPS: Final = 1200
BATCH: Final = 64
LEARNING_RATE: Final = 0.06
LEVELS: Final = (2, 5, 8, 11, 14)
"""Thresholds on pixels 0..16."""


def demo_checkpoint() -> Path:
    """Return the path of the trained checkpoint that is shipped: the state_dict of a LogicNet."""
    return Path(__file__).with_name("digits.pt")


def digits_data() -> tuple[Images, Labels, Images, Labels]:
    """Return (x_train, y_train, x_test, y_test): 1,437 training and 360 test samples.

    Images are uint8 (N, 1, 8, 8) of values 0 to 16, labels int64 (N,). The split is a permutation
    of seed 0. Raises LgirError without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise LgirError("the digits come with scikit-learn; pip install 'lgir[demo]'") from error
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x = data.images.astype(np.uint8)[order, None]
    y = data.target.astype(np.int64)[order]
    return x[360:], y[360:], x[:360], y[:360]


def digits_model(seed: int = 0) -> LogicNet:
    """Return the untrained network: images (N, 1, 8, 8) to scores (N, 10)."""
    from torch import nn

    from lgir.frontend.layers import (
        GroupSum,
        LogicDense,
        LogicNet,
        LogicTreeConv2d,
        OrPool2d,
        Thermometer,
    )

    return LogicNet(
        Thermometer(LEVELS),
        LogicTreeConv2d(len(LEVELS), 32, padding=1, seed=seed),
        OrPool2d(2),
        LogicTreeConv2d(32, 128, padding=1, groups=4, seed=seed + 1),
        OrPool2d(2),
        nn.Flatten(),
        LogicDense(512, 4000, seed=seed + 2),
        LogicDense(4000, 3000, seed=seed + 3),
        GroupSum(10, tau=12),
        input_shape=(1, 8, 8),
        input_dtype="u8",
    )


def train_digits(
    progress: Callable[[int, int, float], Any] | None = None,
    *,
    steps: int = STEPS,
    seed: int = 0,
) -> tuple[LogicNet, float]:
    """Train the network on the digits, on one thread.

    Its operations are too small to gain from more threads, and lose tenfold if other work shares
    the cores.

    Args:
        progress: called after each step with (number of the step, all steps, loss).
        steps: number of batches of 64 samples.
        seed: seed of the wiring and of the order of samples.

    Returns:
        The network in eval mode, and its accuracy on the test split with hard bits.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(progress, steps, seed)
    finally:
        torch.set_num_threads(threads)


def _train(
    progress: Callable[[int, int, float], Any] | None, steps: int, seed: int
) -> tuple[LogicNet, float]:
    import torch

    x_train, y_train, x_test, y_test = map(torch.from_numpy, digits_data())
    model = digits_model(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.002)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        batch = torch.randint(len(x_train), (BATCH,), generator=generator)
        loss = torch.nn.functional.cross_entropy(model(x_train[batch]), y_train[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps, loss.item())
    model.eval()
    with torch.no_grad():
        accuracy = (model(x_test).argmax(1) == y_test).float().mean().item()
    return model, accuracy
