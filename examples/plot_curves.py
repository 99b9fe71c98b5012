"""Draw training curves that `--curve` of the training examples wrote.

    python examples/plot_curves.py training.svg cifar10-s=docs/models/cifar10-s.jsonl ...

A panel per network shows the accuracy on the test images with soft gates and with hard ones, which
is what the compiled network has, over the steps of training.
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.ticker import PercentFormatter


def main(output: str, *curves: str) -> None:
    """Draw the curves NAME=FILE side by side, and write the picture."""
    plt.rcParams["svg.hashsalt"] = "lgir"  # equal curves give equal files
    figure, panels = plt.subplots(1, len(curves), figsize=(5 * len(curves), 3.5), squeeze=False)
    for panel, curve in zip(panels[0], curves, strict=True):
        name, _, path = curve.partition("=")
        points = [json.loads(line) for line in Path(path).read_text().splitlines()]
        steps = [point["step"] for point in points]
        for key, label in (("soft", "soft gates"), ("discrete", "hard gates")):
            panel.plot(steps, [point[key] for point in points], marker=".", label=label)
        panel.set_title(name)
        panel.set_xlabel("step")
        panel.set_ylabel("test accuracy")
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
        panel.grid(alpha=0.3)
        panel.legend()
    figure.tight_layout()
    figure.savefig(output, metadata={"Date": None} if output.endswith(".svg") else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
