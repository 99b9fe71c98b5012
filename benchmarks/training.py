"""A training step with the multilinear form against plain implementations that form all 16
operations of every gate: time and peak memory, side by side in one run, equal losses checked.

    python benchmarks/training.py [--layers 6] [--width 8000] [--batch 128] [--steps 5]
    python benchmarks/training.py --convolutional

`stacked` forms (batch, gates, 16) results and weighs them; `accumulated` adds the 16 weighted
results one after another, as difflogic's Python implementation does. With --convolutional the
network is the LogicTreeNet S of CIFAR-10, and `torch` runs the multilinear form by torch's own
operators, with four maps per pooled one. Every implementation runs in
a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lgir.frontend.kernels import multilinear
from lgir.frontend.layers import GroupSum, LogicDense
from lgir.frontend.training.loop import keep_freed_memory
from lgir.frontend.training.models import CIFAR10_SIZES, cifar10_net

NAMES = ("lgir", "stacked", "accumulated", "torch")


def operations(a: Tensor, b: Tensor) -> list[Tensor]:
    """The 16 operations on real-valued bits, in difflogic's order."""
    ab = a * b
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    return [
        zero, ab, a - ab, a, b - ab, b, a + b - 2 * ab, a + b - ab,
        1 - (a + b - ab), 1 - (a + b - 2 * ab), 1 - b, 1 - b + ab, 1 - a, 1 - a + ab, 1 - ab, one,
    ]  # fmt: skip


class Plain(nn.Module):
    """The gates of a LogicDense, computed the plain way."""

    def __init__(self, layer: LogicDense, stacked: bool) -> None:
        super().__init__()
        self.weight, self.stacked = layer.weight, stacked
        self.register_buffer("a", layer.indices[0].long())
        self.register_buffer("b", layer.indices[1].long())

    def forward(self, x: Tensor) -> Tensor:
        results = operations(x[:, self.a], x[:, self.b])
        weight = self.weight.softmax(-1)
        if self.stacked:
            return (torch.stack(results, dim=-1) * weight).sum(-1)
        total = torch.zeros_like(results[0])
        for i, result in enumerate(results):
            total = total + weight[:, i] * result
        return total


def network(name: str, layers: int, width: int) -> nn.Sequential:
    widths = [784] + [width] * layers
    dense = [LogicDense(a, b, seed=i) for i, (a, b) in enumerate(pairwise(widths))]
    stack = dense if name == "lgir" else [Plain(layer, name == "stacked") for layer in dense]
    return nn.Sequential(*stack, GroupSum(10, 30.0))


def peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Median seconds and peak bytes of a step, and the loss of the first."""
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    if options.convolutional:
        x = torch.randint(0, 32, (options.batch, 3, 32, 32), generator=generator).to(torch.uint8)
    else:
        x = torch.randint(0, 2, (options.batch, 784), generator=generator).float()
    x = x.to(options.device)
    y = torch.randint(0, 10, (options.batch,), generator=generator).to(options.device)
    if name == "torch":
        multilinear._cpu_kernels = multilinear._torch_kernels
    if options.convolutional:
        model: nn.Sequential = cifar10_net(CIFAR10_SIZES["S"], high=31)
    else:
        model = network(name, options.layers, options.width)
    model.to(options.device)
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=generator if options.device == "cpu" else None)
        parameter.grad = torch.zeros_like(parameter)
    before = peak_bytes(options.device)
    losses, times = [], []
    for _ in range(options.steps + 1):
        start = time.perf_counter()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        losses.append(loss.item())
        times.append(time.perf_counter() - start)
    return {
        "loss": losses[0],
        "seconds": float(np.median(times[1:])),
        "bytes": peak_bytes(options.device) - before,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--convolutional", action="store_true", help="LogicTreeNet S, CIFAR-10")
    parser.add_argument("--only", choices=NAMES, help="measure one and print it as JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options)))
        return 0
    rows = {}
    for name in ("lgir", "torch") if options.convolutional else NAMES[:3]:
        command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
        process = subprocess.run(command, capture_output=True, text=True, check=True)
        rows[name] = json.loads(process.stdout)
    net = "LogicTreeNet S" if options.convolutional else f"dense {options.layers} x {options.width}"
    title = f"{net}, batch {options.batch}, {options.device}"
    table = Table(title=title)
    for heading in ("implementation", "ms per step", "times lgir", "peak MB", "times lgir", "loss"):
        table.add_column(heading, justify="left" if heading == "implementation" else "right")
    ours = rows["lgir"]
    for name, row in rows.items():
        table.add_row(
            name,
            f"{1e3 * row['seconds']:.0f}",
            f"{row['seconds'] / ours['seconds']:.1f}",
            f"{row['bytes'] / 1e6:.0f}",
            f"{row['bytes'] / ours['bytes']:.1f}",
            f"{row['loss']:.5f}",
        )
    Console().print(table)
    return 0 if np.allclose([row["loss"] for row in rows.values()], ours["loss"], rtol=1e-4) else 1


if __name__ == "__main__":
    raise SystemExit(main())
