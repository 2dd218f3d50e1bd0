"""Where text goes: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console

_WIDTH = 110  # off a terminal, where rich would take 80 and break lines


def messages() -> Console:
    """The console of standard error: progress, notes, warnings."""
    return Console(stderr=True, highlight=False, markup=False)


def results() -> Console:
    """The console of standard output, for what a person asked to see."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=_WIDTH)


def print_json(table: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output; numbers that are not finite become null."""
    click.echo(json.dumps(_strict(table), allow_nan=False))


def percent(fraction: float | None) -> str:
    """A fraction as a percentage."""
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def prepare_libraries() -> None:
    """Keep evotorch and ray to themselves; call it before anything imports them."""
    os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
