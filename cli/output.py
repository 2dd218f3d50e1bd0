"""Where text goes: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.table import Table

from .session import Session

_WIDTH = 10_000  # off a terminal, where rich would take 80: a row stays a line, whatever reads it
_EVOTORCH_LEVELS = {"1": logging.INFO, "2": logging.DEBUG}


def messages(session: Session) -> Console:
    """The console of standard error: progress, notes, warnings; it says nothing if the session is quiet."""
    return _console(stderr=True, quiet=session.quiet)


def note_reader(session: Session, compared: str) -> None:
    """Say so where an ONNX file's logits were compared by other means than onnxruntime."""
    if compared != "onnxruntime":
        text = f"note: onnxruntime is not installed, so the logits were compared with those of {compared}"
        messages(session).print(text, soft_wrap=True)


def note_left_out(session: Session, operator: str) -> None:
    """Say that a classifier's last operator was left out."""
    text = f"note: the last {operator} is left out; what is certified are the logits, whose order it keeps"
    messages(session).print(text, soft_wrap=True)


def note_unfinished(session: Session, where: str) -> None:
    """Say that the checkpoint is not of a run's end."""
    messages(session).print(f"note: this checkpoint is of {where}; training was not at its end", soft_wrap=True)


def show(*parts: RenderableType) -> None:
    """Print what a person asked to see on standard output: texts and tables."""
    console = _console(stderr=False, quiet=False)
    for part in parts:
        for column in part.columns if isinstance(part, Table) else ():
            column.overflow = "fold"  # a number whose end is cut off is another number
        console.print(part)


def plain_table(title: str | None = None) -> Table:
    """A table without lines, for results."""
    return Table(title=title, box=None, pad_edge=False, header_style="bold")


def _console(*, stderr: bool, quiet: bool) -> Console:
    plain: dict[str, Any] = {"stderr": stderr, "quiet": quiet, "highlight": False, "markup": False}
    if (sys.stderr if stderr else sys.stdout).isatty():
        return Console(**plain)
    width = os.environ.get("COLUMNS", "")
    # FORCE_COLOR asks for colours in a file, not for a live line that is drawn over and over.
    return Console(**plain, force_interactive=False, width=int(width) if width.isdecimal() else _WIDTH)


def print_json(table: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output; numbers that are not finite become null."""
    click.echo(json.dumps(_strict(table), allow_nan=False))


def percent(fraction: float | None) -> str:
    """A fraction as a percentage."""
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def radius(eps: float) -> str:
    """0.1, or 8/255 where that is shorter."""
    short = f"{eps:.3g}"
    steps = round(255 * eps)
    return f"{steps}/255" if float(short) != eps and abs(eps - steps / 255) < 1e-12 else f"{eps:.4g}"


def prepare_libraries(session: Session) -> None:
    """Send what libraries log to standard error, as much as the session asks for; call it before evotorch is imported.

    evotorch by itself logs to standard output, which belongs to results.
    """
    level = logging.ERROR if session.quiet else logging.INFO if session.verbose else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, format="%(name)s: %(message)s")
    asked = os.environ.get("EVOTORCH_VERBOSE_LEVEL", "")
    if asked in _EVOTORCH_LEVELS:
        logging.getLogger("evotorch").setLevel(_EVOTORCH_LEVELS[asked])
    os.environ["EVOTORCH_VERBOSE_LEVEL"] = "-1"
    # Under torch 2.14 importing evotorch 0.6.1 says so, which is nothing that a user of the command could act on.
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
