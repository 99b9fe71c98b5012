"""Plots of benches: bars of backends, lines of a sweep, measured times beside the roofline."""

from __future__ import annotations

import io
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lgir.benchmarking.rendering import duration, si
from lgir.benchmarking.roofline_report import RooflineReport
from lgir.benchmarking.scaling_report import SweepReport
from lgir.benchmarking.throughput_report import BenchReport
from lgir.errors import BackendError, FormatError
from lgir.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS: Final = ("png", "svg", "pdf")
_BLUE, _ORANGE, _GRAY = "#4477aa", "#ee7733", "#666666"


def check_plot(path: str | PathLike[str]) -> None:
    """Raise an error if `save_plot` could not draw to `path`; call it before minutes of measuring.

    Raises:
        BackendError: matplotlib is not installed.
        FormatError: the ending of `path` is not that of a supported format.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise BackendError("plots need matplotlib: pip install 'lgir[plot]'") from None
    if Path(path).suffix.removeprefix(".").lower() not in FORMATS:
        raise FormatError(f"cannot plot to {path}: its name must end in .{', .'.join(FORMATS)}")


def save_plot(
    report: BenchReport | SweepReport | RooflineReport, path: str | PathLike[str]
) -> None:
    """Draw a report to a .png, .svg or .pdf file; an old file is replaced in one step.

    Raises the errors of `check_plot`, and FormatError if the file cannot be written.
    """
    check_plot(path)
    from matplotlib.figure import Figure

    sweep = isinstance(report, SweepReport)
    figure = Figure(figsize=(10 if sweep else 7, 4), dpi=150, layout="constrained")
    if isinstance(report, SweepReport):
        _sweep(figure, report)
    elif isinstance(report, RooflineReport):
        _roofline(figure, report)
    else:
        _bars(figure, report)
    data = io.BytesIO()
    figure.savefig(data, format=Path(path).suffix.removeprefix(".").lower())
    write_atomically(path, data.getvalue())


def _bars(figure: Figure, report: BenchReport) -> None:
    rows = report.rows[::-1]  # matplotlib draws the first bar at the bottom
    axes = figure.add_subplot()
    values = [row.samples_per_second for row in rows]
    bars = axes.barh([row.backend for row in rows], values, color=_BLUE, height=0.6)
    axes.bar_label(bars, labels=[si(v) for v in values], padding=4)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 4, max(values) * 4)
    axes.xaxis.set_major_formatter(lambda x, _: si(x))
    axes.set_xlabel("samples/s, end to end (log scale)")
    _finish(figure, axes, report)


def _sweep(figure: Figure, report: SweepReport) -> None:
    speed, right = figure.subplots(1, 2)
    by_width = report.axis == "width"
    for backend, points in report.by_backend().items():
        sizes = [p.size for p in points]
        speed.plot(sizes, [p.samples_per_second for p in points], marker="o", label=backend)
        other = [p.gate_evals_per_second if by_width else p.seconds for p in points]
        right.plot(sizes, other, marker="o", label=backend)
    for axes, label in (
        (speed, "samples/s"),
        (right, "gate-evals/s" if by_width else "time per call"),
    ):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sorted({p.size for p in report.points}))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        axes.set_xlabel("samples per call" if report.axis == "batch" else report.axis)
        axes.set_title(label, loc="left", fontsize=10)
    speed.yaxis.set_major_formatter(lambda y, _: si(y))
    right.yaxis.set_major_formatter(lambda y, _: si(y) if by_width else duration(y))
    speed.legend(frameon=False)
    _finish(figure, speed, report)
    _finish(figure, right, report)


def _roofline(figure: Figure, report: RooflineReport) -> None:
    kinds = report.kinds[::-1]
    axes = figure.add_subplot()
    positions = range(len(kinds))
    measured = [1e6 * kind.seconds for kind in kinds]
    bars = axes.barh(
        [i + 0.2 for i in positions], measured, height=0.36, color=_BLUE, label="measured"
    )
    axes.bar_label(bars, labels=[f"{x:,.1f}" for x in measured], padding=4)
    bounds = [1e6 * kind.bound for kind in kinds]
    bars = axes.barh(
        [i - 0.2 for i in positions], bounds, height=0.36, color=_ORANGE, label="bound"
    )
    labels = [f"{x:,.1f} by {kind.bound_by}" for x, kind in zip(bounds, kinds, strict=True)]
    axes.bar_label(bars, labels=labels, padding=4)
    axes.set_yticks(list(positions), [kind.kind for kind in kinds])
    axes.set_xlim(0, 1.25 * max(measured + bounds))
    axes.set_xlabel("us for 512 samples")
    axes.legend(frameon=False, loc="best")
    _finish(figure, axes, report)


def _finish(figure: Figure, axes: Any, report: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    swept = isinstance(report, SweepReport)
    title = report.title if swept else f"{report.name}: {report.gates:,} gates per sample"
    figure.suptitle(title, x=0.01, ha="left")
    figure.supxlabel(report.environment["cpu"], fontsize=7, color=_GRAY, x=0.99, ha="right")
