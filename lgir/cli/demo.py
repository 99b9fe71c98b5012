"""The demo: lift a trained network, optimize it, compile it, compare with PyTorch, measure.

The network is a convolutional logic gate network (Petersen et al., NeurIPS 2024) that is shipped:
a small one trained on scikit-learn's 8x8 digits, or one of MNIST or CIFAR-10, whose test images are
read from the user's folder. The run computes all that it prints.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

import lgir
from lgir.benchmarking.throughput import bench_graph
from lgir.errors import BackendError, FormatError, LgirError, unknown_name
from lgir.files import write_atomically
from lgir.zoo import PRETRAINED, pretrained, pretrained_file

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from lgir.benchmarking.throughput_report import BenchReport
    from lgir.frontend.layers import LogicNet
    from lgir.passes.report import Report
    from lgir.samples import Array

_BENCH_SAMPLES = 100_000
_BENCH_BYTES = 1 << 26  # of test images, repeated
_TORCH_BATCH = 500  # samples; PyTorch keeps all activations of a batch
_WIDTH = 9  # of the column of step names


@dataclass(frozen=True)
class DemoReport:
    """The results of the demo; accuracies are shares of `test_samples`, with hard bits."""

    test_samples: int
    torch_accuracy: float
    lgir_accuracy: float
    optimized: Report
    bench: BenchReport

    def to_dict(self) -> dict[str, Any]:
        return {
            "test_samples": self.test_samples,
            "torch_accuracy": self.torch_accuracy,
            "lgir_accuracy": self.lgir_accuracy,
            "optimize": self.optimized.to_dict(),
            "bench": self.bench.to_dict(),
        }


def run_demo(
    console: Console,
    *,
    net: str = "digits",
    data: str | None = None,
    train: bool = False,
    output: str | None = None,
) -> DemoReport:
    """Run the demo, and print on `console` what happens.

    Args:
        net: the name of a trained network in `lgir.zoo`.
        data: folder of the test images and labels of a network other than "digits".
        train: whether to train the network of digits anew instead of taking the shipped one.
        output: path where a newly trained checkpoint is written.

    Raises:
        LgirError: torch or scikit-learn is missing, `net` is unknown, or there are no images.
        BackendError: scores differ from those of PyTorch.
    """
    _require_demo_extra()
    import torch

    from lgir.cli.tables import report_table
    from lgir.frontend.training.rebuild import rebuild
    from lgir.passes.report import Size

    say = _StepPrinter(console)
    say.title("lgir demo", "a trained logic gate network, from checkpoint to answers")
    images, labels = _test_data(net, data)

    trained = _train(console, say, output) if train else None
    with say.step("lift") as report_step:
        graph = pretrained(net) if trained is None else lgir.lift(trained, name=net)
        module, size = trained or rebuild(graph), Size.of(graph)
        source = pretrained_file(net).name if trained is None else "the network just trained"
        report_step(f"{size.gates:,} gates, {size.unrolled:,} evaluated per sample, from {source}")

    with say.step("optimize") as report_step:
        small, report = lgir.optimize(graph)
        gates, unrolled = report.after.gates, report.after.unrolled
        less = gates / size.gates - 1, unrolled / size.unrolled - 1
        report_step(
            f"{gates:,} gates ({less[0]:.0%}), {unrolled:,} evaluated per sample ({less[1]:.0%})"
        )
    console.print(report_table(report))

    with say.step("compile") as report_step:
        exe = lgir.compile(small, "llvm")
        report_step("machine code that runs 512 samples at a time, one bit each")

    with say.step("check") as report_step:
        with torch.inference_mode():
            parts = torch.from_numpy(images).split(_TORCH_BATCH)
            expected = torch.cat([module(part) for part in parts]).numpy()
        scores = exe(images)
        if not np.array_equal(scores, expected):
            raise BackendError("the compiled scores differ from PyTorch's; please report this")
        torch_accuracy, accuracy = (_accuracy(s, labels) for s in (expected, scores))
        report_step(f"every score of {len(images):,} test images equal to PyTorch's")
    console.print(
        f"\n  [bold]test accuracy[/]  PyTorch {torch_accuracy:.2%}, lgir {accuracy:.2%}\n"
    )
    if net == "digits" and console.color_system is not None and not console.no_color:
        fitting = min(10, (console.width - 2) // 9)
        shown = [int(np.flatnonzero(labels == digit)[0]) for digit in range(fitting)]
        console.print(_picture(images[shown, 0], scores[shown].argmax(axis=1)))
        console.print()

    with console.status("measuring"):
        samples = max(1, _BENCH_BYTES // images[0].size)
        repeated = np.resize(images, (min(_BENCH_SAMPLES, samples), *images.shape[1:]))
        bench = bench_graph(small, module=module, samples=[repeated], run_seconds=0.2)
    console.print(bench)
    return DemoReport(len(images), torch_accuracy, accuracy, report, bench)


def _require_demo_extra() -> None:
    try:
        import sklearn  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise LgirError(
            f"lgir demo needs torch and scikit-learn, and {error.name} is not installed: "
            "pip install 'lgir[demo]'"
        ) from None


def _test_data(net: str, folder: str | None) -> tuple[Array, Array]:
    """Return test images (N, C, H, W) uint8 and their labels (N,)."""
    from lgir.frontend.digits import digits_data
    from lgir.frontend.training.data import load_array

    if net not in PRETRAINED:
        raise unknown_name("trained network", net, PRETRAINED)
    if net == "digits":
        return digits_data()[2:]
    images, labels = PRETRAINED[net].images, PRETRAINED[net].labels
    if folder is None:
        raise LgirError(
            f"lgir demo --net {net} needs the test images, which lgir does not ship: give --data "
            f"FOLDER with {images}.npy and {labels}.npy (or .npy.xz)"
        )
    x, y = load_array(folder, images), load_array(folder, labels)
    x = x[:, None] if x.ndim == 3 else np.moveaxis(x, -1, 1)
    (shape,) = (value.shape for value in pretrained(net).inputs)
    if x.dtype != np.uint8 or x.shape[1:] != shape or len(x) == 0 or y.shape != x.shape[:1]:
        raise FormatError(
            f"{folder}: {images} and {labels} must be uint8 images of {shape} and a label each"
        )
    return np.ascontiguousarray(x), y


def _train(console: Console, say: _StepPrinter, output: str | None) -> LogicNet:
    """Train the network of digits; return it in eval mode."""
    import torch
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from lgir.frontend.digits import train_digits

    columns = (
        TextColumn(f"  [bold cyan]{'train':<{_WIDTH}}[/]"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
    )
    start = perf_counter()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("train", total=None, loss=float("nan"))
        model, accuracy = train_digits(
            lambda step, steps, loss: bar.update(task, completed=step, total=steps, loss=loss)
        )
    if output is not None:
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        write_atomically(output, buffer.getvalue())
    say.line("train", f"{accuracy:.2%} test accuracy", perf_counter() - start)
    model.eval()
    return model


class _StepPrinter:
    """Prints a line per step: its name, its result, and its time."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def title(self, name: str, about: str) -> None:
        self.console.print(f"\n[bold]{name}[/]  [dim]{about}[/]\n")

    def line(self, name: str, result: str, seconds: float) -> None:
        self.console.print(f"  [bold cyan]{name:<{_WIDTH}}[/] {result} [dim]({seconds:.2f} s)[/]")

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Time the block and print its line; the function that is yielded takes the result."""
        result: list[str] = []
        start = perf_counter()
        with self.console.status(name):
            yield result.append
        self.line(name, " ".join(result), perf_counter() - start)


def _accuracy(scores: Array, labels: Array) -> float:
    return float((scores.argmax(axis=1) == labels).mean())


def _picture(images: Array, labels: Array) -> Text:
    """Draw digits side by side in half-block characters, two pixels per character, with labels."""
    from rich.style import Style
    from rich.text import Text

    def shade(pixel: int) -> str:
        level = 235 + min(20, int(pixel) * 20 // 16)  # the gray ramp of 256-color terminals
        return f"color({level})"

    text = Text()
    for row in range(0, images.shape[1], 2):
        text.append("  ")
        for image in images:
            for upper, lower in zip(image[row], image[row + 1], strict=True):
                text.append("▀", Style(color=shade(upper), bgcolor=shade(lower)))
            text.append(" ")
        text.append("\n")
    text.append("  " + "".join(f"{label:^8} " for label in labels), "bold")
    return text
