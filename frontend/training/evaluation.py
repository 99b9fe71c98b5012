"""How well a network does while it is trained: accuracy, and curves of it in files."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lgir.frontend.layers import LogicNet
from lgir.frontend.training.data import Dataset

_EVAL_BATCH: Final = 500


def accuracy(model: LogicNet, data: Dataset, *, hard: bool) -> float:
    """Return the share of right answers with hard bits (eval mode) or with soft gates."""
    device = next(model.parameters()).device
    was_training, was_straight_through = model.training, model.trains_straight_through
    model.train(not hard)
    model.train_straight_through(False)
    right = 0
    with torch.no_grad():
        for start in range(0, len(data), _EVAL_BATCH):
            part = slice(start, start + _EVAL_BATCH)
            labels = model(data.x[part].to(device)).argmax(1).cpu()
            right += int((labels == data.y[part]).sum())
    model.train(was_training)
    model.train_straight_through(was_straight_through)
    return right / len(data)


@dataclass(frozen=True)
class Progress:
    """Told after every step.

    Attributes:
        step: number of steps done.
        steps: number of all steps.
        loss: of the step's batch.
        saved: whether a checkpoint was just written.
        average: averages of the model's parameters, in their order; empty if none are kept.
    """

    step: int
    steps: int
    loss: float
    saved: bool
    average: Sequence[Tensor] = ()


class Curve:
    """Appends points of a training curve to a file of JSON lines.

    A point has the step, the mean loss since the last point, the test accuracy with soft gates and
    with hard ones, the seconds of wall-clock and of CPU time since this process started training.
    """

    def __init__(self, path: str | Path, every: int, model: LogicNet, test: Dataset) -> None:
        self.path, self.every, self.model, self.test = Path(path), every, model, test
        self._losses: list[float] = []
        self._start = time.monotonic(), time.process_time()

    def follow(self, progress: Progress) -> None:
        """Take a step's loss; append a point after every `every` steps and after the last one."""
        self._losses.append(progress.loss)
        if progress.step % self.every and progress.step != progress.steps:
            return
        last = exchange_parameters(self.model, progress.average) if progress.average else ()
        point = {
            "step": progress.step,
            "loss": round(float(np.mean(self._losses)), 5),
            "soft": round(accuracy(self.model, self.test, hard=False), 4),
            "discrete": round(accuracy(self.model, self.test, hard=True), 4),
            "seconds": round(time.monotonic() - self._start[0], 1),
            "cpu_seconds": round(time.process_time() - self._start[1], 1),
        }
        if last:
            exchange_parameters(self.model, last)
        self._losses.clear()
        with self.path.open("a") as lines:
            lines.write(json.dumps(point) + "\n")


def exchange_parameters(model: LogicNet, values: Sequence[Tensor]) -> list[Tensor]:
    """Give the model's parameters new values; return the old ones."""
    old = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(value)
    return old
