"""Progress over images: a bar on a terminal, a line every few seconds elsewhere, every line if verbose, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .session import Session

INTERVAL = 5.0
"""Seconds between two lines off a terminal."""
Report = Callable[[int, int, dict[str, int]], None]


@contextmanager
def image_progress(console: Any, session: Session, label: str = "", *, unit: str = "images") -> Iterator[Report | None]:
    """What to call with images done, images in all, and images per verdict; None if quiet.

    Args:
        console: where to show it.
        session: whether to.
        label: what is being done, if it is not the only thing.
        unit: what is counted.
    """
    if session.quiet:
        yield None
    elif console.is_interactive and not session.verbose:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn(label),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=None, counts="")

            def update(done: int, total: int, counts: dict[str, int]) -> None:
                finished, whole = _parts(done, total, counts)
                bar.update(task, completed=finished, total=whole, counts=_counts(counts).removeprefix(": "))

            yield update
    else:
        yield _lines(console, f"{label}: " if label else "", 0.0 if session.verbose else INTERVAL, unit)


def _lines(console: Any, label: str, interval: float, unit: str) -> Report:
    begun = last = time.monotonic()

    def report(done: int, total: int, counts: dict[str, int]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= interval:
            last = now
            finished, whole = _parts(done, total, counts)
            left = (now - begun) * (whole - finished) / max(finished, 1)
            rest = f"; about {left:.0f} s left" if 0 < finished < whole else ""
            console.print(f"{label}{done}/{total} {unit}{_counts(counts)}{rest}", soft_wrap=True)

    return report


def _parts(done: int, total: int, counts: Mapping[str, int]) -> tuple[int, int]:
    """What is done, and the whole: radii where they are counted, since images are all done at the very end."""
    tried, left = counts.get("radii tried", 0), counts.get("radii left", 0)
    return (tried, tried + left) if tried else (done, total)


def _counts(counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)
    return f": {shown}" if shown else ""
