"""What a person sees while a network is trained: a live line on a terminal, a line every few seconds elsewhere.

The loop calls ``start`` once, ``update`` after every generation and ``finish`` once; whoever made the progress object
leaves its context when the loop ends, however it ends, and that gives the terminal back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_INTERVAL = 5.0  # seconds between two lines off a terminal
_LONG = 2.0  # seconds of a generation from which on its own time is shown
_HEADLINE = ("problem", "searcher", "method", "eps", "parameters", "generations", "popsize", "seed", "device")


class Progress(Protocol):
    """What the training loop reports to."""

    def start(self, plan: Mapping[str, Any]) -> None:
        """Training begins.

        Args:
            plan: what ``gls_es.training.plan`` makes, and the number of generations that are done.
        """

    def update(self, row: Mapping[str, Any]) -> None:
        """A generation is done.

        Args:
            row: generation, generations, eps, mean_loss, elapsed_seconds, eta_seconds, seconds_each (mean time of a
                generation), lr, stdev, nonfinite; sometimes natural_accuracy and certified_accuracy (fractions). A key
                may be missing or None.
        """

    def note(self, text: str) -> None:
        """Something that a person should know now, in a sentence; it may come from a signal handler."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Training has ended by itself, with what there is to say of the whole."""


class _Context:
    """Entering and leaving, with nothing to give back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class NullProgress(_Context):
    """Says nothing."""

    def start(self, plan: Mapping[str, Any]) -> None:
        """Nothing."""

    def update(self, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Nothing."""


class PlainProgress(_Context):
    """A line at most every ``interval`` seconds, and for the first and the last generation.

    Args:
        stream: where to write.
        interval: seconds between two lines.
    """

    def __init__(self, stream: TextIO, *, interval: float = _INTERVAL) -> None:
        self._stream = stream
        self._interval = interval
        self._last = -float("inf")
        self._known: dict[str, Any] = {}

    def start(self, plan: Mapping[str, Any]) -> None:
        """Say what is trained, and that the first generation is under way: it may take long."""
        self._write(headline(plan))
        begun, total = plan.get("generation", 0) + 1, plan.get("generations")
        if total is None or begun <= total:
            self._write(f"{position(begun, total)} has begun")

    def update(self, row: Mapping[str, Any]) -> None:
        """Write the generation's line if it is time for one."""
        _remember(self._known, row)
        now = time.monotonic()
        if now - self._last >= self._interval or row.get("generation") == row.get("generations"):
            self._last = now
            self._write(", ".join(describe(self._known)))

    def note(self, text: str) -> None:
        """Write it on a line of its own."""
        self._write(text)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Say how it ended."""
        self._write(ending(summary))

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class RichProgress(_Context):
    """One live line: a bar, the generation, ε, losses, accuracies, the time left, the time since the last generation.

    Args:
        console: a terminal's console.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._known: dict[str, Any] = {}
        self._since = time.monotonic()
        self._live = Live(console=console, refresh_per_second=8, transient=True, get_renderable=self._line)

    def start(self, plan: Mapping[str, Any]) -> None:
        """Say what is trained, and begin the live line."""
        self._console.print(Text(headline(plan)))
        self._known = {"generation": plan.get("generation", 0), "generations": plan.get("generations")}
        self._since = time.monotonic()
        self._live.start()

    def update(self, row: Mapping[str, Any]) -> None:
        """Show the generation."""
        _remember(self._known, row)
        self._since = time.monotonic()

    def note(self, text: str) -> None:
        """Print it above the live line."""
        self._console.print(Text(text))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Replace the live line by how it ended."""
        self._live.stop()
        self._console.print(Text(ending(summary)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _line(self) -> Table:
        total = self._known.get("generations") or None
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=total, completed=self._known.get("generation") or 0, width=12)
        parts = describe(self._known)
        waiting = time.monotonic() - self._since
        if waiting >= _LONG:
            parts.append(f"next for {duration(waiting)}")
        line.add_row(bar, Text("  ".join(parts)))
        return line


def make_progress(
    console: Console, *, quiet: bool = False, verbose: bool = False
) -> NullProgress | PlainProgress | RichProgress:
    """The progress that fits: none if quiet, a line for every generation if verbose, live on a terminal, else lines."""
    if quiet:
        return NullProgress()
    if console.is_interactive and not verbose:
        return RichProgress(console)
    interval = 0.0 if verbose else _INTERVAL
    return PlainProgress(console.file, interval=interval)  # type: ignore[arg-type]  # rich types its file as IO[str]


def headline(plan: Mapping[str, Any]) -> str:
    """What of the plan a person wants to see first, in one line."""
    return "training: " + ", ".join(f"{key} {_number(plan[key])}" for key in _HEADLINE if plan.get(key) is not None)


def describe(row: Mapping[str, Any]) -> list[str]:
    """The parts of a row that are known, as short texts in a fixed order."""
    parts = [position(row.get("generation", "?"), row.get("generations"))]
    if row.get("eta_seconds") is not None:
        parts.append(f"{duration(float(row['eta_seconds']))} left")
    if (row.get("seconds_each") or 0.0) >= _LONG:
        parts.append(f"{duration(float(row['seconds_each']))} each")
    for key, name in (("eps", "eps"), ("mean_loss", "loss")):
        if row.get(key) is not None:
            parts.append(f"{name} {_number(float(row[key]))}")
    for key, name in (("natural_accuracy", "natural"), ("certified_accuracy", "certified")):
        if row.get(key) is not None:
            parts.append(f"{name} {100 * float(row[key]):.1f} %")
    if row.get("nonfinite"):
        parts.append(f"{row['nonfinite']} losses not finite")
    return parts


def position(generation: object, generations: object) -> str:
    """Which generation it is, of how many, if that is known."""
    return f"generation {generation}" + (f"/{generations}" if generations else "")


def ending(summary: Mapping[str, Any]) -> str:
    """The summary in one line."""
    parts = []
    if summary.get("generations") is not None:
        parts.append(f"{summary['generations']} generations")
    for key, name in (("natural_accuracy", "natural"), ("certified_accuracy", "certified")):
        if summary.get(key) is not None:
            estimate = " (estimate)" if name == "certified" else ""
            parts.append(f"{name} accuracy {100 * float(summary[key]):.1f} %{estimate}")
    if summary.get("elapsed_seconds") is not None:
        parts.append(f"in {duration(float(summary['elapsed_seconds']))}")
    begun = "already trained" if summary.get("already") else "trained"
    return f"{begun}: " + ", ".join(parts) if parts else begun


def duration(seconds: float) -> str:
    """Seconds as 12 s, 3:07 or 2:03:07; "?" where they are no number."""
    if not 0 <= seconds < float("inf"):
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def _remember(known: dict[str, Any], row: Mapping[str, Any]) -> None:
    """Keep the latest of every value: accuracies and the center's loss come only now and then."""
    known.update({key: value for key, value in row.items() if value is not None})


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
