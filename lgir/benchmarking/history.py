"""A history of benches: one JSON line per run, with its date and environment."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lgir.benchmarking.rendering import plain_text, si, titled_table
from lgir.errors import FormatError
from lgir.files import check_writable

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class HistoryPoint:
    """One figure of a series, and the software that it was measured with."""

    date: datetime
    samples_per_second: float
    software: str


@dataclass(frozen=True)
class HistorySeries:
    """The figures of one backend on one network, processor and number of threads, by date."""

    name: str
    backend: str
    cpu: str
    threads: int
    points: tuple[HistoryPoint, ...]


@dataclass(frozen=True)
class History:
    """A history of benches: `print(history)` shows a table, `to_dict()` is for JSON.

    Attributes:
        path: the file that it was read from.
        series: in the order of their first figure.
        others: number of lines of the file that are sweeps and rooflines, which it leaves out.
    """

    path: str
    series: tuple[HistorySeries, ...]
    others: int

    @property
    def title(self) -> str:
        """The title of tables and plots."""
        figures = sum(len(series.points) for series in self.series)
        left_out = f", {self.others} sweeps and rooflines left out" if self.others else ""
        return f"{Path(self.path).name}: {figures} figures{left_out}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return {
            "path": self.path,
            "series": [
                {
                    "name": series.name,
                    "backend": series.backend,
                    "cpu": series.cpu,
                    "threads": series.threads,
                    "points": [
                        {
                            "date": point.date.isoformat(),
                            "samples_per_second": point.samples_per_second,
                            "software": point.software,
                        }
                        for point in series.points
                    ],
                }
                for series in self.series
            ],
        }

    def __rich__(self) -> Table:
        table = titled_table(self.title)
        for name in (" network", "backend", "threads", "date (UTC)"):
            table.add_column(name)
        table.add_column("samples/s", justify="right")
        table.add_column("of the\none before", justify="right")
        several = len({series.cpu for series in self.series}) > 1
        if several:
            table.add_column("processor")
        for series in self.series:
            before = None
            for point in series.points:
                speed = point.samples_per_second
                ratio = "" if before is None else f"{speed / before:.2f}x"
                head = (f" {series.name}", series.backend, str(series.threads))
                cells = [*(head if before is None else ("", "", ""))]
                cells += [point.date.strftime("%Y-%m-%d %H:%M"), si(speed), ratio]
                table.add_row(*cells, *([series.cpu] if several else []))
                before = speed
        return table

    def __str__(self) -> str:
        return plain_text(self)


def read_history(path: str | PathLike[str]) -> History:
    """Read the benches of a file that `append_history` wrote.

    Raises FormatError if it cannot be read, or a line is not the figures of a bench.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise FormatError(f"cannot read {path}: {reason}") from None
    points: dict[tuple[str, str, str, int], list[HistoryPoint]] = {}
    others = 0
    for number, line in enumerate(lines, start=1):
        try:
            run = json.loads(line)
            if "rows" not in run:
                others += 1
                continue
            environment = run["environment"]
            for row in run["rows"]:
                key = run["name"], row["backend"], environment["cpu"], int(run["threads"])
                point = HistoryPoint(
                    datetime.fromisoformat(run["date"]),
                    float(row["samples_per_second"]),
                    environment["software"],
                )
                points.setdefault(key, []).append(point)
        except (ValueError, KeyError, TypeError) as error:
            kind = f"{type(error).__name__}: {error}"
            raise FormatError(
                f"{path}, line {number}: not the figures of a bench ({kind})"
            ) from None
    series = [
        HistorySeries(*key, tuple(sorted(of, key=lambda point: point.date)))
        for key, of in points.items()
    ]
    return History(str(path), tuple(series), others)


_MOST_LINE_BYTES: Final = 1 << 20
"""More than the line of any run has."""


def check_history(path: str | PathLike[str]) -> None:
    """Raise FormatError if `append_history` could not append JSON lines to `path`.

    Call it before minutes of measuring.
    """
    if not os.path.lexists(path):
        check_writable(path)
        return
    file = _open(path, os.O_RDWR)
    try:
        if os.read(file, 1) not in (b"", b"{"):
            raise FormatError(f"{path}: no history of benches, which has lines of JSON; it is kept")
        _line_end(file, path)
    finally:
        os.close(file)


def append_history(path: str | PathLike[str], report: Mapping[str, Any]) -> None:
    """Append the dict of a report to a .jsonl file, which may be new, with the date (UTC) first.

    The line is written by one system call, so that lines of runs that append at the same time do
    not mix. If the last line of the file is whole but not ended, it is ended first.

    Raises:
        FormatError: the line cannot be written, or the last line of the file is torn, since a run
            was killed or the disk was full. What was written of the new line is taken back if
            nobody has appended another one since.
    """
    date = datetime.now(UTC).isoformat(timespec="seconds")
    line = (json.dumps({"date": date, **report}) + "\n").encode()
    file = _open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        line = _line_end(file, path) + line
        size = os.fstat(file).st_size
        written = os.write(file, line)
        if written != len(line):
            if os.fstat(file).st_size == size + written:
                os.ftruncate(file, size)
            raise FormatError(f"cannot write {path}: only {written} of {len(line)} bytes fit")
    except OSError as error:
        raise FormatError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        os.close(file)


def _line_end(file: int, path: str | PathLike[str]) -> bytes:
    """Return what ends the last line of a history: nothing, or a line feed if it lacks one.

    Raises:
        FormatError: the last line is torn.
    """
    size = os.fstat(file).st_size
    start = max(0, size - _MOST_LINE_BYTES)
    os.lseek(file, start, os.SEEK_SET)
    _, _, last = os.read(file, size - start).rpartition(b"\n")
    if not last:
        return b""
    try:
        json.loads(last)
    except (ValueError, RecursionError):
        raise FormatError(
            f"{path}: its last line is torn, as if a run was killed or the disk was full; remove "
            "that line"
        ) from None
    return b"\n"


def _open(path: str | PathLike[str], flags: int) -> int:
    """Return the descriptor of a regular file; raise FormatError for anything else."""
    # Opening a pipe that nobody reads would wait for ever.
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        file = os.open(path, flags, 0o666)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"cannot write {path}: {reason}") from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FormatError(f"cannot write {path}: it is not a regular file")
    return file
