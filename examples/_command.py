"""The command line that both training examples share: options, progress bar, final line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from lgir.errors import LgirError
from lgir.frontend.layers import LogicNet
from lgir.frontend.training.data import Dataset, dataset, load_array
from lgir.frontend.training.evaluation import Curve, Progress, accuracy
from lgir.frontend.training.loop import Recipe, keep_freed_memory, load_trained, save_trained, train
from lgir.frontend.training.models import NetSize


def main(
    task: str,
    sizes: Mapping[str, NetSize],
    build: Callable[[NetSize, Dataset], LogicNet],
    names: tuple[str, str],
) -> int:
    """Train what the command line asks for. `names` are those of the image files, train and test.

    Returns the exit code: 0 done, 1 stopped and saved, 2 an error that the user can mend.
    """
    options = _parse(task, sizes)
    try:
        return _run(task, sizes[options.size], build, names, options)
    except LgirError as error:
        print(f"error: {error}")
        return 2


def _parse(task: str, sizes: Mapping[str, NetSize]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=f"Train a LogicTreeNet on {task} with the paper's settings. Run it again to go "
        "on after a stop or a kill."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the .npy.xz files")
    parser.add_argument("--size", choices=list(sizes), default="S", help="default S")
    parser.add_argument("-o", "--output", type=Path, help="the trained checkpoint")
    parser.add_argument("--init", type=Path, metavar="CHECKPOINT", help="weights to start from")
    parser.add_argument("--steps", type=int, default=20_000, help="batches; default 20000")
    parser.add_argument("--k", type=int, help="channels, instead of the size's")
    parser.add_argument("--widen", type=int, help="width of the dense layers, times the paper's")
    parser.add_argument("--thresholds", type=int, help="thresholds a channel")
    parser.add_argument("--tau", type=float)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--weight-decay", type=float)
    parser.add_argument("--decay", action="store_true", help="linear decay of the learning rate")
    parser.add_argument(
        "--hard-steps", type=int, default=0, help="last steps, trained with hard gates; default 0"
    )
    parser.add_argument("--shift", type=int, default=0, help="move images by up to so many pixels")
    parser.add_argument("--flip", action="store_true", help="mirror half of the images")
    parser.add_argument(
        "--average", type=float, default=0.0, help="weight of the past in averaged logits, 0.998"
    )
    parser.add_argument(
        "--replan", action="store_true", help="go on with a stopped run under other settings"
    )
    parser.add_argument(
        "--curve", type=Path, metavar="JSONL", help="append loss and test accuracy to this file"
    )
    parser.add_argument(
        "--curve-steps", type=int, default=2000, help="steps between its points; default 2000"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def _run(
    task: str,
    size: NetSize,
    build: Callable[[NetSize, Dataset], LogicNet],
    names: tuple[str, str],
    options: argparse.Namespace,
) -> int:
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    changes = {
        "k": options.k,
        "widen": options.widen,
        "levels": options.thresholds,
        "tau": options.tau,
        "batch": options.batch,
        "learning_rate": options.lr,
        "weight_decay": options.weight_decay,
    }
    size = replace(size, **{name: value for name, value in changes.items() if value is not None})
    prefix = task.lower().replace("-", "")
    training, test = (
        dataset(load_array(options.data, image), load_array(options.data, f"{prefix}_y_{split}"))
        for image, split in zip(names, ("train", "test"), strict=True)
    )
    model = build(size, training)
    if options.init:
        load_trained(model, options.init)
    model.to(options.device)
    recipe = Recipe(
        options.steps,
        size.batch,
        size.learning_rate,
        size.weight_decay,
        options.decay,
        options.hard_steps,
        options.seed,
        shift=options.shift,
        flip=options.flip,
        average=options.average,
    )
    curve = Curve(options.curve, options.curve_steps, model, test) if options.curve else None
    output = options.output or Path(f"{prefix}-{options.size.lower()}.pt")
    working = output.with_suffix(".training.pt")
    gates = sum(p.numel() // 16 for p in model.parameters())
    print(f"{task} {options.size}: k = {size.k}, {gates:,} distinct gates, on {options.device}")
    columns = (
        TextColumn("train"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
    )
    with ProgressBar(*columns) as bar:
        shown = bar.add_task("train", total=recipe.steps, loss=float("nan"))

        def follow(progress: Progress) -> None:
            bar.update(shown, completed=progress.step, loss=progress.loss)
            if curve is not None:
                curve.follow(progress)

        trained = train(
            model,
            training,
            recipe,
            working,
            follow,
            replan=options.replan,
        )
    if not trained:
        print(f"stopped and saved in {working}; run the same command to go on")
        return 1
    soft = accuracy(model, test, hard=False)
    save_trained(output, model, task=task, steps=recipe.steps)
    hard = accuracy(load_trained(model, output), test, hard=True)
    save_trained(output, model, task=task, steps=recipe.steps, test_accuracy=round(hard, 4))
    print(f"test accuracy: soft {soft:.2%}, discrete {hard:.2%}; checkpoint {output}")
    return 0
