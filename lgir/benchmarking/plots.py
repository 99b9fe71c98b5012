"""Plots of benches: bars of backends, lines of a sweep, a roofline with its points, a history.

A backend has the same color in every plot (the palette "bright" of Paul Tol, safe for color blind
readers).
"""

from __future__ import annotations

import io
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lgir.benchmarking.history import History
from lgir.benchmarking.rendering import duration, si, spell_speed_up
from lgir.benchmarking.roofline_report import RooflineReport
from lgir.benchmarking.scaling_report import SweepReport
from lgir.benchmarking.throughput_report import BenchReport
from lgir.errors import BackendError, FormatError
from lgir.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS: Final = ("png", "svg", "pdf")
_COLORS: Final = {
    "llvm": "#4477aa",
    "pytorch": "#ee6677",
    "cuda": "#228833",
    "c": "#ccbb44",
    "c-O1": "#ddcc77",
    "c-O3": "#aa9922",
    "onnxruntime": "#66ccee",
    "torch-compile": "#aa3377",
    "reference": "#999999",
}
_DISTINCT: Final = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#666666")
_OTHER_COLORS: Final = ("#332288", "#88ccee", "#44aa99", "#117733", "#882255")
_GRAY: Final = "#666666"


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
    report: BenchReport | SweepReport | RooflineReport | History, path: str | PathLike[str]
) -> None:
    """Draw a report to a .png, .svg or .pdf file; an old file is replaced in one step.

    Raises the errors of `check_plot`, and FormatError if the file cannot be written.
    """
    check_plot(path)
    from matplotlib.figure import Figure

    sweep = isinstance(report, SweepReport)
    figure = Figure(figsize=(10 if sweep else 7.5, 4.5), dpi=150, layout="constrained")
    if isinstance(report, SweepReport):
        _sweep(figure, report)
    elif isinstance(report, RooflineReport):
        _roofline(figure, report)
    elif isinstance(report, History):
        _history(figure, report)
    else:
        _bars(figure, report)
    data = io.BytesIO()
    figure.savefig(data, format=Path(path).suffix.removeprefix(".").lower())
    write_atomically(path, data.getvalue())


def _bars(figure: Figure, report: BenchReport) -> None:
    rows = report.rows[::-1]  # matplotlib draws the first bar at the bottom
    axes = figure.add_subplot()
    values = [row.samples_per_second for row in rows]
    names = [row.backend for row in rows]
    bars = axes.barh(names, values, color=[color(name) for name in names], height=0.6)
    speed_ups = [report.speed_up(row) for row in rows]
    labels = [
        si(value) if speed_up is None else f"{si(value)}  ({spell_speed_up(speed_up)})"
        for value, speed_up in zip(values, speed_ups, strict=True)
    ]
    axes.bar_label(bars, labels=labels, padding=4)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 4, max(values) * (30 if any(speed_ups) else 8))
    axes.xaxis.set_major_formatter(lambda x, _: si(x))
    axes.set_xlabel("samples/s, end to end (log scale)")
    _finish(figure, axes, report)


def _sweep(figure: Figure, report: SweepReport) -> None:
    speed, right = figure.subplots(1, 2)
    by_width = report.axis == "width"
    for backend, points in report.by_backend().items():
        sizes = [p.size for p in points]
        line = {"marker": "o", "label": backend, "color": color(backend)}
        speed.plot(sizes, [p.samples_per_second for p in points], **line)
        other = [p.gate_evals_per_second if by_width else p.seconds for p in points]
        right.plot(sizes, other, **line)
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
    """Draw roofs by the level of the memory hierarchy, and a point per kind of step below them.

    All bytes that instructions load and store count, whichever level they come from (the
    cache-aware roofline: Ilic, Pratas, Sousa, IEEE CAL 2014). A kind lies on the roof of a level if
    it waits for that level alone.
    """
    axes = figure.add_subplot()
    machine = report.machine
    points = [kind for kind in report.kinds if kind.logic and kind.bytes]
    intensities = [kind.logic / kind.bytes for kind in points]
    ridge = machine.logic / min(level.peak for level in machine.levels)
    low, high = 0.3 * min([*intensities, ridge / 8]), 3 * max([*intensities, ridge])
    for level, style in zip(machine.levels, ("-", "--", "-.", ":", ":"), strict=False):
        corner = machine.logic / level.peak
        axes.plot([low, corner], [low * level.peak, machine.logic], style, color=_GRAY, lw=1.2)
        axes.annotate(
            f"{level.name}, {si(level.peak)}B/s",
            (low * 1.1, low * 1.1 * level.peak),
            fontsize=8,
            color=_GRAY,
            va="top" if level is machine.levels[-1] else "bottom",
        )
    top = machine.logic
    axes.plot([machine.logic / machine.levels[0].peak, high], [top, top], "-", color=_GRAY, lw=1.2)
    axes.annotate(
        f"logic, {si(top)} instructions/s", (high, top), fontsize=8, color=_GRAY, ha="right",
        va="bottom",
    )  # fmt: skip
    for i, (kind, intensity) in enumerate(zip(points, intensities, strict=True)):
        rate = kind.logic / kind.seconds
        axes.plot(
            intensity,
            rate,
            "o",
            ms=8,
            color=_DISTINCT[i % len(_DISTINCT)],
            label=f"{kind.kind}: {1e6 * kind.seconds:,.2f} us, {kind.share:.0%} of its bound",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.yaxis.set_major_formatter(lambda y, _: si(y))
    axes.set_xlabel("instructions on 512 bits per byte loaded or stored")
    axes.set_ylabel("instructions/s on one thread")
    axes.grid(which="major", alpha=0.25)
    axes.legend(title="time of 512 samples", fontsize=8, title_fontsize=8, loc="lower right")
    _finish(figure, axes, report)


def _history(figure: Figure, history: History) -> None:
    axes = figure.add_subplot()
    markers = "osD^vP*X"
    names = list(dict.fromkeys(series.name for series in history.series))
    for series in history.series:
        axes.plot(
            np.array([point.date.replace(tzinfo=None) for point in series.points], "datetime64[s]"),
            [point.samples_per_second for point in series.points],
            marker=markers[names.index(series.name) % len(markers)],
            color=color(series.backend),
            label=f"{series.name}, {series.backend}",
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda y, _: si(y))
    axes.set_ylabel("samples/s")
    axes.set_xlabel("date (UTC)")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.autofmt_xdate()
    figure.suptitle(history.title, x=0.01, ha="left")


def color(backend: str) -> str:
    """Return the color of a backend, which is the same in every plot."""
    if backend in _COLORS:
        return _COLORS[backend]
    return _OTHER_COLORS[sum(backend.encode()) % len(_OTHER_COLORS)]


def _finish(figure: Figure, axes: Any, report: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    swept = isinstance(report, SweepReport)
    title = report.title if swept else f"{report.name}: {report.gates:,} gates per sample"
    figure.suptitle(title, x=0.01, ha="left")
    figure.supxlabel(report.environment["cpu"], fontsize=7, color=_GRAY, x=0.99, ha="right")
