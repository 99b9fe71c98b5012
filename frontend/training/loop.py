"""Training that survives a kill: the loop and its checkpoints.

A checkpoint holds model, optimizer, generator and step, and replaces the last one atomically, so
that a resumed run takes the same steps as one that was never stopped. It is also a checkpoint that
`lgir.lift` reads as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lgir.errors import FormatError, LgirError
from lgir.files import write_atomically
from lgir.frontend.core.checkpoint import read_checkpoint
from lgir.frontend.layers import LogicNet
from lgir.frontend.training.data import Dataset, augmented
from lgir.frontend.training.evaluation import Progress, exchange_parameters


@dataclass(frozen=True)
class Recipe:
    """How to train: AdamW on random batches, each drawn from the recipe's own generator.

    Attributes:
        steps: batches in all.
        decay: let the learning rate fall linearly to 0.
        hard_steps: the last steps, in which gates are hard in the forward pass, so that training
            closes the gap between soft and discrete accuracy.
        seed: of the order of samples.
        save_every: seconds between checkpoints.
        shift: most pixels by which an image moves along each axis; 0 is shifted in.
        flip: mirror half of the images left to right.
        average: weight of the past in the moving average of the logits after every step, such as
            0.998, which is what is evaluated and kept; 0 keeps the last step's.
    """

    steps: int
    batch: int = 128
    learning_rate: float = 0.02
    weight_decay: float = 0.0
    decay: bool = False
    hard_steps: int = 0
    seed: int = 0
    save_every: float = 60.0
    shift: int = 0
    flip: bool = False
    average: float = 0.0


def train(
    model: LogicNet,
    data: Dataset,
    recipe: Recipe,
    checkpoint: str | Path,
    progress: Callable[[Progress], Any] | None = None,
    *,
    replan: bool = False,
) -> bool:
    """Train `model` in place, from `checkpoint` on if that file exists.

    Args:
        model: is trained on the device on which it is.
        data: stays on its own device.
        recipe: how to train.
        checkpoint: is written once in `recipe.save_every` seconds and at the end.
        progress: is called after every step.
        replan: go on with a checkpoint of another recipe under this one: its weights, its
            optimizer's moments and its step stay.

    Returns:
        Whether all steps are done; False after SIGTERM or Ctrl-C, with everything saved.

    Raises:
        FormatError: the checkpoint cannot be read. LgirError: it is of another recipe or network.
    """
    path = Path(checkpoint)
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(
        model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    generator = torch.Generator().manual_seed(recipe.seed)
    parameters, step = list(model.parameters()), 0
    average: list[Tensor] = []
    if path.exists():
        step, average = _resume(path, model, optimizer, generator, recipe, replan)
    if recipe.average and not average:
        average = [p.detach().clone() for p in parameters]
    model.train()
    saved_at = time.monotonic()
    with _stop_requests() as stopped:
        while step < recipe.steps and not stopped:
            if recipe.decay:
                for group in optimizer.param_groups:
                    group["lr"] = recipe.learning_rate * (1 - step / recipe.steps)
            model.train_straight_through(step >= recipe.steps - recipe.hard_steps)
            batch = torch.randint(len(data), (recipe.batch,), generator=generator)
            images = augmented(data.x[batch], recipe.shift, recipe.flip, generator)
            scores = model(images.to(device, non_blocking=True))
            loss = torch.nn.functional.cross_entropy(scores, data.y[batch].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if average:
                with torch.no_grad():
                    torch._foreach_lerp_(average, parameters, 1 - recipe.average)
            step += 1
            due = time.monotonic() - saved_at >= recipe.save_every
            if due:
                _save(path, model, optimizer, generator, recipe, step, average)
                saved_at = time.monotonic()
            if progress is not None:
                progress(Progress(step, recipe.steps, loss.item(), due, average))
        _save(path, model, optimizer, generator, recipe, step, average)
    model.train_straight_through(False)
    if step >= recipe.steps and average:
        exchange_parameters(model, average)
    return step >= recipe.steps


def save_trained(path: str | Path, model: LogicNet, **notes: str | float) -> None:
    """Write the finished network for others: weights in half precision, and notes for lifting.

    Every gate stays what it was: where rounding would tie its likeliest operation with another, the
    other's logit is lowered.
    """
    state = {
        key: _rounded(value) if value.is_floating_point() and key.endswith("weight") else value
        for key, value in model.state_dict().items()
    }
    write_atomically(path, _bytes({"model": state, **notes}))


def _rounded(weight: Tensor) -> Tensor:
    """Return logits (..., 16) in half precision, with the same likeliest operations."""
    best = weight.argmax(-1, keepdim=True)
    half = weight.half()
    tied = (half >= half.gather(-1, best)).scatter(-1, best, False)
    return torch.where(tied, half - (half.abs() * 2e-3 + 1e-6), half)


def load_trained(model: LogicNet, path: str | Path) -> LogicNet:
    """Return `model` with the weights of a file from `train` or `save_trained`."""
    model.load_state_dict(_as_tensors(read_checkpoint(Path(path)))["model"])
    return model


def _as_tensors(value: Any) -> Any:
    """Return the content of a checkpoint with its arrays as tensors of torch."""
    if isinstance(value, np.ndarray):
        return torch.tensor(value)
    if isinstance(value, dict):
        return {key: _as_tensors(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_as_tensors, value))
    return value


def _bytes(checkpoint: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def _save(
    path: Path,
    model: LogicNet,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    recipe: Recipe,
    step: int,
    average: list[Tensor],
) -> None:
    checkpoint = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "recipe": asdict(recipe),
        "step": step,
        "average": average,
    }
    write_atomically(path, _bytes(checkpoint))


def _resume(
    path: Path,
    model: LogicNet,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    recipe: Recipe,
    replan: bool,
) -> tuple[int, list[Tensor]]:
    """Load a checkpoint; return its step, and the averaged parameters if the recipe wants them."""
    saved = _as_tensors(read_checkpoint(path))
    if not isinstance(saved, dict) or not {"model", "optimizer", "generator", "step"} <= set(saved):
        raise FormatError(f"{path}: no checkpoint of a training run; give another file to write to")
    before = {**asdict(Recipe(recipe.steps)), **saved["recipe"], "save_every": recipe.save_every}
    if before != asdict(recipe) and not replan:
        changed = [k for k, v in asdict(recipe).items() if before.get(k) != v]
        raise LgirError(
            f"{path}: was trained with another {', '.join(changed)}; give the same settings to go "
            "on with it, ask to replan it, or give another file to start anew"
        )
    try:
        model.load_state_dict(saved["model"])
    except RuntimeError as error:
        raise LgirError(f"{path}: is of another network ({error})") from error
    optimizer.load_state_dict(saved["optimizer"])
    generator.set_state(saved["generator"])
    return int(saved["step"]), saved.get("average", []) if recipe.average else []


@contextlib.contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that fills when SIGINT or SIGTERM asks to stop; the step under way is finished."""
    received: list[int] = []
    previous = {}
    with contextlib.suppress(ValueError):  # handlers belong to the main thread; others go without
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, lambda n, _: received.append(n))
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def keep_freed_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the system at every step.

    Measured on one core: a training step of the dense 6x8000 network takes 1.6 times as long
    without, in page faults. Does nothing where there is no glibc.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_mmap_threshold, 2**30)
