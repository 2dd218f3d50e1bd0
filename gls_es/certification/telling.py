"""A certification in words: the table of a report as plain text, and lines while it runs."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from gls_es.basics.intervals import wilson_interval

INTERVAL = 5.0
"""Seconds between two lines of progress."""
_NAMES = {"natural_accuracy": "natural", "adversarial_accuracy": "adversarial", "certified_accuracy": "certified"}


def table_of(summary: Mapping[str, Any]) -> str:
    """What ``gls-es certify`` shows of one radius, as plain text.

    Args:
        summary: ``CertificationReport.to_json()``.
    """
    n, unknown = summary["n"], summary["unknown"]
    rows = [
        (name, summary[key], round(summary[key] * n), "95 %: {:.1%} to {:.1%}".format(*summary["intervals_95"][key]))
        for key, name in _NAMES.items()
    ]
    low, high = wilson_interval(unknown, n)
    rows.append(("unknown", unknown / n, unknown, f"95 %: {low:.1%} to {high:.1%}"))
    shown = [f"  {name:<12} {share:>7.1%}  {f'{count} of {n}':>16}   {note}" for name, share, count, note in rows]
    stages = [
        f"  {name:<12} {stage['seen']:>7} seen {stage['decided']:>8} decided {stage['seconds']:>9.2f} s"
        for name, stage in summary["stages"].items()
    ]
    ball = {"linf": "", "l2": " in L2"}[summary["norm"]] + ("" if summary["radii"] is None else " at most")
    head = f"{n} {'image' if n == 1 else 'images'}, eps {summary['eps']:.6g}{ball}, {summary['execution']}"
    return "\n".join([head, *shown, "stages", *stages])


def frame_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A table of pandas with a line for each of ``rows``."""
    pandas: Any = importlib.import_module("pandas")  # brought by EvoTorch; loads for a second
    return pandas.DataFrame(list(rows))


def line_teller(stream: TextIO | None = None, interval: float = INTERVAL) -> Callable[[int, int, dict[str, int]], None]:
    """What ``progress=True`` stands for: a line now and then, and one at the end.

    Args:
        stream: where to; None: standard error.
        interval: seconds between two lines.
    """
    begun = last = time.monotonic()

    def tell(done: int, total: int, counts: dict[str, int]) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < interval:
            return
        last = now
        known = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
        text = f"{done}/{total} images{': ' if known else ''}{known}; {now - begun:.0f} s\n"
        (sys.stderr if stream is None else stream).write(text)

    return tell
