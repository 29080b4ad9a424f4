"""How a run shows where it is: a bar per size class in a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import logging
import os
from collections import deque
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, TextIO

from model.status import SizeClass
from pipeline.report import human_bytes, human_count, human_seconds

LOG_EVERY_S = 10.0
RATE_WINDOW_S = 30.0
_LOGGER = logging.getLogger("s3ferry.progress")


class ClassProgress(NamedTuple):
    """One size class so far: rows that ended, bytes copied, rows that failed; `total` rows where it is known."""

    size_class: SizeClass
    objects: int
    object_bytes: int
    failures: int = 0
    total: int | None = None


class ProgressSnapshot(NamedTuple):
    """The run at `at_s` (any clock in seconds that never goes back). `rows` ended of `rows_total`, if that is known.

    `rows` counts all rows, those without a size class too (skipped, excluded).
    """

    at_s: float
    rows: int
    rows_total: int | None
    classes: tuple[ClassProgress, ...] = ()

    @property
    def failures(self) -> int:
        return sum(one.failures for one in self.classes)

    @property
    def object_bytes(self) -> int:
        return sum(one.object_bytes for one in self.classes)


def eta_seconds(done: int, total: int | None, per_s: float) -> float | None:
    """Seconds until `total` at this rate; None while the total or the rate is unknown, 0 when all is done."""
    if total is None:
        return None
    if done >= total:
        return 0.0
    return (total - done) / per_s if per_s > 0 else None


class Rate:
    """Rate of a growing count over the last `window_s` seconds. Fed and read from one thread."""

    def __init__(self, window_s: float = RATE_WINDOW_S) -> None:
        self._window_s = window_s
        self._points: deque[tuple[float, int]] = deque()

    def add(self, at_s: float, count: int) -> None:
        """Takes the count at one moment; moments must not go back."""
        self._points.append((at_s, count))
        # The newest point outside the window stays, so that the rate always spans it whole.
        while len(self._points) > 2 and self._points[1][0] <= at_s - self._window_s:
            self._points.popleft()

    @property
    def per_s(self) -> float:
        """Units per second; 0 until two moments are known."""
        if len(self._points) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._points[0], self._points[-1]
        return max(0.0, (last - first) / (last_s - first_s)) if last_s > first_s else 0.0


class _Rates:
    """Rates of the run and of each class."""

    def __init__(self) -> None:
        self.rows = Rate()
        self.bytes = Rate()
        self.of_class: dict[SizeClass, Rate] = {}

    def add(self, snapshot: ProgressSnapshot) -> None:
        self.rows.add(snapshot.at_s, snapshot.rows)
        self.bytes.add(snapshot.at_s, snapshot.object_bytes)
        for one in snapshot.classes:
            self.of_class.setdefault(one.size_class, Rate()).add(snapshot.at_s, one.objects)


def progress_line(snapshot: ProgressSnapshot, rows_per_s: float, bytes_per_s: float) -> str:
    """One line for a log: rows, each class, failures, rates, ETA."""
    rows = human_count(snapshot.rows)
    if snapshot.rows_total is not None:
        share = snapshot.rows / snapshot.rows_total if snapshot.rows_total else 1.0
        rows += f" of {human_count(snapshot.rows_total)} ({share:.0%})".replace("%", " %")
    classes = ", ".join(
        f"{one.size_class} {human_count(one.objects)}"
        + (f"/{human_count(one.total)}" if one.total is not None else "")
        + f" ({human_bytes(one.object_bytes)})"
        for one in snapshot.classes
    )
    parts = [
        f"{rows} rows",
        classes,
        f"{human_count(snapshot.failures)} failed",
        f"{rows_per_s:.1f} objects/s, {bytes_per_s / 1e6:.1f} MB/s",
        _eta_text(eta_seconds(snapshot.rows, snapshot.rows_total, rows_per_s)),
    ]
    return "; ".join(part for part in parts if part)


def _eta_text(seconds: float | None) -> str:
    return f"ETA {human_seconds(seconds)}" if seconds is not None else ""


class Line(NamedTuple):
    """The figures of one bar: rows done, of how many (None: unknown), bytes copied, rows failed."""

    done: int
    total: int | None
    object_bytes: int
    failures: int


def bar_text(line: Line, per_s: float) -> str:
    """The figures beside a bar: done/total, bytes, objects/s, failures, ETA."""
    total = f"/{human_count(line.total)}" if line.total is not None else ""
    parts = [
        human_count(line.done) + total,
        human_bytes(line.object_bytes),
        f"{per_s:.1f}/s",
        f"{human_count(line.failures)} failed",
        _eta_text(eta_seconds(line.done, line.total, per_s)),
    ]
    return "  ".join(part for part in parts if part)


class Progress(Protocol):
    """Shows a run. A context manager; `update` may be called as often as there is news, from one thread."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, snapshot: ProgressSnapshot) -> None:
        """Shows `snapshot`."""


class LogProgress:
    """A line in the log at most every `every_s` seconds, and the last state at the end."""

    def __init__(self, every_s: float = LOG_EVERY_S, logger: logging.Logger = _LOGGER) -> None:
        self._every_s = every_s
        self._logger = logger
        self._rates = _Rates()
        self._logged_s: float | None = None
        self._waiting: ProgressSnapshot | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._waiting is not None:
            self._log(self._waiting)

    def update(self, snapshot: ProgressSnapshot) -> None:
        """Logs `snapshot` if the last line is old enough, else keeps it for the end."""
        self._rates.add(snapshot)
        self._waiting = snapshot
        if self._logged_s is None or snapshot.at_s - self._logged_s >= self._every_s:
            self._log(snapshot)

    def _log(self, snapshot: ProgressSnapshot) -> None:
        self._logged_s = snapshot.at_s
        self._waiting = None
        self._logger.info("%s", progress_line(snapshot, self._rates.rows.per_s, self._rates.bytes.per_s))


class TerminalProgress:
    """A bar for all rows and one for each size class seen, at the bottom of the terminal."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console  # noqa: PLC0415 (not needed for start-up)
        from rich.progress import BarColumn, TextColumn  # noqa: PLC0415
        from rich.progress import Progress as Bars  # noqa: PLC0415

        # Without a file of its own the console follows sys.stderr, which rich redirects above the bars.
        console = Console(stderr=True) if stream.isatty() else Console(file=stream, force_terminal=True)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}"),
            console=console,
            refresh_per_second=4,
            expand=True,
        )
        self._rates = _Rates()
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def update(self, snapshot: ProgressSnapshot) -> None:
        """Redraws the bars."""
        self._rates.add(snapshot)
        everything = Line(snapshot.rows, snapshot.rows_total, snapshot.object_bytes, snapshot.failures)
        self._draw("all", everything, self._rates.rows.per_s)
        for one in snapshot.classes:
            line = Line(one.objects, one.total, one.object_bytes, one.failures)
            self._draw(one.size_class, line, self._rates.of_class[one.size_class].per_s)

    def _draw(self, name: str, line: Line, per_s: float) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None, text="")
        self._bars.update(self._tasks[name], completed=line.done, total=line.total, text=bar_text(line, per_s))


def open_progress(stream: TextIO) -> Progress:
    """The bars if `stream` (standard error) is a terminal that can draw them, else log lines."""
    draws = stream.isatty() and os.environ.get("TERM") != "dumb"
    return TerminalProgress(stream) if draws else LogProgress()
